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

from array import array
from collections.abc import Iterator, Mapping
from struct import unpack, unpack_from

from keyhole.inspectors.base import THOROUGH_BYTES, FileInspector
from keyhole.inspectors.effort import CALL, spend
from keyhole.inspectors.errors import ImageFormatError
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import little_endian
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.layout import Blocks, Part, overlaps
from keyhole.inspectors.formats.vhdx.tables import (
    HEADER_BYTES,
    KIB,
    MIB,
    TABLE_BYTES,
    Entry,
    Header,
    is_region_table,
    metadata_entries,
    region_entries,
    repeated,
)
from keyhole.inspectors.region import CaptureRegion
from keyhole.inspectors.text import printable

SIGNATURE = b"vhdxfile"
HEADERS = {"header_1": 64 * KIB, "header_2": 128 * KIB}
REGION_TABLES = {"region_table_1": 192 * KIB, "region_table_2": 256 * KIB}

#: The metadata table and the items behind it, which are written right after it and take some hundred bytes.
MAX_METADATA_BYTES = 128 * KIB
#: No item that is read is longer but for a parent locator, whose paths are clamped.
MAX_ITEM_BYTES = 64 * KIB
#: What is held of the BAT: 30,720 entries, 960 GiB at the usual block size of 32 MiB, 30 GiB at the least.
MAX_BAT_BYTES = 240 * KIB
#: A parent locator has a handful of entries.
MAX_LOCATOR_ENTRIES = 16
#: A table may have thousands of entries; this many findings of one kind tell as much.
MAX_FINDINGS = 8
#: The largest disk (2.6.2.2).
MAX_DISK_BYTES = 64 * 1024 * 1024 * MIB

BAT_REGION = "2DC27766-F623-4200-9D64-115E9BFD4A08"
FILE_PARAMETERS = "CAA16737-FA36-4D43-B3B6-33F0AA44E76B"
LOGICAL_SECTOR_SIZE = "8141BF1D-A96F-4709-BA47-F233A8FAAB5F"
PHYSICAL_SECTOR_SIZE = "CDA348C7-445D-4471-9CC9-E9885251C556"
VIRTUAL_DISK_ID = "BECA12AB-B2E6-4523-93EF-C309E000C746"
PARENT_LOCATOR = "A8D35F2D-B30B-454D-ABF7-D3D84834AB0C"

#: Headers and region tables as one more region.
HEADER_SECTION = Entry("of the headers", 0, MIB, required=True)

LEAVE_ALLOCATED, HAS_PARENT = 1, 2
#: The bits of a BAT entry that hold its state.
STATE = 7
FULLY_PRESENT, PARTIALLY_PRESENT = 6, 7


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
    #: Items that every image has, each with its length (2.6.2).
    REQUIRED_ITEMS: Mapping[str, int] = {
        FILE_PARAMETERS: 8,
        VIRTUAL_DISK_SIZE: 8,
        VIRTUAL_DISK_ID: 16,
        LOGICAL_SECTOR_SIZE: 4,
        PHYSICAL_SECTOR_SIZE: 4,
    }
    KNOWN_ITEMS = frozenset({*REQUIRED_ITEMS, PARENT_LOCATOR})

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self._region_entries: list[Entry] | None = None
        self._item_entries: list[Entry] | None = None
        self._items: dict[str, Entry] = {}
        self.new_region("ident", CaptureRegion(0, len(SIGNATURE)))

    @classmethod
    def matches_front(cls, front: bytes) -> bool:
        """Whether the object's first 512 bytes, or fewer, begin with `vhdxfile`."""
        return front.startswith(SIGNATURE)

    @property
    def format_match(self) -> bool:
        """Whether the file begins with `vhdxfile`."""
        return self.matches_front(self.region("ident").data)

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
        if self._region_entries is not None and self._item_entries is None:
            self._read_metadata_table()

    def _read_region_table(self) -> None:
        table = self._intact_region_table()
        if table is None:
            return
        entries = region_entries(table)
        metadata = next((entry for entry in entries if entry.guid == self.METAREGION), None)
        if metadata is None:
            raise ImageFormatError("the VHDX region table names no metadata region")
        self._region_entries = entries
        bat = self._region_entry(BAT_REGION)
        self.new_region("metadata", CaptureRegion(metadata.offset, min(metadata.length, MAX_METADATA_BYTES)))
        if bat is not None:
            most = THOROUGH_BYTES if self.thorough else MAX_BAT_BYTES
            self.new_region("bat", CaptureRegion(bat.offset, min(bat.length, most)))

    def _intact_region_table(self) -> bytes | None:
        """The first region table that is intact, once that is decided; the object may end before both."""
        for name in REGION_TABLES:
            if not self.filled(name):
                return None
            if is_region_table(self.captured(name)):
                return self.captured(name)
        if all(len(self.captured(name)) == TABLE_BYTES for name in REGION_TABLES):
            raise ImageFormatError("neither VHDX region table is intact")
        return None

    def _read_metadata_table(self) -> None:
        table = self.captured("metadata")
        if len(table) < min(TABLE_BYTES, self.region("metadata").length):
            return
        self._item_entries = metadata_entries(table)
        # Of an item that is stated twice the first counts.
        self._items = {entry.guid: entry for entry in reversed(self._item_entries)}
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
        return [
            *self._headers(),
            *self._regions_stated(),
            *self._items_stated(),
            *self._overlaps(),
            *self._truncation(),
        ]

    def _headers(self) -> Iterator[Finding]:
        header = self._header
        if header is None:
            if all(self.filled(name) for name in HEADERS):
                yield found("checksum_mismatch", "neither VHDX header is intact")
            return
        if any(header.log_guid):
            yield found("log_replay", "the image was not closed cleanly: its log must be replayed before use")
        if header.version != 1:
            yield found("unknown_features", f"VHDX version {header.version} is unknown")
        if header.log_version:
            yield found("structure", f"the log's version is {header.log_version}, the only one is 0")
        if header.log_offset < MIB or header.log_offset % MIB or header.log_length % MIB:
            yield found(
                "structure", f"the log at {header.log_offset} does not lie at whole MiB behind the first"
            )
        intact = self._intact_headers
        if len({one.sequence for one in intact}) < len({one.raw for one in intact}):
            yield found("structure", "two VHDX headers of one sequence number contradict each other")

    def _regions_stated(self) -> Iterator[Finding]:
        entries = self._region_entries
        if entries is None:
            return
        unknown = [one.guid for one in entries if one.required and one.guid not in self.KNOWN_REGIONS]
        for guid in unknown[:MAX_FINDINGS]:
            yield found("unknown_features", f"the image requires the unknown region {guid}")
        if self._region_entry(BAT_REGION) is None:
            yield found("structure", "the VHDX region table names no BAT region")
        for guid in repeated(entries)[:MAX_FINDINGS]:
            yield found("structure", f"the VHDX region table names the region {guid} twice")
        first, second = (self.captured(name) for name in REGION_TABLES)
        if is_region_table(second) and len(first) == TABLE_BYTES and not is_region_table(first):
            yield found("checksum_mismatch", "the first region table, all that some readers know, is broken")
        if is_region_table(first) and is_region_table(second) and first != second:
            yield found("structure", "the two VHDX region tables contradict each other")

    def _items_stated(self) -> Iterator[Finding]:
        entries, region = self._item_entries, self._region_entry(self.METAREGION)
        if entries is None or region is None:
            return
        unknown = [one.guid for one in entries if one.required and one.guid not in self.KNOWN_ITEMS]
        for guid in unknown[:MAX_FINDINGS]:
            yield found("unknown_features", f"the image requires the unknown metadata item {guid}")
        if self.subformat == "differencing" or PARENT_LOCATOR in self._items:
            yield found("parent_image", "a differencing VHDX holds only what differs from its parent image")
        for guid in repeated(entries)[:MAX_FINDINGS]:
            yield found("structure", f"the VHDX metadata table names the item {guid} twice")
        for guid, length in self.REQUIRED_ITEMS.items():
            item = self._items.get(guid)
            if item is None or item.length != length:
                yield found("structure", f"the metadata item {guid} is missing, or not of {length} bytes")
            elif item.offset < TABLE_BYTES or item.end > region.length:
                yield found("structure", f"the metadata item {guid} lies outside of its region")
        if all(self.filled(guid) for guid in self.READ_ITEMS if self.has_region(guid)):
            yield from self._disk()

    def _disk(self) -> Iterator[Finding]:
        """Whether the disk and its BAT are possible."""
        entries, size, bat = self._bat_entries_needed, self.virtual_size, self._region_entry(BAT_REGION)
        if not entries or size > MAX_DISK_BYTES or size % self._sector_bytes:
            yield found(
                "structure", "the virtual size, block size or sector size is missing or out of bounds"
            )
        elif bat and bat.length < 8 * entries:
            yield found("structure", f"a BAT of {bat.length} bytes cannot hold the {entries} entries needed")
        elif self.subformat != "differencing" and any(
            one & STATE == PARTIALLY_PRESENT for one in self._bat[0]
        ):
            yield found("structure", "the BAT says that a block is partly a parent's, but there is none")

    def _truncation(self) -> Iterator[Finding]:
        size = self.actual_size
        if self._region_entries is None:
            if size < max(REGION_TABLES.values()) + TABLE_BYTES:
                yield found("truncated", f"the object ends within the VHDX header section, at {size}")
            return
        beyond = [entry for entry in (*self._log_region, *self._region_entries) if entry.end > size]
        for entry in beyond[:MAX_FINDINGS]:
            yield found("truncated", f"the region {entry.guid} ends beyond the object's end at {size}")
        mark = self._high_water_mark
        if mark > size:
            yield found("truncated", f"the BAT leads to bytes up to {mark}, the object has {size}")

    # What the tables lead to

    @property
    def _intact_headers(self) -> list[Header]:
        headers = (Header.parse(self.captured(name)) for name in HEADERS)
        return [header for header in headers if header]

    @property
    def _header(self) -> Header | None:
        """The header that counts; `None` if neither is intact."""
        return max(self._intact_headers, key=lambda header: header.sequence, default=None)

    @property
    def _log_region(self) -> list[Entry]:
        """The log as one more region; none if there is none."""
        header = self._header
        if header is None or not header.log_length:
            return []
        return [Entry("of the log", header.log_offset, header.log_length, required=True)]

    def _region_entry(self, guid: str) -> Entry | None:
        return next((entry for entry in self._region_entries or () if entry.guid == guid), None)

    def _item(self, guid: str) -> bytes:
        """As much of a metadata item as is read; empty until it is here, short where it is cut."""
        entry = self._items.get(guid)
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
    def _sector_bytes(self) -> int:
        sector = int.from_bytes(self._item(LOGICAL_SECTOR_SIZE), "little")
        return sector if sector in {512, 4096} else 0

    @property
    def _blocks_per_bitmap(self) -> int:
        """How many data blocks share one sector bitmap block, the format's chunk ratio (2.5.1)."""
        return (1 << 23) * self._sector_bytes // self._block_bytes if self._block_bytes else 0

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
    def _bat(self) -> "tuple[array[int], array[int]]":
        """Entries of the BAT for blocks and for their bitmaps, as far as the disk needs and they are held."""
        table, ratio = self.captured("bat"), self._blocks_per_bitmap
        spend(CALL)
        blocks = little_endian("Q", table[: 8 * self._bat_entries_needed])
        bitmaps = blocks[ratio :: ratio + 1]
        del blocks[ratio :: ratio + 1]
        return blocks, bitmaps

    @property
    def _high_water_mark(self) -> int:
        """The end of the last block that the BAT, as far as it is held, leads to."""
        marks = [0]
        for entries, length in zip(self._bat, (self._block_bytes, MIB), strict=True):
            present = (entry for entry in entries if entry & STATE in {FULLY_PRESENT, PARTIALLY_PRESENT})
            if last := max(present, default=0):
                marks.append((last >> 20) * MIB + length)
        return max(marks)

    def _overlaps(self) -> list[Finding]:
        """What lies over the header section, the log, a region, or another block."""
        regions = [HEADER_SECTION, *self._log_region, *(self._region_entries or ())]
        blocks, bitmaps = (
            array("Q", (one >> 20 for one in entries if one & STATE in {FULLY_PRESENT, PARTIALLY_PRESENT}))
            for entries in self._bat
        )
        return overlaps(
            (Part(one.offset, one.end, f"the region {one.guid}") for one in regions),
            Blocks("a block", blocks, self._block_bytes, unit=MIB),
            Blocks("a sector bitmap", bitmaps, MIB, unit=MIB),
        )
