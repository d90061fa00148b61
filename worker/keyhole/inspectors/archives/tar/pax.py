"""Parses the extended headers of pax archives, which have records that override fields of the next header.

Source: POSIX.1-2017, pax, "pax Extended Header"; GNU tar manual, "Storing Sparse Files".

A record is its own length in bytes as a decimal number, a space, `key=value`, and a line break. If a key
occurs twice, readers use the last value. There is one exception: in GNU's sparse format 0.0, the keys for
offset and length occur once for each piece.

Readers deviate from the standard: npm's tar splits the header into lines before it reads the lengths, so it
can mistake a line within a value for a record. GNU tar skips spaces before a key. libarchive uses star's
`SCHILY.realsize` as the size of every file that has this key, not only of sparse files.
"""

import re
from dataclasses import dataclass, field

from keyhole.inspectors.archives.tar.header import MAX_SIZE, TarError, ambiguous
from keyhole.inspectors.effort import spend
from keyhole.inspectors.text import printable

#: The most digits of a record's length: enough for the longest header that `tar.inspector` reads.
LENGTH_DIGITS = 8
SPARSE_PREFIX = b"GNU.sparse."
SPARSE_OFFSET, SPARSE_LENGTH = b"GNU.sparse.offset", b"GNU.sparse.numbytes"
#: The prefix of the keys of a member that is split over several archives.
VOLUME_PREFIX = b"GNU.volume."
#: star's key for the size of a sparse file. The key `size` then states how many bytes the archive stores.
REAL_SIZE = b"SCHILY.realsize"
#: The keys that change which members an archive has. Keyhole stores the values of these keys and of the keys
#: for sparse files.
DECISIVE = frozenset({b"path", b"linkpath", b"size", REAL_SIZE})
#: Some keys have numbers that matter only if files are extracted. For each of these keys, this is the form of
#: a number that GNU tar and Go accept.
NUMBERS = {
    **dict.fromkeys((b"mtime", b"atime", b"ctime"), re.compile(rb"-?[0-9]{1,15}(\.[0-9]*)?")),
    **dict.fromkeys((b"uid", b"gid"), re.compile(rb"[0-9]{1,10}")),
}
#: The beginning of a line that npm's tar can read as a record: a length that JavaScript's `parseInt` accepts.
LINE = re.compile(rb"\s*\+?([0-9]{1,8})")
READ_BY_NPM = (b"path=", b"linkpath=", b"size=")


@dataclass(frozen=True, slots=True)
class Records:
    """The values of an extended header that Keyhole uses.

    `values` has the values by their keys. `pairs` has the offsets and lengths of a sparse map of format 0.0.
    """

    values: dict[bytes, bytes] = field(default_factory=dict)
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def decides(self) -> bool:
        """Whether the header changes which members the archive has."""
        return bool(self.values or self.pairs)

    @property
    def sparse(self) -> bool:
        """Whether the header describes a sparse file."""
        return bool(self.pairs) or any(key.startswith(SPARSE_PREFIX) for key in self.values)

    @property
    def name(self) -> bytes | None:
        """The member's name; for a sparse file, the name of the extracted file; `None` if there is none."""
        return self.values.get(b"GNU.sparse.name", self.values.get(b"path"))

    def number(self, key: bytes) -> int | None:
        """Return the number that is the value of a key; `None` if the header does not have the key.

        Raises:
            TarError: The value is not a number.
        """
        value = self.values.get(key)
        return None if value is None else decimal(value)


def parse(data: bytes) -> Records:
    """Parse the records of an extended header.

    Raises:
        TarError: The records are malformed, readers interpret them differently, or the archive is only one of
            several that store a file in parts.
    """
    values: dict[bytes, bytes] = {}
    offsets: list[int] = []
    lengths: list[int] = []
    at = 0
    while at < len(data):
        spend()
        space = data.find(b" ", at, at + LENGTH_DIGITS + 1)
        digits = data[at:space] if space > 0 else b""
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not space < end <= len(data) or data[end - 1 : end] != b"\n" or not equals:
            raise TarError("structure", "an extended header has bytes that are not a record")
        at = end
        _check(digits, key, value)
        if key.startswith(VOLUME_PREFIX):
            raise TarError("data_file", "the archive is one of several that contain parts of one file")
        if key in {SPARSE_OFFSET, SPARSE_LENGTH}:
            (offsets if key == SPARSE_OFFSET else lengths).append(decimal(value))
        elif key in DECISIVE or key.startswith(SPARSE_PREFIX):
            values[key] = value
    if len(offsets) != len(lengths):
        raise TarError("structure", "an extended header has offsets without lengths")
    for key, value in values.items():
        if not value:
            raise ambiguous(
                f"an extended header leaves {printable(key)} empty, which readers interpret in two ways"
            )
    return Records(values, tuple(zip(offsets, lengths, strict=True)))


def _check(digits: bytes, key: bytes, value: bytes) -> None:
    """Check that all readers read a record in the same way.

    Raises:
        TarError: Readers read the record differently, or a number in the record is malformed.
    """
    if digits.startswith(b"0") or key[:1].isspace():
        raise ambiguous(
            "an extended header has a record with a length or a key that readers read in two ways"
        )
    if any(map(_is_record_to_npm, value.split(b"\n")[1:])):
        raise ambiguous(f"an extended header has a line in {printable(key)} that npm takes for a record")
    if key == b"path" and b"\n" in value:
        raise ambiguous("an extended header has a name with line breaks, which not all readers accept")
    if key in NUMBERS and not NUMBERS[key].fullmatch(value):
        raise TarError("structure", f"an extended header has text in place of a number for {printable(key)}")


def _is_record_to_npm(line: bytes) -> bool:
    """Return whether npm's tar reads a line as a record.

    It does so if the line begins with its own length, a character, and a key that npm's tar uses.
    """
    length = LINE.match(line)
    if length is None or int(length[1]) != len(line.decode(errors="replace").encode()) + 1:
        return False
    return line[len(b"%d" % int(length[1])) + 1 :].startswith(READ_BY_NPM)


def decimal(text: bytes) -> int:
    """Parse a decimal number.

    Raises:
        TarError: The text is not a number, or the number is too large.
    """
    value = int(text) if text.isdigit() and len(text) <= len(str(MAX_SIZE)) else MAX_SIZE + 1
    if value > MAX_SIZE:
        raise TarError("structure", f"an extended header has {printable(text[:32])!r} in place of a number")
    return value
