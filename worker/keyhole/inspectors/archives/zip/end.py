"""The end of a ZIP archive: the record by which readers find its directory, wherever the archive begins.

Readers search for it from the object's end, so bytes before the archive does not matter to them: an
image with a ZIP behind it is both. Little-endian.

| at | bytes | field of the end record |
|---|---|---|
| 0 | 4 | `PK` 05 06 |
| 4 | 2 + 2 | number of this disk, and of the one on which the directory begins; FFFF: see the Zip64 record |
| 8 | 2 + 2 | entries on this disk, and of all |
| 12 | 4 | length of the directory in bytes, and at 16 its offset; FFFFFFFF: see the Zip64 record |
| 20 | 2 | length of the comment that follows |

With Zip64 a locator stands right before it.

| at | bytes | field of the Zip64 locator |
|---|---|---|
| 0 | 4 | `PK` 06 07 |
| 4 | 4 | the disk with the Zip64 end record |
| 8 | 8 | offset of the Zip64 end record, which begins with `PK` 06 06 |
| 16 | 4 | how many disks there are |

Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3.15 and 4.3.16; who accepts what: Python's Lib/zipfile.py,
_EndRecData and _RealGetContents, which goes by the length of the directory before the record; Info-ZIP's
process.c, find_ecrec, which goes by the last record and passes over what follows its comment.
"""

from collections.abc import Iterator
from struct import unpack_from
from typing import Final, NamedTuple

from keyhole.inspectors.readers import ZIP_END_BYTES, ZIP_SEARCHED_BYTES

SIGNATURE: Final = b"PK\5\6"
LOCATOR: Final = b"PK\6\7"
LOCATOR_BYTES: Final = 20
#: How much to hold of an object's end: wherever a reader finds the record, the locator before it is held too.
TAIL_BYTES: Final = ZIP_SEARCHED_BYTES + LOCATOR_BYTES
CENTRAL: Final = b"PK\1\2"
#: The shortest entry of the directory, with a name of no bytes.
LEAST_ENTRY_BYTES: Final = 46
IN_ZIP64_16, IN_ZIP64_32 = 0xFFFF, 0xFFFFFFFF
#: Records that are returned from one tail. No archive has a comment full of them.
MAX_RECORDS: Final = 64


class EndRecord(NamedTuple):
    """An end record at the absolute `offset`, with its fields as they stand there; `comment` is a length.

    `zip64` is where the Zip64 end record is said to be, if a locator stands before the record.
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
        """Where its comment ends."""
        return self.offset + ZIP_END_BYTES + self.comment

    @property
    def directory_ends(self) -> int:
        """Where the directory ends: at the record, or at what Zip64 has before it."""
        return self.offset if self.zip64 is None else self.zip64

    @property
    def needs_zip64(self) -> bool:
        """Whether a field is too small for its number."""
        return IN_ZIP64_16 in {self.disk, self.directory_disk, self.entries_here, self.entries} or (
            IN_ZIP64_32 in {self.directory_bytes, self.directory_offset}
        )


def records(tail: bytes, size: int) -> Iterator[EndRecord]:
    """The end records in the last bytes of an object of `size` bytes, the last one first."""
    base = size - len(tail)
    at = len(tail) - ZIP_END_BYTES + len(SIGNATURE)
    for _ in range(MAX_RECORDS):
        at = tail.rfind(SIGNATURE, 0, max(0, at))
        if at < 0:
            return
        fields = unpack_from("<4H2IH", tail, at + len(SIGNATURE))
        yield EndRecord._make((base + at, *fields, _zip64(tail, at)))


def archives(tail: bytes, size: int) -> Iterator[EndRecord]:
    """The end records that a reader would go by to at least one entry, the last one first.

    The directory must lie before the record, and begin as one does where its beginning is within the tail.
    """
    return (record for record in records(tail, size) if _leads_to_entries(record, tail, size - len(tail)))


def _zip64(tail: bytes, at: int) -> int | None:
    """Where the locator before a record says that the Zip64 record is; `None` if there is no locator."""
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
