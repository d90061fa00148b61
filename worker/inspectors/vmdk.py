"""VMware VMDK with a sparse header: monolithicSparse and streamOptimized. All fields are little-endian.

Source: VMware, "Virtual Disk Format 5.0", sections "Hosted Sparse Extents" and "Stream-Optimized Compressed
Sparse Extents"; QEMU, block/vmdk.c, struct VMDK4Header. A sector has 512 bytes.

| offset | bytes | field |
|---|---|---|
| 0 | 4 | magic `KDMV` |
| 4 | 4 | version, 1 to 3 |
| 8 | 4 | flags: 0x2 the redundant grain directory is valid, 0x10000 grains are compressed |
| 12 | 8 | capacity in sectors |
| 20 | 8 | grain size in sectors |
| 28 | 8 | descriptor: first sector |
| 36 | 8 | descriptor: sectors |
| 44 | 4 | entries of a grain table, 512 |
| 48 | 8 | redundant grain directory: first sector |
| 56 | 8 | grain directory: first sector; all ones: a footer at the end holds the header that counts |
| 72 | 1 | unclean shutdown |

The footer is three sectors: a marker of type 3, a header like the one above, and the end-of-stream marker,
all zeros.

Wholeness: with a footer, the end-of-stream marker. Else the grain tables: the highest grain that they lead
to. They lie behind one another; of more than can be held the first and the last are looked at. The
redundant directory is taken where it is valid, for it lies within the first sectors.
"""

from collections.abc import Iterator, Mapping
from struct import iter_unpack, unpack_from

from worker.inspectors import vmdk_descriptor
from worker.inspectors.base import FileInspector
from worker.inspectors.facts import Wholeness
from worker.inspectors.findings import Finding, found
from worker.inspectors.region import CaptureRegion, TailRegion
from worker.inspectors.vmdk_descriptor import Descriptor

MAGIC = b"KDMV"
HEADER_BYTES = 512
SECTOR = 512

#: QEMU reads no more of a descriptor than this, either (block/vmdk.c, vmdk_read_desc).
MAX_DESCRIPTOR_BYTES = 1024 * 1024
#: Where a descriptor stands: right behind the header.
DESCRIPTOR_SECTOR = 1

FOOTER_BYTES = 3 * SECTOR
FOOTER_MARKER = 3
AT_END = 0xFFFFFFFFFFFFFFFF

#: What is held of the grain directory: 16,384 entries, half a TiB at the usual 32 MiB each.
MAX_DIRECTORY_BYTES = 64 * 1024
#: What the descriptor and all grain tables may take together, if these are held whole: tables of 2 KiB, each
#: of 32 MiB of disk, so a disk of 20 GiB beside a usual descriptor.
MAX_HELD_BYTES = 1400 * 1024
#: Of grain tables that are not held whole, this much of the first and of the last.
MAX_SAMPLE_BYTES = 64 * 1024
#: A compressed grain begins with its first sector (u64) and its length (u32).
GRAIN_MARKER_BYTES = 12

REDUNDANT_VALID, COMPRESSED = 0x2, 0x10000
#: An image may name thousands of extents; this many findings tell as much.
MAX_FINDINGS = 32

NO_PARENT = "ffffffff"
SUPPORTED_TYPES = frozenset({"monolithicSparse", "streamOptimized"})


class VMDKInspector(FileInspector):
    """VMware VMDK, sparse variants: the header, the descriptor behind it, and the map of its grains."""

    NAME = "vmdk"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self._parsed: Descriptor | None = None
        self.new_region("header", CaptureRegion(0, HEADER_BYTES))

    @property
    def format_match(self) -> bool:
        """Whether the file begins with `KDMV`."""
        return self.region("header").data.startswith(MAGIC)

    @property
    def virtual_size(self) -> int:
        """The capacity in bytes; zero until the descriptor is here, or if it is of another type."""
        if self.subformat not in SUPPORTED_TYPES:
            return 0
        return self._field(self._footer_header or self._header, "<Q", 12) * SECTOR

    @property
    def subformat(self) -> str | None:
        """The descriptor's `createType`."""
        descriptor = self._descriptor
        return descriptor.setting("createType") if descriptor else None

    def post_process(self) -> None:
        """Declare what the header leads to: descriptor, footer or grain directory, grain tables."""
        if not self._usable:
            return
        if self._descriptor_in_place and not self.has_region("descriptor"):
            length = min(self._field(self._header, "<Q", 36) * SECTOR, MAX_DESCRIPTOR_BYTES)
            self.new_region("descriptor", CaptureRegion(DESCRIPTOR_SECTOR * SECTOR, length))
        if self._has_footer:
            if not self.has_region("footer"):
                self.new_region("footer", TailRegion(FOOTER_BYTES))
        elif not self.has_region("directory"):
            length = min(4 * self._tables_needed, MAX_DIRECTORY_BYTES)
            self.new_region("directory", CaptureRegion(self._directory_sector * SECTOR, length))
        elif self.filled("directory") and not self.has_region("first_tables"):
            self._declare_tables()
        elif self._all_tables_held and self._compressed and not self.has_region("last_grain"):
            last = max(self._grains, default=0)
            self.new_region("last_grain", CaptureRegion(last * SECTOR, GRAIN_MARKER_BYTES if last else 0))

    def _declare_tables(self) -> None:
        """Declare all grain tables if they can be held, else the first and the last of them."""
        tables = self._tables
        start = tables[0] * SECTOR if tables else 0
        end = tables[-1] * SECTOR + self._table_bytes if tables else 0
        if end - start > len(tables) * self._table_bytes:
            # They don't lie behind one another: the last one, which leads to what was written last.
            start = end - self._table_bytes
        described = self.region("descriptor").length if self.has_region("descriptor") else 0
        whole = end - start <= MAX_HELD_BYTES - described
        first = end - start if whole else MAX_SAMPLE_BYTES
        last = 0 if whole else MAX_SAMPLE_BYTES
        self.new_region("first_tables", CaptureRegion(start, first))
        self.new_region("last_tables", CaptureRegion(end - last, last))

    @property
    def wholeness(self) -> Wholeness:
        """Proven by the end-of-stream marker or by all grain tables, sampled by some of them."""
        if not self._usable:
            return Wholeness.UNCHECKED
        if self._has_footer:
            return Wholeness.PROVEN if self._footer_header else Wholeness.UNCHECKED
        if not self._tables_filled:
            return Wholeness.UNCHECKED
        return Wholeness.PROVEN if self._all_tables_held else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """Version, type, grain size, and the extents and parent that the descriptor names."""
        if not self._usable:
            return {}
        facts: dict[str, object] = {
            "version": self._field(self._header, "<I", 4),
            "grain_size": self._field(self._header, "<Q", 20) * SECTOR,
            "compressed": self._compressed,
        }
        if descriptor := self._descriptor:
            facts["create_type"] = self.subformat
            facts["extents"] = [f"{extent.kind} {extent.file}".strip() for extent in descriptor.extents[:32]]
            if parent := descriptor.setting("parentFileNameHint"):
                facts["parent_file_name_hint"] = parent
        return facts

    def checks(self) -> list[Finding]:
        """What leads outside, what is not understood, and what contradicts itself."""
        if not self.format_match or not self.filled("header"):
            return []
        if not self._usable:
            return [found("truncated", "the object ends within the VMDK header")]
        return [*self._leads_outside(), *self._states(), *self._contradictions(), *self._truncation()]

    def _leads_outside(self) -> Iterator[Finding]:
        descriptor = self._descriptor
        if descriptor is None:
            return
        if any(value.lower() != NO_PARENT for value in descriptor.settings.get("parentCID", ())):
            yield found("parent_image", "a delta VMDK holds only what differs from its parent image")
        elif hint := descriptor.setting("parentFileNameHint"):
            yield found("parent_image", f"the image names the parent {hint!r}")
        own = self.subformat in SUPPORTED_TYPES and len(descriptor.extents) == 1
        for extent in descriptor.extents[:MAX_FINDINGS]:
            if not own or extent.kind != "SPARSE" or "/" in extent.file or "\\" in extent.file:
                yield found(
                    "extent_path", f"an extent of type {extent.kind} is another file: {extent.file!r}"
                )
        if path := descriptor.setting("changeTrackPath"):
            yield found("change_track_path", f"changes are tracked in another file: {path!r}")

    def _states(self) -> Iterator[Finding]:
        version = self._field(self._header, "<I", 4)
        if version not in {1, 2, 3}:
            yield found("unknown_features", f"VMDK version {version} is unknown")
        if self._header[72]:
            yield found("dirty", "the image was not closed cleanly")
        if self._descriptor and self.subformat not in SUPPORTED_TYPES:
            yield found(
                "unsupported_subformat", f"the size of createType {self.subformat!r} cannot be told here"
            )

    def _contradictions(self) -> Iterator[Finding]:
        if not self._descriptor_in_place:
            yield found("structure", "the descriptor does not stand right behind the header")
        elif self._field(self._header, "<Q", 36) * SECTOR > MAX_DESCRIPTOR_BYTES:
            yield found("structure", f"the descriptor claims more than {MAX_DESCRIPTOR_BYTES} bytes")
        if self._descriptor and len(set(self._descriptor.settings.get("createType", ()))) > 1:
            yield found("structure", "the descriptor states two values of createType")
        if not self._tables_needed:
            yield found("structure", "capacity, grain size or grain table size are out of bounds")
        footer = self._footer_header
        if footer and self._field(footer, "<Q", 12) != self._field(self._header, "<Q", 12):
            yield found("size_mismatch", "header and footer state different capacities")

    def _truncation(self) -> Iterator[Finding]:
        size = self._size
        if size is None:
            return
        if self._has_footer and self.filled("footer") and not self._footer_header:
            yield found(
                "truncated", "the footer and end-of-stream marker that should end the object are not there"
            )
        places = [
            (
                "descriptor",
                (self._field(self._header, "<Q", 28) + self._field(self._header, "<Q", 36)) * SECTOR,
            )
        ]
        if not self._has_footer:
            places.append(("grain directory", self._directory_sector * SECTOR + 4 * self._tables_needed))
            if self._tables:
                places.append(("last grain table", self._tables[-1] * SECTOR + self._table_bytes))
            if last := max(self._grains, default=0):
                places.append(("last grain", last * SECTOR + self._last_grain_bytes))
        for name, end in places:
            if end > size:
                yield found("truncated", f"the {name} ends at byte {end}, the object at {size}")

    # The header and the descriptor

    @property
    def _usable(self) -> bool:
        return self.format_match and len(self.captured("header")) == HEADER_BYTES

    @property
    def _header(self) -> bytes:
        return self.region("header").data

    def _field(self, header: bytes, form: str, offset: int) -> int:
        return int(unpack_from(form, header, offset)[0])

    @property
    def _descriptor_in_place(self) -> bool:
        return self._field(self._header, "<Q", 28) == DESCRIPTOR_SECTOR

    @property
    def _descriptor(self) -> Descriptor | None:
        if self._parsed is None and self.filled("descriptor"):
            self._parsed = vmdk_descriptor.parse(self.captured("descriptor"))
        return self._parsed

    @property
    def _has_footer(self) -> bool:
        return self._field(self._header, "<Q", 56) == AT_END

    @property
    def _compressed(self) -> bool:
        return bool(self._field(self._header, "<I", 8) & COMPRESSED)

    @property
    def _footer_header(self) -> bytes:
        """The header within the footer; nothing unless its marker and the end-of-stream are there, too."""
        footer = self.captured("footer")
        if (
            len(footer) < FOOTER_BYTES
            or self._field(footer, "<I", 12) != FOOTER_MARKER
            or any(footer[2 * SECTOR :])
        ):
            return b""
        header = footer[SECTOR : 2 * SECTOR]
        return header if header.startswith(MAGIC) else b""

    # The map of the grains

    @property
    def _table_bytes(self) -> int:
        return 4 * self._field(self._header, "<I", 44)

    @property
    def _tables_needed(self) -> int:
        """How many grain tables the capacity needs; zero if the header's sizes are out of bounds."""
        grain, entries = self._field(self._header, "<Q", 20), self._field(self._header, "<I", 44)
        # QEMU's limits (block/vmdk.c, vmdk_add_extent and vmdk_open_vmdk4).
        if not 1 <= grain <= 0x200000 or not 1 <= entries <= 512:
            return 0
        return -(-self._field(self._header, "<Q", 12) // (grain * entries))

    @property
    def _directory_sector(self) -> int:
        redundant = self._field(self._header, "<I", 8) & REDUNDANT_VALID and self._field(
            self._header, "<Q", 48
        )
        return redundant or self._field(self._header, "<Q", 56)

    @property
    def _tables(self) -> list[int]:
        """The first sectors of the grain tables in use, in ascending order."""
        directory = self.captured("directory")
        return sorted(
            {entry for (entry,) in iter_unpack("<I", directory[: len(directory) // 4 * 4]) if entry}
        )

    @property
    def _tables_filled(self) -> bool:
        return self.filled("first_tables") and self.filled("last_tables")

    @property
    def _all_tables_held(self) -> bool:
        held = self._tables_filled and self.region("first_tables").length + self.region("last_tables").length
        directory_held = 4 * self._tables_needed <= MAX_DIRECTORY_BYTES
        return self._tables_filled and directory_held and held == len(self._tables) * self._table_bytes

    @property
    def _grains(self) -> Iterator[int]:
        """The first sectors of the grains that the held tables lead to; 0 is none, 1 a grain of zeros."""
        for name in ("first_tables", "last_tables"):
            tables = self.captured(name)
            yield from (entry for (entry,) in iter_unpack("<I", tables[: len(tables) // 4 * 4]) if entry > 1)

    @property
    def _last_grain_bytes(self) -> int:
        if not self._compressed:
            return self._field(self._header, "<Q", 20) * SECTOR
        marker = self.captured("last_grain")
        return GRAIN_MARKER_BYTES + (self._field(marker, "<I", 8) if len(marker) == GRAIN_MARKER_BYTES else 0)
