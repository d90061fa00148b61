"""Parses the header, the region table and the metadata table of a VHDX, and checks whether they are intact.

Source: Microsoft, [MS-VHDX], sections 2.2.2 (headers), 2.2.3 (region table), 2.6.1 (metadata table). The
module `inspector` lists the fields.
"""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from struct import unpack_from
from typing import NamedTuple, Self
from uuid import UUID

from google_crc32c import value as crc32c

from keyhole.inspectors.errors import ImageFormatError

KIB = 1024
MIB = 1024 * 1024

HEADER_BYTES = 4 * KIB
#: The length in bytes of the region table, and of the metadata table.
TABLE_BYTES = 64 * KIB
#: The region table and the metadata table have at most this many entries each (2.2.3.1, 2.6.1.1).
MAX_ENTRIES = 2047

#: The flag of a metadata item that readers must support.
REQUIRED_ITEM = 4


class Header(NamedTuple):
    """The fields of one of the two headers; `raw` is the whole header."""

    sequence: int
    log_guid: bytes
    log_version: int
    version: int
    log_length: int
    log_offset: int
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Self | None:
        """Return the header in `raw`, or `None` if the header is not intact."""
        if not _intact(raw, b"head", HEADER_BYTES):
            return None
        log_version, version, log_length, log_offset = unpack_from("<HHIQ", raw, 64)
        sequence = int.from_bytes(raw[8:16], "little")
        return cls(sequence, raw[48:64], log_version, version, log_length, log_offset, raw)


class Entry(NamedTuple):
    """An entry of the region table or the metadata table. It describes a region or a metadata item.

    `offset` and `length` are in bytes. The offset of a region counts from the start of the file, the offset
    of a metadata item from the start of the metadata region.
    """

    guid: str
    offset: int
    length: int
    required: bool

    @property
    def end(self) -> int:
        """The offset of the first byte after the region or item."""
        return self.offset + self.length


def is_region_table(table: bytes) -> bool:
    """Return whether `table` is an intact region table."""
    return _intact(table, b"regi", TABLE_BYTES)


def region_entries(table: bytes) -> list[Entry]:
    """Return the entries of an intact region table.

    Raises:
        ImageFormatError: The table states more entries than the format allows.
    """
    count = unpack_from("<I", table, 8)[0]
    if count > MAX_ENTRIES:
        raise ImageFormatError(f"the VHDX region table states {count} entries, the limit is {MAX_ENTRIES}")
    return [_entry(table, at, "<QI", required=table[at + 28] & 1) for at in range(16, 16 + 32 * count, 32)]


def metadata_entries(table: bytes) -> list[Entry]:
    """Return the entries of a metadata table.

    Raises:
        ImageFormatError: `table` is not a metadata table, or states more entries than the format allows.
    """
    if len(table) < TABLE_BYTES or not table.startswith(b"metadata"):
        raise ImageFormatError("the VHDX metadata region does not begin with a metadata table")
    count = unpack_from("<H", table, 10)[0]
    if count > MAX_ENTRIES:
        raise ImageFormatError(f"the VHDX metadata table states {count} entries, the limit is {MAX_ENTRIES}")
    return [
        _entry(table, at, "<II", required=table[at + 24] & REQUIRED_ITEM)
        for at in range(32, 32 + 32 * count, 32)
    ]


def repeated(entries: Iterable[Entry]) -> list[str]:
    """Return the GUIDs that occur in more than one entry."""
    return [guid for guid, times in Counter(entry.guid for entry in entries).items() if times > 1]


def _entry(table: bytes, at: int, place: str, *, required: int) -> Entry:
    """Return the table entry at offset `at`.

    `place` is the struct format of offset and length, after the GUID.
    """
    offset, length = unpack_from(place, table, at + 16)
    return Entry(_guid(table[at : at + 16]), offset, length, bool(required))


@lru_cache(maxsize=32)
def _guid(raw: bytes) -> str:
    """Return the text of a GUID. The text is cached, because nearly all images have the same dozen GUIDs."""
    return str(UUID(bytes_le=raw)).upper()


def _intact(structure: bytes, signature: bytes, length: int) -> bool:
    """Return whether a structure has this length and signature, and matches the CRC-32C at offset 4."""
    if len(structure) != length or not structure.startswith(signature):
        return False
    return bool(crc32c(structure[:4] + bytes(4) + structure[8:]) == int.from_bytes(structure[4:8], "little"))
