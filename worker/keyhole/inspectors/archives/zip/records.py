r"""Parses the records at the end of a ZIP archive, and refuses records that readers interpret differently.

Source: APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16. The module `end` finds the end records and lists their
fields. A ZIP64 archive has a ZIP64 record, then a locator, then the end record. The fields of the ZIP64
record are little-endian:

| offset | bytes | field |
|---|---|---|
| 0 | 4 | "PK\6\6" |
| 4 | 8 | length of the rest of the record: 44 |
| 12 | 4 | versions |
| 16 | 8 | number of this disk, and of the disk where the directory begins |
| 24 | 16 | entries of the directory on this disk, and on all disks |
| 40 | 16 | length and offset of the directory |

Readers search for an end record backwards from the object's end, and use the first record that they find. If
the numbers in this record do not match the object, readers behave differently. Python accepts every length of
the comment, and shifts the offsets so that the directory ends where the end record begins. Go and Java
require that the comment ends at the object's end; otherwise they search for an earlier record. Info-ZIP tries
the stated offset and the shifted offset. Python uses every ZIP64 record that it finds, and Go uses a ZIP64
record only if the end record refers to it.

So Keyhole requires three conditions: only zeros follow the last end record and its comment; no earlier end
record ends at the object's end; and the end records directly follow the directory. Keyhole accepts the zeros
because bsdtar pads an archive with zeros when it writes to a pipe.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from keyhole.inspectors.archives.zip import end as zip_end
from keyhole.inspectors.archives.zip.end import IN_ZIP64_16, IN_ZIP64_32, LOCATOR_BYTES, EndRecord, records
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.readers import ZIP_END_BYTES

LOCATOR = struct.Struct("<4xLQL")
ZIP64_MARK, ZIP64 = b"PK\6\6", struct.Struct("<4xQ2H2L4Q")
#: The length in bytes that the ZIP64 record states, which excludes the signature and the length field.
ZIP64_LENGTH = ZIP64.size - 12
MAX_COMMENT = 2**16 - 1
#: How many bytes of an archive's end Keyhole captures: all end records, a directory of usual length before
#: them, and the end of the last member, which the member's inspection reads.
TAIL_BYTES = 2 * zip_end.TAIL_BYTES
#: The values of the end record's fields that refer readers to the ZIP64 record, in the order of the fields.
IN_ZIP64 = (*[IN_ZIP64_16] * 4, *[IN_ZIP64_32] * 2)


class ZipError(Exception):
    """Keyhole cannot read the archive further, for the reason in `finding`."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.finding: Finding = found(check, message)


@dataclass(frozen=True, slots=True)
class End:
    """The offset and the length of an archive's directory in bytes, and the number of its entries."""

    directory: int
    length: int
    entries: int


def read_end(tail: bytes, size: int) -> End:
    """Parse the end records in `tail`, the last bytes of an object of `size` bytes.

    Raises:
        ZipError: There is no end record, or readers use different records or interpret the record
            differently.
    """
    ends = [*records(tail, size)]
    if not ends:
        raise ZipError("truncated", f"the last {len(tail)} bytes have no end record of the ZIP archive")
    last = ends[0]
    if any(record.end == size for record in ends[1:]):
        raise ZipError(
            "ambiguous_format", "the ZIP archive has two end records, and readers use different ones"
        )
    if last.end > size:
        raise ZipError("truncated", f"{last.end - size} bytes of the ZIP archive's comment are missing")
    behind = tail[len(tail) - (size - last.end) :] if last.end < size else b""
    if any(behind) or size - last.offset > ZIP_END_BYTES + MAX_COMMENT:
        raise ZipError("trailing_data", f"{len(behind)} bytes follow the end of the ZIP archive")
    records_at, numbers = _numbers(last, tail, size - len(tail))
    disk, first_disk, here, entries, length, offset = numbers
    if disk or first_disk or here != entries:
        raise ZipError("unsupported_subformat", "the ZIP archive is one of several files")
    if offset + length != records_at:
        raise ZipError(
            "ambiguous_format" if offset + length < records_at else "structure",
            f"the ZIP directory should end at byte {offset + length}, the end records begin at {records_at}",
        )
    return End(offset, length, entries)


def _numbers(record: EndRecord, tail: bytes, start: int) -> tuple[int, Sequence[int]]:
    """Return the offset at which the end records begin, and the numbers that the end records state.

    `tail` begins at the offset `start` of the object.
    """
    stated = record[1:7]
    beyond = [said == mark for said, mark in zip(stated, IN_ZIP64, strict=True)]
    if record.zip64 is None:
        if any(beyond):
            raise ZipError(
                "structure", "the end record of the ZIP archive refers to a ZIP64 record that is missing"
            )
        return record.offset, stated
    place = record.offset - start - LOCATOR_BYTES
    disk, offset, disks = LOCATOR.unpack_from(tail, place)
    if disk or disks > 1:
        raise ZipError("unsupported_subformat", "the ZIP archive is one of several files")
    place -= ZIP64.size
    if place < 0 or offset != start + place or not tail.startswith(ZIP64_MARK, place):
        raise ZipError("ambiguous_format", f"not all readers find the ZIP64 record at byte {offset}")
    length, _, _, *larger = ZIP64.unpack_from(tail, place)
    differs = any(
        one != two and not is_beyond for one, two, is_beyond in zip(stated, larger, beyond, strict=True)
    )
    if differs or length != ZIP64_LENGTH:
        raise ZipError("ambiguous_format", "the end record of the ZIP archive and its ZIP64 record differ")
    return offset, larger
