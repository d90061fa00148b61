"""Microsoft VHDX. All fields are little-endian; GUIDs have their first three parts in that order, too.

Source: Microsoft, [MS-VHDX], sections 2.2 (header section), 2.3 (log), 2.5 (BAT), 2.6 (metadata region).

| at | bytes | structure |
|---|---|---|
| 0 | 8 | file identifier `vhdxfile` |
| 64 KiB, 128 KiB | 4096 | headers: `head`, CRC-32C u32@4, sequence u64@8, log GUID @48, version u16@66, log length u32@68, log offset u64@72 |
| 192 KiB, 256 KiB | 64 KiB | region tables: `regi`, CRC-32C u32@4, entries u32@8, from 16 on 32 B each: GUID, offset u64@16, length u32@24, required u32@28 |
| by the region table | 64 KiB | metadata table: `metadata`, entries u16@10, from 32 on 32 B each: GUID, offset u32@16 (in the region), length u32@20, flags u32@24 (bit 2: required) |
| by the region table | 8 B an entry | BAT: state in bits 0 to 2 (6 fully, 7 partly present), offset in MiB from bit 20 on |

Of the two headers the one with the higher sequence number counts, of the two region tables the first that is
intact. The metadata and BAT regions may lie anywhere after the first MiB.

Wholeness: the highest block that the BAT leads to. Of a BAT beyond `MAX_BAT_BYTES` the beginning is looked
at.
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Iterator, Mapping
from struct import iter_unpack, unpack, unpack_from
from typing import NamedTuple
from uuid import UUID

from google_crc32c import value as crc32c

from worker.inspectors.base import FileInspector
from worker.inspectors.errors import ImageFormatError
from worker.inspectors.facts import Wholeness
from worker.inspectors.findings import Finding, found
from worker.inspectors.region import CaptureRegion
from worker.inspectors.text import printable

KIB = 1024
MIB = 1024 * 1024

SIGNATURE = b"vhdxfile"
HEADERS = {"header_1": 64 * KIB, "header_2": 128 * KIB}
HEADER_BYTES = 4 * KIB
REGION_TABLES = {"region_table_1": 192 * KIB, "region_table_2": 256 * KIB}
TABLE_BYTES = 64 * KIB

#: Both tables have at most this many entries (2.2.3.1, 2.6.1.1).
MAX_ENTRIES = 2047
#: The metadata table and the items behind it, which are written right after it and take some hundred bytes.
MAX_METADATA_BYTES = 128 * KIB
#: No item that is read is longer but for a parent locator, whose paths are clamped.
MAX_ITEM_BYTES = 64 * KIB
#: What is held of the BAT: 16,384 entries, half a TiB at the usual block size of 32 MiB.
MAX_BAT_BYTES = 128 * KIB
#: A parent locator has a handful of entries.
MAX_LOCATOR_ENTRIES = 16

BAT_REGION = "2DC27766-F623-4200-9D64-115E9BFD4A08"
FILE_PARAMETERS = "CAA16737-FA36-4D43-B3B6-33F0AA44E76B"
LOGICAL_SECTOR_SIZE = "8141BF1D-A96F-4709-BA47-F233A8FAAB5F"
PARENT_LOCATOR = "A8D35F2D-B30B-454D-ABF7-D3D84834AB0C"

LEAVE_ALLOCATED, HAS_PARENT = 1, 2
FULLY_PRESENT, PARTIALLY_PRESENT = 6, 7
REQUIRED_ITEM = 4


class Entry(NamedTuple):
    """An entry of the region table or of the metadata table."""

    guid: str
    offset: int
    length: int
    required: bool


class VHDXInspector(FileInspector):
    """MS VHDX: the region table leads to the metadata, and the metadata to the virtual size."""

    NAME = "vhdx"

    METAREGION = "8B7CA206-4790-4B9A-B8FE-575F050F886E"
    VIRTUAL_DISK_SIZE = "2FA54224-CD1B-4876-B211-5DBED83BF4B8"

    KNOWN_REGIONS = frozenset({METAREGION, BAT_REGION})
    #: Items read here, each with the length of the part that is read.
    READ_ITEMS: Mapping[str, int] = {
        VIRTUAL_DISK_SIZE: 8,
        FILE_PARAMETERS: 8,
        LOGICAL_SECTOR_SIZE: 4,
        PARENT_LOCATOR: MAX_ITEM_BYTES,
    }
    KNOWN_ITEMS = frozenset(
        {
            *READ_ITEMS,
            "CDA348C7-445D-4471-9CC9-E9885251C556",  # physical sector size
            "BECA12AB-B2E6-4523-93EF-C309E000C746",  # virtual disk id
        }
    )

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self._region_entries: list[Entry] | None = None
        self._items: dict[str, Entry] | None = None
        self.new_region("ident", CaptureRegion(0, len(SIGNATURE)))

    @property
    def format_match(self) -> bool:
        """Whether the file begins with `vhdxfile`."""
        return self.region("ident").data == SIGNATURE

    @property
    def virtual_size(self) -> int:
        """The metadata's item `VIRTUAL_DISK_SIZE`, in bytes; zero until it is here."""
        item = self._item(self.VIRTUAL_DISK_SIZE)
        return int.from_bytes(item, "little") if len(item) == 8 else 0

    @property
    def subformat(self) -> str | None:
        """`fixed`, `dynamic` or `differencing`, by the file parameters."""
        parameters = self._item(FILE_PARAMETERS)
        if len(parameters) != 8:
            return None
        flags = unpack_from("<I", parameters, 4)[0]
        if flags & HAS_PARENT:
            return "differencing"
        return "fixed" if flags & LEAVE_ALLOCATED else "dynamic"

    def post_process(self) -> None:
        """Follow the chain: region tables, metadata and BAT, then items that lie far from the metadata table.

        Raises:
            ImageFormatError: A table has more entries than the format allows, or is not the table it should
            be.
        """
        if not self.format_match:
            return
        if not self.has_region("header_1"):
            for name, offset in HEADERS.items():
                self.new_region(name, CaptureRegion(offset, HEADER_BYTES))
            for name, offset in REGION_TABLES.items():
                self.new_region(name, CaptureRegion(offset, TABLE_BYTES))
        if self._region_entries is None:
            self._read_region_table()
        if self._region_entries is not None and self._items is None:
            self._read_metadata_table()

    def _read_region_table(self) -> None:
        table = self._intact_region_table()
        if table is None:
            return
        count = unpack_from("<I", table, 8)[0]
        if count > MAX_ENTRIES:
            raise ImageFormatError(
                f"the VHDX region table states {count} entries, the limit is {MAX_ENTRIES}"
            )
        self._region_entries = [
            _entry(table, at, "<QI", required=table[at + 28] & 1) for at in range(16, 16 + 32 * count, 32)
        ]
        metadata, bat = self._region_entry(self.METAREGION), self._region_entry(BAT_REGION)
        if metadata is None:
            raise ImageFormatError("the VHDX region table names no metadata region")
        self.new_region("metadata", CaptureRegion(metadata.offset, min(metadata.length, MAX_METADATA_BYTES)))
        if bat is not None:
            self.new_region("bat", CaptureRegion(bat.offset, min(bat.length, MAX_BAT_BYTES)))

    def _intact_region_table(self) -> bytes | None:
        """The first region table that is intact, once that is decided; the object may end before both."""
        for name in REGION_TABLES:
            if not self.filled(name):
                return None
            if _intact(self.captured(name), b"regi", TABLE_BYTES):
                return self.captured(name)
        if all(len(self.captured(name)) == TABLE_BYTES for name in REGION_TABLES):
            raise ImageFormatError("neither VHDX region table is intact")
        return None

    def _read_metadata_table(self) -> None:
        table = self.captured("metadata")
        if len(table) < min(TABLE_BYTES, self.region("metadata").length):
            return
        if len(table) < TABLE_BYTES or not table.startswith(b"metadata"):
            raise ImageFormatError("the VHDX metadata region holds no metadata table")
        count = unpack_from("<H", table, 10)[0]
        if count > MAX_ENTRIES:
            raise ImageFormatError(
                f"the VHDX metadata table states {count} entries, the limit is {MAX_ENTRIES}"
            )
        entries = [
            _entry(table, at, "<II", required=table[at + 24] & REQUIRED_ITEM)
            for at in range(32, 32 + 32 * count, 32)
        ]
        # Of an item that is stated twice the first counts.
        self._items = {entry.guid: entry for entry in reversed(entries)}
        for guid, longest in self.READ_ITEMS.items():
            entry = self._items.get(guid)
            length = min(entry.length, longest) if entry else 0
            if entry and entry.offset + length > self.region("metadata").length:
                self.new_region(guid, CaptureRegion(self.region("metadata").offset + entry.offset, length))

    @property
    def wholeness(self) -> Wholeness:
        """Proven when all of the BAT was seen, sampled when its beginning was."""
        entries = self._bat_entries_needed
        if not entries or not self.filled("bat"):
            return Wholeness.UNCHECKED
        return Wholeness.PROVEN if entries * 8 <= self.region("bat").length else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """Block and sector sizes and, of a differencing image, where it says its parent is."""
        facts: dict[str, object] = {}
        parameters, sector = self._item(FILE_PARAMETERS), self._item(LOGICAL_SECTOR_SIZE)
        if len(parameters) == 8:
            facts["block_size"] = unpack_from("<I", parameters)[0]
        if len(sector) == 4:
            facts["logical_sector_size"] = unpack("<I", sector)[0]
        locator = dict(self._parent_locator())
        if locator:
            facts["parent_locator"] = locator
        return facts

    def checks(self) -> list[Finding]:
        """What the headers, tables and the BAT say of the image."""
        if not self.format_match or self._size is None:
            return []
        return [*self._headers(), *self._tables(), *self._truncation()]

    def _headers(self) -> Iterator[Finding]:
        headers = [self.captured(name) for name in HEADERS]
        intact = [header for header in headers if _intact(header, b"head", HEADER_BYTES)]
        if all(self.filled(name) for name in HEADERS) and not intact:
            yield found("checksum_mismatch", "neither VHDX header is intact")
        if not intact:
            return
        current = max(intact, key=lambda header: int(unpack_from("<Q", header, 8)[0]))
        if any(current[48:64]):
            yield found("log_replay", "the image was not closed cleanly: its log must be replayed before use")
        version = unpack_from("<H", current, 66)[0]
        if version != 1:
            yield found("unknown_features", f"VHDX version {version} is unknown")

    def _tables(self) -> Iterator[Finding]:
        for entry in self._region_entries or ():
            if entry.required and entry.guid not in self.KNOWN_REGIONS:
                yield found("unknown_features", f"the image requires the unknown region {entry.guid}")
            if entry.offset < MIB:
                yield found("structure", f"the region {entry.guid} lies within the header section")
        if self._region_entries is not None and self._region_entry(BAT_REGION) is None:
            yield found("structure", "the VHDX region table names no BAT region")
        for item in (self._items or {}).values():
            if item.required and item.guid not in self.KNOWN_ITEMS:
                yield found("unknown_features", f"the image requires the unknown metadata item {item.guid}")
        if self._items is None:
            return
        if self.subformat == "differencing" or PARENT_LOCATOR in self._items:
            yield found("parent_image", "a differencing VHDX holds only what differs from its parent image")
        read = all(self.filled(guid) for guid in self.READ_ITEMS if self.has_region(guid))
        if read and not self._bat_entries_needed:
            yield found(
                "structure", "the virtual size, block size or sector size is missing or out of bounds"
            )

    def _truncation(self) -> Iterator[Finding]:
        size = self.actual_size
        if self._region_entries is None:
            if size < max(REGION_TABLES.values()) + TABLE_BYTES:
                yield found("truncated", f"the object ends within the VHDX header section, at {size}")
            return
        for entry in self._region_entries:
            if entry.offset + entry.length > size:
                yield found("truncated", f"the region {entry.guid} ends beyond the object's end at {size}")
        mark = self._high_water_mark
        if mark > size:
            yield found("truncated", f"the BAT leads to bytes up to {mark}, the object has {size}")

    # What the tables lead to

    def _region_entry(self, guid: str) -> Entry | None:
        return next((entry for entry in self._region_entries or () if entry.guid == guid), None)

    def _item(self, guid: str) -> bytes:
        """As much of a metadata item as is read; empty until it is here, short where it is cut."""
        entry = (self._items or {}).get(guid)
        if entry is None:
            return b""
        if self.has_region(guid):
            return self.captured(guid)
        return self.captured("metadata")[entry.offset :][: min(entry.length, self.READ_ITEMS[guid])]

    def _parent_locator(self) -> Iterator[tuple[str, str]]:
        """Keys and values of the parent locator (2.6.2.6): count u16@18, 12 B entries @20, in UTF-16LE."""
        item = self._item(PARENT_LOCATOR)
        if len(item) < 20:
            return
        count = min(unpack_from("<H", item, 18)[0], MAX_LOCATOR_ENTRIES)
        for at in range(20, min(20 + 12 * count, len(item) - 11), 12):
            key_at, value_at, key_length, value_length = unpack_from("<IIHH", item, at)
            key, value = item[key_at : key_at + key_length], item[value_at : value_at + value_length]
            yield printable(key, "utf-16-le"), printable(value, "utf-16-le")

    @property
    def _block_bytes(self) -> int:
        parameters = self._item(FILE_PARAMETERS)
        block = unpack_from("<I", parameters)[0] if len(parameters) == 8 else 0
        # 2.6.2.1: a power of two from 1 MiB to 256 MiB.
        return block if MIB <= block <= 256 * MIB and not block & (block - 1) else 0

    @property
    def _blocks_per_bitmap(self) -> int:
        """How many data blocks share one sector bitmap block, the format's chunk ratio (2.5.1)."""
        sector = int.from_bytes(self._item(LOGICAL_SECTOR_SIZE), "little")
        return (1 << 23) * sector // self._block_bytes if sector in {512, 4096} and self._block_bytes else 0

    @property
    def _bat_entries_needed(self) -> int:
        """Entries of the BAT that the virtual size needs, bitmap blocks included; zero if unknown."""
        ratio = self._blocks_per_bitmap
        if not ratio or not self.virtual_size:
            return 0
        blocks = -(-self.virtual_size // self._block_bytes)
        if self.subformat == "differencing":
            return -(-blocks // ratio) * (ratio + 1)
        return blocks + (blocks - 1) // ratio

    @property
    def _high_water_mark(self) -> int:
        """The end of the last block that the BAT, as far as it is held, leads to."""
        ratio = self._blocks_per_bitmap
        if not ratio:
            return 0
        table = self.captured("bat")
        mark = 0
        wanted = min(self._bat_entries_needed, len(table) // 8) * 8
        for index, (entry,) in enumerate(iter_unpack("<Q", table[:wanted])):
            if entry & 7 in {FULLY_PRESENT, PARTIALLY_PRESENT}:
                length = MIB if index % (ratio + 1) == ratio else self._block_bytes
                mark = max(mark, (entry >> 20) * MIB + length)
        return mark


def _entry(table: bytes, at: int, place: str, *, required: int) -> Entry:
    """The table entry at an offset; `place` is the form of its offset and length, behind the GUID."""
    offset, length = unpack_from(place, table, at + 16)
    return Entry(str(UUID(bytes_le=table[at : at + 16])).upper(), offset, length, bool(required))


def _intact(structure: bytes, signature: bytes, length: int) -> bool:
    """Whether a structure is all there, has its signature and the CRC-32C that it states at 4 to 8."""
    if len(structure) != length or not structure.startswith(signature):
        return False
    return bool(crc32c(structure[:4] + bytes(4) + structure[8:]) == int.from_bytes(structure[4:8], "little"))
