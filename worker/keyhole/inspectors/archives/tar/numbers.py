r"""Parses the numbers in a tar header, and refuses spellings that readers interpret differently.

Source: POSIX.1-2017, pax, "ustar Interchange Format". POSIX requires octal digits with leading zeros,
followed by a NUL or a space. But writers use different spellings: libarchive writes `000644 \0`, and Perl
writes ` 210560\0`. The table below states which number each reader reads. It was measured with GNU tar 1.34,
libarchive 3.6.2, Python 3.11, Go 1.19, BusyBox 1.35, npm's tar 7 and tar-stream 3.
`tests/inspectors/archives/test_numbers.py` measures them again.

| spelling | readers |
|---|---|
| any spaces, digits, and then either spaces and NULs or a NUL and any bytes | all read the digits |
| only NULs, or spaces and a NUL | all read zero |
| only spaces | GNU tar skips a member with such a size |
| a NUL, then digits | GNU tar, Go and tar-stream read the digits, the other readers zero; refused as a size |
| 0x80, then a big-endian number; 0xFF, then a negative number | all read it, up to npm's largest integer |
| a sign, `0o17`, `1_0`, base 64, all other text | some readers read a number, but not the same number |

A checksum must have at least one digit, and its field must not end with a digit, because npm's tar would
otherwise continue to read digits in the next field.
"""

import re

#: GNU tar stores large and negative numbers in binary form. The first byte of the field marks this form: it
#: is `NEGATIVE` for a negative number, and otherwise `BINARY`.
BINARY, NEGATIVE = 0x80, 0xFF
#: The largest integer that JavaScript can represent exactly, and so the largest number that npm's tar can
#: read.
MOST_IN_JAVASCRIPT = 2**53 - 1

SIZE = re.compile(rb" *([0-7]+)(?:[ \0]*|\0.*)", re.DOTALL)
ZERO_SIZE = re.compile(rb" *\0[ \0]*(?:0+(?:[ \0]*|\0.*))?", re.DOTALL)
#: Matches the numbers in the fields other than the size and the checksum. These numbers matter only if files
#: are extracted. A leading NUL is allowed, because all readers see the same members, although only some of
#: them skip the NUL.
OTHER = re.compile(rb"[ \0]*(?:[0-7]+(?:[ \0]*|\0.*))?", re.DOTALL)
CHECKSUM = re.compile(rb" *([0-7]+)(?:[ \0]+|\0[0-7 \0]*)")
SOME_DIGITS = re.compile(rb"(?:0[oO])?([0-7]+)")


def size(field: bytes) -> int | None:
    """Return the number that all readers read from a size field; `None` if readers differ."""
    if field[:1] == bytes([BINARY]):
        return int.from_bytes(field[1:], "big")
    if ZERO_SIZE.fullmatch(field):
        return 0
    digits = SIZE.fullmatch(field)
    return int(digits[1], 8) if digits else None


def is_agreed(field: bytes) -> bool:
    """Return whether all readers accept a field for a mode, an owner, a group, a time or a device number."""
    if field[0] in {BINARY, NEGATIVE}:
        negative = field[0] == NEGATIVE
        value = int.from_bytes(field[1:], "big", signed=negative)
        return (value < 0) == negative and abs(value) <= MOST_IN_JAVASCRIPT
    return OTHER.fullmatch(field) is not None


def checksum(field: bytes) -> int | None:
    """Return the number that all readers read from a checksum field; `None` if readers differ."""
    digits = CHECKSUM.fullmatch(field)
    return int(digits[1], 8) if digits else None


def possible_checksums(field: bytes, behind: bytes) -> set[int]:
    """Return all numbers that at least one reader could read from a checksum field.

    Python accepts `0o17`, `1_0` and `+17`, and BusyBox accepts base 256. npm's tar continues to read after
    the field, in the bytes `behind`.
    """
    readings = (field, field.replace(b"_", b""), field + behind)
    numbers = {int(digits[1], 8) for digits in map(SOME_DIGITS.search, readings) if digits}
    if field[0] & BINARY:
        numbers.add(int.from_bytes(field[1:], "big"))
    return numbers
