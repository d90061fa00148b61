r"""Parses the header of a tar archive's member: one block of 512 bytes, with numbers as octal text.

Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format" (tar.h).

| offset | bytes | field |
|---|---|---|
| 0 | 100 | name, up to a NUL |
| 100 | 8 | mode; then owner and group |
| 124 | 12 | size in bytes; GNU also writes byte 0x80, then a big-endian number |
| 136 | 12 | time of modification |
| 148 | 8 | checksum: sum of all bytes, with spaces in this field; some programs sum signed bytes |
| 156 | 1 | kind |
| 157 | 100 | target of a link |
| 257 | 8 | `ustar\0` and `00`; in GNU's format, which predates POSIX, `ustar  \0`; zeros in older formats |
| 329 | 8 | device numbers, major and minor |
| 345 | 155 | ustar: prefix, joined to the name by a slash; GNU: times of access and change, 12 bytes each |

Readers accept different deviations from the standard, so two readers can see different members in the same
bytes. Keyhole refuses every header that readers interpret differently. The module `numbers` lists the
spellings of a number that all readers interpret in the same way.
"""

import re
from dataclasses import dataclass

from keyhole.inspectors.archives.tar import numbers as tar_numbers
from keyhole.inspectors.findings import Finding, Severity, found

BLOCK = 512
MAGIC_AT = 257
#: The magic numbers of POSIX's and GNU's dialects begin with these bytes.
MAGIC = b"ustar"
USTAR, GNU = b"ustar\0", b"ustar  \0"
SIZE_AT, KIND_AT, LINK_AT, PREFIX_AT, PREFIX_END = 124, 156, 157, 345, 500
CHECKSUM_AT, CHECKSUM_END = 148, 156
#: npm's tar reads a checksum up to this offset, which is after the end of the field.
NPM_CHECKSUM_END = 160
#: The times of access and change that GNU tar's incremental backups have in place of ustar's prefix.
GNU_TIMES = re.compile(rb"(?:[0-7]{11}\0){1,2}\0*")
#: The longest file in bytes. Readers use signed 64-bit offsets.
MAX_SIZE = 2**63 - 1

#: Offset and length of the fields for mode, owner, group, time and device numbers.
OTHER_NUMBERS = ((100, 8), (108, 8), (116, 8), (136, 12), (329, 8), (337, 8))

FILE, HARD_LINK, SYMLINK, DIRECTORY = b"0", b"1", b"2", b"5"
DEVICES = frozenset({b"3", b"4"})
#: The kinds of members that have no data, even if their headers state a size.
BODILESS = frozenset({HARD_LINK, SYMLINK, *DEVICES, DIRECTORY, b"6"})
LONG_NAME, LONG_LINK, SPARSE, CONTINUED = b"L", b"K", b"S", b"M"
#: Extended headers are of kind `x` in POSIX and `X` in Solaris's tar.
SOLARIS_EXTENDED = b"X"
EXTENDED = frozenset({b"x", SOLARIS_EXTENDED})
GLOBAL = b"g"


class TarError(Exception):
    """Keyhole cannot read the archive further, for the reason in `finding`."""

    def __init__(self, check: str, message: str, severity: Severity | None = None) -> None:
        super().__init__(message)
        self.finding: Finding = found(check, message, severity)


class CutError(TarError):
    """The archive ends within the requested range. `data` is the part of the range that exists."""

    def __init__(self, data: bytes, message: str) -> None:
        super().__init__("truncated", message)
        self.data = data


def ambiguous(message: str) -> TarError:
    """Return the error for an archive in which two readers see different members."""
    return TarError("ambiguous_format", message)


@dataclass(frozen=True, slots=True)
class Header:
    """A header with a correct checksum.

    `kind` is one character. Old archives use a NUL for files; `kind` is then `0`. `size` is how many bytes of
    data follow, if no extended header overrides it. `also` is empty unless Python reads a longer name. This
    happens if the header has GNU's times: Python treats the times as ustar's prefix, which is a folder in
    front of the name.
    """

    name: bytes
    also: bytes
    kind: bytes
    size: int
    link: bytes
    block: bytes

    @property
    def is_gnu(self) -> bool:
        """Whether the header is in GNU tar's own format."""
        return self.block[MAGIC_AT:].startswith(GNU)


def begins_archive(block: bytes) -> bool:
    """Return whether at least one reader treats an object with this first block as an archive."""
    return block[MAGIC_AT:].startswith(MAGIC) or is_header(block)


def is_header(block: bytes) -> bool:
    """Return whether a block has a checksum that matches for at least one reader."""
    if len(block) < BLOCK:
        return False
    field, behind = block[CHECKSUM_AT:CHECKSUM_END], block[CHECKSUM_END:NPM_CHECKSUM_END]
    return not tar_numbers.possible_checksums(field, behind).isdisjoint(sums(block))


def sums(block: bytes) -> tuple[int, int]:
    """Return the two checksums that readers accept: the sums of the header's unsigned and signed bytes."""
    others = block[:CHECKSUM_AT] + block[CHECKSUM_END:]
    unsigned = sum(others) + (CHECKSUM_END - CHECKSUM_AT) * ord(" ")
    negative = len(others.translate(None, delete=bytes(range(128))))
    return unsigned, unsigned - 256 * negative


def decode(block: bytes) -> Header:
    """Parse a block as a header.

    Raises:
        TarError: The checksum does not match, or readers interpret a field of the block differently.
    """
    if not is_header(block):
        raise TarError("checksum_mismatch", "a header does not match its checksum")
    if tar_numbers.checksum(block[CHECKSUM_AT:CHECKSUM_END]) != sums(block)[0]:
        raise ambiguous("a header has a checksum that not all readers accept")
    for at, length in OTHER_NUMBERS:
        if not tar_numbers.is_agreed(block[at : at + length]):
            raise TarError("structure", f"a header has text in place of a number, at byte {at}")
    kind = block[KIND_AT : KIND_AT + 1].replace(b"\0", FILE)
    name, also = _names(block, kind)
    return Header(
        name=name,
        also=also,
        kind=kind,
        size=number(block[SIZE_AT : SIZE_AT + 12]),
        link=_text(block[LINK_AT : LINK_AT + 100]),
        block=block,
    )


def number(field: bytes) -> int:
    """Return the number in a size field, or zero if the field is empty.

    Raises:
        TarError: Readers read different numbers from the field, or the number is too large.
    """
    value = tar_numbers.size(field)
    if value is None:
        raise TarError("structure", "a header states its size in a form that not all readers can read")
    if value > MAX_SIZE:
        raise TarError("structure", f"a header states a size of {value} bytes")
    return value


def _names(block: bytes, kind: bytes) -> tuple[bytes, bytes]:
    """Return the name, and the name that Python reads; the second name is empty if both are the same."""
    field = block[PREFIX_AT:PREFIX_END]
    name, prefix = _text(block[:100]), _text(field)
    if not prefix or kind == SPARSE:
        return name, b""
    joined = prefix + b"/" + name
    if block[MAGIC_AT:].startswith(USTAR):
        return joined, b""
    if block[MAGIC_AT:].startswith(GNU) and GNU_TIMES.fullmatch(field):
        return name, joined
    raise ambiguous("a header has bytes that only some readers read as the beginning of the name")


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
