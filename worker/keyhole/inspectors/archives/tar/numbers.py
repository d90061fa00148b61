r"""Numbers in a tar header, and the spellings that all readers read alike.

Source: POSIX.1-2017, pax, "ustar Interchange Format". It asks for octal digits with leading zeros, followed
by a NUL or a space. Every writer has its own spelling: libarchive writes `000644 \0`, Perl `     210560\0`.
The results of readers were measured, with GNU tar 1.34, libarchive 3.6.2, Python 3.11, Go 1.19, BusyBox
1.35, npm's tar 7 and tar-stream 3; `tests/inspectors/archives/test_numbers.py` measures them again.

| spelling | readers |
|---|---|
| spaces, digits; then spaces and NULs, or a NUL and anything | all read it |
| NULs alone, or spaces and a NUL | all read zero |
| spaces alone | GNU tar skips a member with such a size |
| a NUL, then digits | GNU tar, Go and tar-stream read the digits, the others read zero; matters in a size |
| byte 80, then a big-endian number; FF, then a negative one | all read it, up to npm's largest integer |
| a sign, `0o17`, `1_0`, base 64, any other text | some readers read it, each in a different way |

A checksum needs at least one digit, and another byte after the last digit. Without that byte, npm reads on
into the next field.
"""

import re

#: The byte by which GNU tar marks a binary number, not octal text; FF marks a negative one.
BINARY, NEGATIVE = 0x80, 0xFF
#: The largest integer that JavaScript, and so npm's tar, represents exactly.
MOST_IN_JAVASCRIPT = 2**53 - 1

SIZE = re.compile(rb" *([0-7]+)(?:[ \0]*|\0.*)", re.DOTALL)
ZERO_SIZE = re.compile(rb" *\0[ \0]*(?:0+(?:[ \0]*|\0.*))?", re.DOTALL)
#: Numbers that only matter when files are extracted. It does not matter whether readers skip a leading NUL.
OTHER = re.compile(rb"[ \0]*(?:[0-7]+(?:[ \0]*|\0.*))?", re.DOTALL)
CHECKSUM = re.compile(rb" *([0-7]+)(?:[ \0]+|\0[0-7 \0]*)")
SOME_DIGITS = re.compile(rb"(?:0[oO])?([0-7]+)")


def size(field: bytes) -> int | None:
    """Return the number that all readers read from a size field, or `None` if they differ."""
    if field[:1] == bytes([BINARY]):
        return int.from_bytes(field[1:], "big")
    if ZERO_SIZE.fullmatch(field):
        return 0
    digits = SIZE.fullmatch(field)
    return int(digits[1], 8) if digits else None


def is_agreed(field: bytes) -> bool:
    """Return whether all readers accept a mode, an owner, a time or a device number."""
    if field[0] in {BINARY, NEGATIVE}:
        negative = field[0] == NEGATIVE
        value = int.from_bytes(field[1:], "big", signed=negative)
        return (value < 0) == negative and abs(value) <= MOST_IN_JAVASCRIPT
    return OTHER.fullmatch(field) is not None


def checksum(field: bytes) -> int | None:
    """Return the number that all readers read from a checksum field, or `None` if they differ."""
    digits = CHECKSUM.fullmatch(field)
    return int(digits[1], 8) if digits else None


def possible_checksums(field: bytes, behind: bytes) -> set[int]:
    """Return every number that some reader may read from a checksum field.

    Python accepts `0o17`, `1_0` and `+17`, and BusyBox accepts base 256. npm reads on into the bytes `behind`
    the field.
    """
    readings = (field, field.replace(b"_", b""), field + behind)
    numbers = {int(digits[1], 8) for digits in map(SOME_DIGITS.search, readings) if digits}
    if field[0] & BINARY:
        numbers.add(int.from_bytes(field[1:], "big"))
    return numbers
