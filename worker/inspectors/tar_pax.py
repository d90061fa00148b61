"""The extended headers of pax archives: records that replace what the next header says.

Source: POSIX.1-2017, pax, "pax Extended Header"; GNU tar manual, "Storing Sparse Files".

A record is its own length in decimal, a space, `key=value`, and a line break. Of a key that is there twice
the last counts, but for the offsets and lengths of GNU's sparse format 0.0.
"""

from dataclasses import dataclass, field

from worker.inspectors.tar_header import MAX_SIZE, TarError, ambiguous
from worker.inspectors.text import printable

#: Enough for the length of any record within the bound that `tar` sets for a header.
LENGTH_DIGITS = 8
SPARSE_PREFIX = b"GNU.sparse."
SPARSE_OFFSET, SPARSE_LENGTH = b"GNU.sparse.offset", b"GNU.sparse.numbytes"
#: What a member of a set of several archives says of itself.
VOLUME_PREFIX = b"GNU.volume."
#: What changes which members there are. Of the rest nothing is kept.
DECISIVE = frozenset({b"path", b"linkpath", b"size"})


@dataclass(frozen=True, slots=True)
class Records:
    """What one extended header says that matters, by key; and the pairs of a map of format 0.0."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def decides(self) -> bool:
        """Whether anything in it changes which members there are."""
        return bool(self.values or self.pairs)

    @property
    def sparse(self) -> bool:
        """Whether it says that a file is packed sparsely."""
        return bool(self.pairs) or any(key.startswith(SPARSE_PREFIX) for key in self.values)

    @property
    def name(self) -> bytes | None:
        """The member's name; of a sparse file the one that it has when it is unpacked."""
        return self.values.get(b"GNU.sparse.name", self.values.get(b"path"))

    def number(self, key: bytes) -> int | None:
        """The number that a key has, if it is there.

        Raises:
            TarError: It is none.
        """
        value = self.values.get(key)
        return None if value is None else decimal(value)


def parse(data: bytes) -> Records:
    """The records of an extended header.

    Raises:
        TarError: They are not laid out as they should be, or belong to one of several archives.
    """
    values: dict[bytes, bytes] = {}
    offsets: list[int] = []
    lengths: list[int] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + LENGTH_DIGITS + 1)
        digits = data[at:space] if space > 0 else b""
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not space < end <= len(data) or data[end - 1 : end] != b"\n" or not equals:
            raise TarError("structure", "an extended header is not made of records")
        at = end
        if key.startswith(VOLUME_PREFIX):
            raise TarError("data_file", "the archive is one of several, which hold parts of a file")
        if key in {SPARSE_OFFSET, SPARSE_LENGTH}:
            (offsets if key == SPARSE_OFFSET else lengths).append(decimal(value))
        elif key in DECISIVE or key.startswith(SPARSE_PREFIX):
            values[key] = value
    if len(offsets) != len(lengths):
        raise TarError("structure", "an extended header has offsets without lengths")
    for key, value in values.items():
        if not value:
            raise ambiguous(
                f"an extended header leaves {printable(key)} empty, which readers take in two ways"
            )
    return Records(values, tuple(zip(offsets, lengths, strict=True)))


def decimal(text: bytes) -> int:
    """A number in decimal.

    Raises:
        TarError: It is none, or one that is out of bounds.
    """
    value = int(text) if text.isdigit() and len(text) <= len(str(MAX_SIZE)) else MAX_SIZE + 1
    if value > MAX_SIZE:
        raise TarError("structure", f"an extended header has {printable(text[:32])!r} for a number")
    return value
