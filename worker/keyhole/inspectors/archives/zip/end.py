"""Finds the end record of a ZIP archive, which leads readers to the directory.

Readers search for the end record backwards from the end of the object. So they ignore bytes before the
archive, and a disk image followed by a ZIP archive is valid as an image and as an archive. All fields are
little-endian.

| at | bytes | field of the end record |
|---|---|---|
| 0 | 4 | `PK` 05 06 |
| 4 | 2 + 2 | number of this disk, and of the disk where the directory begins; FFFF: see the Zip64 record |
| 8 | 2 + 2 | entries on this disk, and on all disks |
| 12 | 4 | length of the directory in bytes, and at 16 its offset; FFFFFFFF: see the Zip64 record |
| 20 | 2 | length of the comment that follows |

In a Zip64 archive, a locator directly precedes the end record.

| at | bytes | field of the Zip64 locator |
|---|---|---|
| 0 | 4 | `PK` 06 07 |
| 4 | 4 | the disk with the Zip64 end record |
| 8 | 8 | offset of the Zip64 end record, which begins with `PK` 06 06 |
| 16 | 4 | how many disks there are |

Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3.15 and 4.3.16. Behaviour of readers: Python's Lib/zipfile.py,
`_EndRecData` and `_RealGetContents`, assumes that the directory ends where the record begins, and has the
length that the record states. Info-ZIP's process.c, `find_ecrec`, uses the last record and ignores bytes
after the record's comment.
"""

from collections.abc import Iterator
from struct import unpack_from
from typing import Final, NamedTuple

from keyhole.inspectors.fields import used_bytes
from keyhole.inspectors.readers import ZIP_END_BYTES, ZIP_SEARCHED_BYTES

SIGNATURE: Final = b"PK\5\6"
LOCATOR: Final = b"PK\6\7"
LOCATOR_BYTES: Final = 20
#: How many bytes of an object's end Keyhole captures: all bytes in which readers search for the record, and a
#: locator before the record.
TAIL_BYTES: Final = ZIP_SEARCHED_BYTES + LOCATOR_BYTES
CENTRAL: Final = b"PK\1\2"
#: The length in bytes of the shortest entry of a directory, which has an empty name.
LEAST_ENTRY_BYTES: Final = 46
IN_ZIP64_16, IN_ZIP64_32 = 0xFFFF, 0xFFFFFFFF
#: The most end records that `records` yields. Only a hostile archive has more.
MAX_RECORDS: Final = 64


class EndRecord(NamedTuple):
    """An end record and its fields.

    `offset` is the record's offset in the object. `comment` is the length of the comment in bytes. `zip64` is
    the offset of the Zip64 end record, as the locator states it; `None` if there is no locator.
    """

    offset: int
    disk: int
    directory_disk: int
    entries_here: int
    entries: int
    directory_bytes: int
    directory_offset: int
    comment: int
    zip64: int | None

    @property
    def end(self) -> int:
        """The offset at which the record's comment ends."""
        return self.offset + ZIP_END_BYTES + self.comment

    @property
    def directory_ends(self) -> int:
        """The offset at which the directory must end.

        The Zip64 record begins there or, if there is no Zip64 record, this record.
        """
        return self.offset if self.zip64 is None else self.zip64

    @property
    def needs_zip64(self) -> bool:
        """Whether a number is too large for its field, and is stored in the Zip64 record instead."""
        return IN_ZIP64_16 in {self.disk, self.directory_disk, self.entries_here, self.entries} or (
            IN_ZIP64_32 in {self.directory_bytes, self.directory_offset}
        )


def records(tail: bytes, size: int) -> Iterator[EndRecord]:
    """Yield the end records in `tail`, the end of an object of `size` bytes; the last record first."""
    base = size - len(tail)
    # Begin the search before the zeros at the end, because searching the zeros takes much longer than
    # counting them. No signature is missed, because the signature does not end with a zero.
    at = min(len(tail) - ZIP_END_BYTES + len(SIGNATURE), used_bytes(tail))
    for _ in range(MAX_RECORDS):
        at = tail.rfind(SIGNATURE, 0, max(0, at))
        if at < 0:
            return
        fields = unpack_from("<4H2IH", tail, at + len(SIGNATURE))
        yield EndRecord._make((base + at, *fields, _zip64(tail, at)))


def archives(tail: bytes, size: int) -> Iterator[EndRecord]:
    """Yield the end records that lead a reader to at least one entry, the last record first.

    The directory must precede the record. If the tail contains the directory's beginning, an entry must begin
    there.
    """
    return (record for record in records(tail, size) if _leads_to_entries(record, tail, size - len(tail)))


def _zip64(tail: bytes, at: int) -> int | None:
    """Return the Zip64 record's offset, which the locator before a record states; `None` if none exists."""
    start = at - LOCATOR_BYTES
    if start < 0 or not tail.startswith(LOCATOR, start):
        return None
    (offset,) = unpack_from("<Q", tail, start + 8)
    return int(offset)


def _leads_to_entries(record: EndRecord, tail: bytes, base: int) -> bool:
    if record.zip64 is not None:
        return True
    begins = record.offset - record.directory_bytes
    if record.directory_bytes < LEAST_ENTRY_BYTES or begins < 0:
        return False
    return begins < base or tail.startswith(CENTRAL, begins - base)
