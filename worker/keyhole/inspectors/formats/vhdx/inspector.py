"""Inspects Microsoft VHDX images. All fields are little-endian, including the first three parts of a GUID.

Source: Microsoft, [MS-VHDX], sections 2.2 (header section), 2.3 (log), 2.5 (block allocation table, BAT), 2.6
(metadata region). In the table below, u32@4 means an unsigned number of 32 bits at byte 4 of the structure.

| at | bytes | structure |
|---|---|---|
| 0 | 8 | file identifier `vhdxfile` |
| 64 KiB, 128 KiB | 4096 | headers: `head`, CRC-32C u32@4, sequence u64@8, log GUID @48, version u16@66, log length u32@68, log offset u64@72 |
| 192 KiB, 256 KiB | 64 KiB | region tables: `regi`, CRC-32C u32@4, entries u32@8; from byte 16 on, entries of 32 bytes: GUID, offset u64@16, length u32@24, required u32@28 |
| stated in the region table | 64 KiB | metadata table: `metadata`, number of entries u16@10; from byte 32 on, entries of 32 bytes: GUID, offset u32@16 (in the region), length u32@20, flags u32@24 (bit 2: required) |
| stated in the region table | 8 bytes per entry | BAT: state in bits 0 to 2 (6 fully, 7 partially present), offset in MiB from bit 20 on |

The intact header with the higher sequence number is the valid header. Keyhole uses the first region table
that is intact. The metadata region and the BAT region can be anywhere after the first MiB.

Wholeness: an image is whole if the last block that the BAT points to ends inside the object. If the BAT is
longer than `MAX_BAT_BYTES`, only its beginning is read.
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Iterator, Mapping

from keyhole.inspectors.base import THOROUGH_BYTES, FileInspector
from keyhole.inspectors.errors import ImageFormatError
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.layout import Part, overlaps
from keyhole.inspectors.formats.vhdx import metadata as vhdx_metadata
from keyhole.inspectors.formats.vhdx.bat import Bat
from keyhole.inspectors.formats.vhdx.metadata import (
    DIFFERENCING,
    FILE_PARAMETERS,
    KNOWN_ITEMS,
    LOGICAL_SECTOR_SIZE,
    MAX_DISK_BYTES,
    PARENT_LOCATOR,
    READ_ITEMS,
    REQUIRED_ITEMS,
    Disk,
)
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
from keyhole.inspectors.remembered import Remembered

SIGNATURE = b"vhdxfile"
HEADERS = {"header_1": 64 * KIB, "header_2": 128 * KIB}
REGION_TABLES = {"region_table_1": 192 * KIB, "region_table_2": 256 * KIB}

#: How many bytes of the metadata region are read and kept in memory (held): the metadata table and the items.
#: Writers put the items right after the table, and the items take a few hundred bytes.
MAX_METADATA_BYTES = 128 * KIB
#: How many bytes of the BAT are read and held: 30,720 entries. These entries map 960 GiB of disk at the usual
#: block size of 32 MiB, and 30 GiB at the smallest block size of 1 MiB.
MAX_BAT_BYTES = 240 * KIB
#: At most this many findings of one type are reported. A table can have thousands of entries, but further
#: findings would not change the verdict.
MAX_FINDINGS = 8
BAT_REGION = "2DC27766-F623-4200-9D64-115E9BFD4A08"
#: The first MiB of the file, which contains the headers and the region tables. The first MiB has an `Entry`
#: like a region, so that the search for overlaps also finds regions and blocks that overlap the first MiB.
HEADER_SECTION = Entry("of the headers", 0, MIB, required=True)


class VHDXInspector(FileInspector):
    """Inspects Microsoft VHDX images. The region table points to the metadata with the virtual size."""

    NAME = "vhdx"

    METAREGION = "8B7CA206-4790-4B9A-B8FE-575F050F886E"
    VIRTUAL_DISK_SIZE = vhdx_metadata.VIRTUAL_DISK_SIZE

    KNOWN_REGIONS = frozenset({METAREGION, BAT_REGION})

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self._region_entries: list[Entry] | None = None
        self._item_entries: list[Entry] | None = None
        self._items: dict[str, Entry] = {}
        self.new_region("ident", CaptureRegion(0, len(SIGNATURE)))

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Return whether `prefix`, the object's first bytes, begins with `vhdxfile`."""
        return prefix.startswith(SIGNATURE)

    @property
    def format_match(self) -> bool:
        """Whether the object begins with `vhdxfile`."""
        return self.matches_prefix(self.region("ident").data)

    @property
    def virtual_size(self) -> int:
        """The size in bytes in the metadata item `VIRTUAL_DISK_SIZE`; zero until this item is read."""
        return self._disk.size

    @property
    def subformat(self) -> str | None:
        """`fixed`, `dynamic` or `differencing`, according to the file parameters."""
        return self._disk.subformat

    def post_process(self) -> None:
        """Declare regions for the headers, the tables, the BAT, and items far from the metadata table.

        Raises:
            ImageFormatError: The region table or the metadata table is missing, is damaged, or has more
                entries than the format allows; or the region table lists no metadata region.
        """
        if self._item_entries is not None or not self.format_match:
            return
        if not self.has_region("header_1"):
            for name, offset in HEADERS.items():
                self.new_region(name, CaptureRegion(offset, HEADER_BYTES))
            for name, offset in REGION_TABLES.items():
                self.new_region(name, CaptureRegion(offset, TABLE_BYTES))
        if self._region_entries is None:
            self._read_region_table()
        if self._region_entries is not None:
            self._read_metadata_table()

    def _read_region_table(self) -> None:
        table = self._intact_region_table()
        if table is None:
            return
        entries = region_entries(table)
        metadata = next((entry for entry in entries if entry.guid == self.METAREGION), None)
        if metadata is None:
            raise ImageFormatError("the VHDX region table lists no metadata region")
        self._region_entries = entries
        bat = self._region_entry(BAT_REGION)
        self.new_region("metadata", CaptureRegion(metadata.offset, min(metadata.length, MAX_METADATA_BYTES)))
        if bat is not None:
            most = THOROUGH_BYTES if self.thorough else MAX_BAT_BYTES
            self.new_region("bat", CaptureRegion(bat.offset, min(bat.length, most)))

    def _intact_region_table(self) -> bytes | None:
        """Return the first intact region table, or `None` if it has not been read.

        Raises:
            ImageFormatError: Both region tables are read, and neither is intact.
        """
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
        # If the table lists an item twice, its first entry is used.
        self._items = {entry.guid: entry for entry in reversed(self._item_entries)}
        for guid, longest in READ_ITEMS.items():
            entry = self._items.get(guid)
            length = min(entry.length, longest) if entry else 0
            if entry and entry.offset + length > self.region("metadata").length:
                self.new_region(guid, CaptureRegion(self.region("metadata").offset + entry.offset, length))

    @property
    def wholeness(self) -> Wholeness:
        """Proven if the whole BAT was read, sampled if only the beginning of the BAT was read.

        If the image is truncated, `checks` reports this, and `Inspection` then does not report the image as
        whole.
        """
        entries = self._disk.bat_entries
        if not entries or not self.filled("bat"):
            return Wholeness.UNCHECKED
        return Wholeness.PROVEN if entries * 8 <= self.region("bat").length else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """Return the block size, the sector size, and the parent locator of a differencing image."""
        facts: dict[str, object] = {}
        if len(self._item(FILE_PARAMETERS)) == 8:
            facts["block_size"] = self._disk.stated_block_size
        if len(self._item(LOGICAL_SECTOR_SIZE)) == 4:
            facts["logical_sector_size"] = self._disk.stated_sector_size
        locator = dict(vhdx_metadata.parent_locator(self._item(PARENT_LOCATOR)))
        if locator:
            facts["parent_locator"] = locator
        return facts

    def checks(self) -> list[Finding]:
        """Return findings about the headers, the tables and the BAT."""
        if not self.format_match or self._size is None:
            return []
        disk = self._disk
        bat = Bat.of(self.captured("bat"), disk)
        return [
            *self._headers(),
            *self._regions_stated(),
            *self._items_stated(),
            *self._disk_contradictions(disk, bat),
            *self._overlaps(bat),
            *self._truncation(bat),
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
            yield found("structure", f"the log's version is {header.log_version}, but must be 0")
        if header.log_offset < MIB or header.log_offset % MIB or header.log_length % MIB:
            yield found(
                "structure",
                f"the log at {header.log_offset} is in the first MiB, or its place is not in whole MiB",
            )
        intact = self._intact_headers
        if len({one.sequence for one in intact}) < len({one.raw for one in intact}):
            yield found("structure", "two different VHDX headers have the same sequence number")

    def _regions_stated(self) -> Iterator[Finding]:
        entries = self._region_entries
        if entries is None:
            return
        unknown = [one.guid for one in entries if one.required and one.guid not in self.KNOWN_REGIONS]
        for guid in unknown[:MAX_FINDINGS]:
            yield found("unknown_features", f"the image requires the unknown region {guid}")
        if self._region_entry(BAT_REGION) is None:
            yield found("structure", "the VHDX region table lists no BAT region")
        for guid in repeated(entries)[:MAX_FINDINGS]:
            yield found("structure", f"the VHDX region table lists the region {guid} twice")
        first, second = (self.captured(name) for name in REGION_TABLES)
        first_intact = is_region_table(first)
        second_intact = first_intact if first == second else is_region_table(second)
        if second_intact and len(first) == TABLE_BYTES and not first_intact:
            yield found(
                "checksum_mismatch",
                "the first region table is damaged, and some readers use only this one",
            )
        if first_intact and second_intact and first != second:
            yield found("structure", "the two VHDX region tables contradict each other")

    def _items_stated(self) -> Iterator[Finding]:
        entries, region = self._item_entries, self._region_entry(self.METAREGION)
        if entries is None or region is None:
            return
        unknown = [one.guid for one in entries if one.required and one.guid not in KNOWN_ITEMS]
        for guid in unknown[:MAX_FINDINGS]:
            yield found("unknown_features", f"the image requires the unknown metadata item {guid}")
        if self.subformat == DIFFERENCING or PARENT_LOCATOR in self._items:
            yield found("parent_image", "a differencing VHDX stores only the changes to its parent image")
        for guid in repeated(entries)[:MAX_FINDINGS]:
            yield found("structure", f"the VHDX metadata table lists the item {guid} twice")
        for guid, length in REQUIRED_ITEMS.items():
            item = self._items.get(guid)
            if item is None or item.length != length:
                yield found(
                    "structure", f"the metadata item {guid} is missing or does not have {length} bytes"
                )
            elif item.offset < TABLE_BYTES or item.end > region.length:
                yield found("structure", f"the metadata item {guid} is outside the space for items")

    def _disk_contradictions(self, disk: Disk, bat: Bat) -> Iterator[Finding]:
        """Yield findings about impossible sizes, and about a BAT that does not match the disk."""
        if self._item_entries is None or not all(map(self.filled, filter(self.has_region, READ_ITEMS))):
            return
        region, needed = self._region_entry(BAT_REGION), disk.bat_entries
        if not needed or disk.size > MAX_DISK_BYTES or disk.size % disk.sector_size:
            yield found(
                "structure", "the virtual size, block size or sector size is missing or out of bounds"
            )
        elif region and region.length < 8 * needed:
            yield found(
                "structure", f"a BAT of {region.length} bytes is too short for the {needed} entries needed"
            )
        elif disk.subformat != DIFFERENCING and bat.partial:
            yield found(
                "structure", "the BAT states that a block is partly in a parent, but the image has no parent"
            )

    def _truncation(self, bat: Bat) -> Iterator[Finding]:
        size = self.actual_size
        if self._region_entries is None:
            if size < max(REGION_TABLES.values()) + TABLE_BYTES:
                yield found("truncated", f"the object ends within the VHDX header section, at {size}")
            return
        beyond = [entry for entry in (*self._log_region, *self._region_entries) if entry.end > size]
        for entry in beyond[:MAX_FINDINGS]:
            yield found("truncated", f"the region {entry.guid} ends beyond the object's end at {size}")
        if bat.end > size:
            yield found("truncated", f"the BAT points to bytes up to {bat.end}, the object has {size} bytes")

    # The structures that the tables point to

    @Remembered
    def _intact_headers(self) -> list[Header]:
        headers = (Header.parse(self.captured(name)) for name in HEADERS)
        return [header for header in headers if header]

    @property
    def _header(self) -> Header | None:
        """The valid header; `None` if neither header is intact."""
        return max(self._intact_headers, key=lambda header: header.sequence, default=None)

    @property
    def _log_region(self) -> list[Entry]:
        """The log as a list of one region entry; empty if there is no log."""
        header = self._header
        if header is None or not header.log_length:
            return []
        return [Entry("of the log", header.log_offset, header.log_length, required=True)]

    def _region_entry(self, guid: str) -> Entry | None:
        return next((entry for entry in self._region_entries or () if entry.guid == guid), None)

    def _item(self, guid: str) -> bytes:
        """Return the needed bytes of a metadata item; fewer if not all of them have been read."""
        entry = self._items.get(guid)
        if entry is None:
            return b""
        if self.has_region(guid):
            return self.captured(guid)
        return self.captured("metadata")[entry.offset : entry.offset + min(entry.length, READ_ITEMS[guid])]

    @Remembered
    def _disk(self) -> Disk:
        """The disk, according to the metadata items that were read so far."""
        return Disk.of(
            self._item(self.VIRTUAL_DISK_SIZE), self._item(FILE_PARAMETERS), self._item(LOGICAL_SECTOR_SIZE)
        )

    def _overlaps(self, bat: Bat) -> list[Finding]:
        """Return findings about blocks that overlap the header section, the log, a region, or each other."""
        regions = [HEADER_SECTION, *self._log_region, *(self._region_entries or ())]
        parts = (Part(one.offset, one.end, f"the region {one.guid}") for one in regions)
        return overlaps(parts, *bat.structures())
