"""VMware VMDK with a sparse header: monolithicSparse and streamOptimized. All fields are little-endian.

Source: VMware, "Virtual Disk Format 5.0", sections "Hosted Sparse Extents" and "Stream-Optimized Compressed
Sparse Extents"; QEMU, block/vmdk.c. The header's fields stand in `worker.inspectors.vmdk_header`, the
descriptor's in `worker.inspectors.vmdk_descriptor`.

The footer is three sectors: a marker of type 3, a header like the one in front, and the end-of-stream
marker, all zeros. Readers go by the footer's header, so but for where its grain directory lies it must say
what the other says.

QEMU looks for a parent in the 20 sectors behind the header, whatever the header says of the descriptor; so
these are read as descriptor at least.

Wholeness: with a footer, the end-of-stream marker. Else the grain tables: the highest grain that they lead
to. They lie behind one another; of more than can be held the first and the last are looked at. The
redundant directory is taken where it is valid, for it lies within the first sectors; the other must lead into
the object, too.
"""

from collections.abc import Iterator, Mapping
from struct import unpack_from

from worker.inspectors import vmdk_descriptor
from worker.inspectors.facts import Wholeness
from worker.inspectors.findings import Finding, found
from worker.inspectors.front import FrontInspector
from worker.inspectors.region import CaptureRegion, TailRegion
from worker.inspectors.vmdk_descriptor import (
    CHANGE_TRACK_PATH,
    CREATE_TYPE,
    PARENT_CID,
    PARENT_HINT,
    Descriptor,
)
from worker.inspectors.vmdk_header import HEADER_BYTES, MAGIC, SECTOR, SparseHeader

#: Writers make room for 20 sectors (10 KiB), and QEMU reads no more.
MAX_DESCRIPTOR_BYTES = 256 * 1024
#: What QEMU reads in search of a parent (block/vmdk.c, DESC_SIZE).
LEAST_DESCRIPTOR_BYTES = 20 * SECTOR
#: Where a descriptor stands: right behind the header.
DESCRIPTOR_SECTOR = 1

FOOTER_BYTES = 3 * SECTOR
FOOTER_MARKER = 3

#: The regions of the first grain directory, which may be the redundant one, and of the other.
DIRECTORIES = ("directory", "primary")
#: What is held of the grain directory: 16,384 entries, half a TiB at the usual 32 MiB each.
MAX_DIRECTORY_BYTES = 64 * 1024
#: What the descriptor and all grain tables may take together, if these are held whole: tables of 2 KiB, each
#: of 32 MiB of disk, so a disk of 20 GiB beside a usual descriptor.
MAX_HELD_BYTES = 1400 * 1024
#: The primary grain tables, which say the same as the redundant ones, are looked at where they end as near as
#: this: further off, with disks beyond 2 GiB, they would cost a request.
NEAR_BYTES = 256 * 1024
#: Of grain tables that are not held whole, this much of the first and of the last.
MAX_SAMPLE_BYTES = 64 * 1024
#: A compressed grain begins with its first sector (u64) and its length (u32).
GRAIN_MARKER_BYTES = 12

#: An image may name thousands of extents; this many findings tell as much.
MAX_FINDINGS = 32

NO_PARENT = "ffffffff"
STREAM_OPTIMIZED = "streamOptimized"
SUPPORTED_TYPES = frozenset({"monolithicSparse", STREAM_OPTIMIZED})
#: In a grain table: a grain of zeros, which is not stored.
ZERO_GRAIN = 1


class VMDKInspector(FrontInspector):
    """VMware VMDK, sparse variants: the header, the descriptor behind it, and the map of its grains."""

    NAME = "vmdk"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self._parsed: Descriptor | None = None
        self.new_region("header", CaptureRegion(0, HEADER_BYTES))

    @classmethod
    def matches_front(cls, front: bytes) -> bool:
        """Whether the object's first 512 bytes, or fewer, begin with `KDMV`."""
        return front.startswith(MAGIC)

    @property
    def virtual_size(self) -> int:
        """The capacity in bytes; zero until the descriptor is here, or if it is of another type."""
        header = self._footer or self._header
        return header.capacity * SECTOR if header and self.subformat in SUPPORTED_TYPES else 0

    @property
    def subformat(self) -> str | None:
        """The descriptor's `createType`."""
        descriptor = self._descriptor
        return descriptor.setting(CREATE_TYPE) if descriptor else None

    def post_process(self) -> None:
        """Declare what the header leads to: descriptor, footer or grain directory, grain tables."""
        header = self._header
        if header is None:
            return
        if header.descriptor == DESCRIPTOR_SECTOR and not self.has_region("descriptor"):
            length = max(header.descriptor_sectors * SECTOR, LEAST_DESCRIPTOR_BYTES)
            place = CaptureRegion(DESCRIPTOR_SECTOR * SECTOR, min(length, MAX_DESCRIPTOR_BYTES))
            self.new_region("descriptor", place)
        if header.has_footer:
            if not self.has_region("footer"):
                self.new_region("footer", TailRegion(FOOTER_BYTES))
        elif not self.has_region("directory"):
            length = min(4 * header.tables_needed, MAX_DIRECTORY_BYTES)
            self.new_region("directory", CaptureRegion(header.first_directory * SECTOR, length))
        elif self.filled("directory") and not self.has_region("first_tables"):
            self._declare_tables(header)
        elif not self.has_region("primary_tables") and self.filled("primary") and self._all_tables_held:
            self._declare_primary_tables()
        elif header.compressed and not self.has_region("last_grain") and self._all_tables_held:
            last = self._last_grain
            self.new_region("last_grain", CaptureRegion(last * SECTOR, GRAIN_MARKER_BYTES if last else 0))

    def _declare_tables(self, header: SparseHeader) -> None:
        """Declare all grain tables if they can be held, else the first and the last of them."""
        tables = self._tables("directory")
        start = tables[0] * SECTOR if tables else 0
        end = tables[-1] * SECTOR + header.table_bytes if tables else 0
        if end - start > len(tables) * header.table_bytes:
            # They don't lie behind one another: the last one, which leads to what was written last.
            start = end - header.table_bytes
        whole = end - start <= self._room
        first = end - start if whole else MAX_SAMPLE_BYTES
        last = 0 if whole else MAX_SAMPLE_BYTES
        self.new_region("first_tables", CaptureRegion(start, first))
        self.new_region("last_tables", CaptureRegion(end - last, last))
        # The primary directory lies behind the redundant tables, near enough to be fetched with them.
        other = self._directory_held and header.first_directory != header.directory
        length = 4 * header.tables_needed if other else 0
        self.new_region("primary", CaptureRegion(header.directory * SECTOR, length))

    def _declare_primary_tables(self) -> None:
        """Declare the primary directory's tables, too, if they lie as the others do, and near."""
        tables, others = self._tables("primary"), self._tables("directory")
        length = self.region("first_tables").length
        alike = [table - tables[0] for table in tables] == [table - others[0] for table in others]
        near = tables and alike and tables[0] * SECTOR + length <= NEAR_BYTES
        start = tables[0] * SECTOR if near else 0
        self.new_region("primary_tables", CaptureRegion(start, length if near else 0))

    @property
    def wholeness(self) -> Wholeness:
        """Proven by the end-of-stream marker or by all grain tables, sampled by some of them."""
        if self._header is None:
            return Wholeness.UNCHECKED
        if self._header.has_footer:
            return Wholeness.PROVEN if self._footer else Wholeness.UNCHECKED
        if not self._tables_filled:
            return Wholeness.UNCHECKED
        return Wholeness.PROVEN if self._all_tables_held else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """Version, type, grain size, and the extents and parent that the descriptor names."""
        header, descriptor = self._header, self._descriptor
        if header is None:
            return {}
        facts: dict[str, object] = {
            "version": header.version,
            "grain_size": header.grain_bytes,
            "compressed": header.compressed,
        }
        if descriptor:
            extents = descriptor.extents[:MAX_FINDINGS]
            facts["create_type"] = self.subformat
            facts["extents"] = [f"{extent.kind} {extent.file}".strip() for extent in extents]
            if parent := descriptor.setting(PARENT_HINT):
                facts["parent_file_name_hint"] = parent
        return facts

    def checks(self) -> list[Finding]:
        """What leads outside, what is not understood, and what contradicts itself."""
        if not self.format_match or not self.filled("header"):
            return []
        header, descriptor = self._header, self._descriptor
        if header is None:
            return [found("truncated", "the object ends within the VMDK header")]
        findings = [*self._leads_outside(descriptor)] if descriptor else []
        findings += [*self._states(header), *self._header_contradictions(header)]
        if descriptor:
            findings += self._descriptor_contradictions(header, descriptor)
        return [*findings, *self._footer_contradictions(header), *self._truncation(header)]

    def _leads_outside(self, descriptor: Descriptor) -> Iterator[Finding]:
        hint = descriptor.setting(PARENT_HINT)
        if any(value.lower() != NO_PARENT for value in descriptor.settings.get(PARENT_CID, ())):
            yield found("parent_image", "a delta VMDK holds only what differs from its parent image")
        elif hint is not None or PARENT_HINT in descriptor.strays:
            yield found("parent_image", f"the image names the parent {hint or ''!r}")
        own = self.subformat in SUPPORTED_TYPES and len(descriptor.extents) == 1
        for extent in descriptor.extents[:MAX_FINDINGS]:
            if not own or extent.kind != "SPARSE" or "/" in extent.file or "\\" in extent.file:
                yield found(
                    "extent_path", f"an extent of type {extent.kind} is another file: {extent.file!r}"
                )
        path = descriptor.setting(CHANGE_TRACK_PATH)
        if path or CHANGE_TRACK_PATH in descriptor.strays:
            yield found("change_track_path", f"changes are tracked in another file: {path or ''!r}")

    def _states(self, header: SparseHeader) -> Iterator[Finding]:
        if header.version not in {1, 2, 3}:
            yield found("unknown_features", f"VMDK version {header.version} is unknown")
        if header.unclean or (self._footer and self._footer.unclean):
            yield found("dirty", "the image was not closed cleanly")
        if self._descriptor and self.subformat not in SUPPORTED_TYPES:
            yield found(
                "unsupported_subformat", f"the size of createType {self.subformat!r} cannot be told here"
            )

    def _header_contradictions(self, header: SparseHeader) -> Iterator[Finding]:
        if header.descriptor != DESCRIPTOR_SECTOR:
            yield found("structure", "the descriptor does not stand right behind the header")
        elif header.descriptor_sectors * SECTOR > MAX_DESCRIPTOR_BYTES:
            yield found("structure", f"the descriptor claims more than {MAX_DESCRIPTOR_BYTES} bytes")
        if not header.tables_needed:
            yield found("structure", "capacity, grain size or grain table size are out of bounds")
        if not header.method_agrees:
            yield found("structure", "the flag of compression and its method contradict each other")
        if not header.line_ends_intact:
            yield found("structure", "a transfer as text changed the line ends, and so the rest")
        described = header.descriptor + header.descriptor_sectors
        if any(table < described for name in DIRECTORIES for table in self._tables(name)):
            yield found("structure", "a grain table lies over the descriptor")
        if self._directories_differ:
            yield found("structure", "the two grain directories contradict each other")

    def _descriptor_contradictions(self, header: SparseHeader, descriptor: Descriptor) -> Iterator[Finding]:
        if len(set(descriptor.settings.get(CREATE_TYPE, ()))) > 1 or CREATE_TYPE in descriptor.strays:
            yield found("structure", "the descriptor states createType twice, or where no setting stands")
        if PARENT_CID in descriptor.strays:
            yield found("structure", "the descriptor states parentCID where no setting stands")
        if self.subformat in SUPPORTED_TYPES and (self.subformat == STREAM_OPTIMIZED) != header.compressed:
            yield found("structure", f"createType is {self.subformat}, the header says otherwise")
        sectors = sum(extent.sectors for extent in descriptor.extents)
        # The capacity may be rounded up to a whole grain.
        if descriptor.extents and not 0 <= header.capacity - sectors < max(header.grain, 1):
            yield found(
                "size_mismatch", f"the extents have {sectors} sectors, the header says {header.capacity}"
            )

    def _footer_contradictions(self, header: SparseHeader) -> Iterator[Finding]:
        if not header.has_footer or self._size is None:
            return
        footer = self._footer
        if self.filled("footer") and not footer:
            yield found(
                "truncated", "the footer and end-of-stream marker that should end the object are not there"
            )
        if footer and footer.capacity != header.capacity:
            yield found("size_mismatch", "header and footer state different capacities")
        if footer and not header.agrees(footer):
            yield found("structure", "header and footer contradict each other")
        if self._size % SECTOR:
            # QEMU looks for it three sectors before the end, rounded up.
            yield found("structure", "the footer does not begin at a whole sector")

    def _truncation(self, header: SparseHeader) -> Iterator[Finding]:
        if self._size is None:
            return
        for name, end in self._places(header):
            if end > self._size:
                yield found("truncated", f"the {name} ends at byte {end}, the object at {self._size}")

    def _places(self, header: SparseHeader) -> Iterator[tuple[str, int]]:
        """What the object must hold, each with its end in bytes."""
        footer, directory_bytes = self._footer, 4 * header.tables_needed
        yield "descriptor", (header.descriptor + header.descriptor_sectors) * SECTOR
        yield "overhead", (footer or header).overhead * SECTOR
        if footer:
            yield "grain directory", footer.directory * SECTOR + directory_bytes + FOOTER_BYTES
        if header.has_footer:
            return
        yield "first grain directory", header.first_directory * SECTOR + directory_bytes
        yield "grain directory", header.directory * SECTOR + directory_bytes
        for name in DIRECTORIES:
            if last := max(self._entries(name), default=0):
                yield "last grain table", last * SECTOR + header.table_bytes
        if last := self._last_grain:
            yield "last grain", last * SECTOR + self._last_grain_bytes(header)

    # The headers and the descriptor

    @property
    def _header(self) -> SparseHeader | None:
        """The header in front; `None` until all of it is here."""
        return SparseHeader.parse(self.region("header").data)

    @property
    def _descriptor(self) -> Descriptor | None:
        if self._parsed is None and self.filled("descriptor"):
            self._parsed = vmdk_descriptor.parse(self.captured("descriptor"))
        return self._parsed

    @property
    def _footer(self) -> SparseHeader | None:
        """The header within the footer; `None` unless its marker and the end-of-stream are there, too."""
        footer = self.captured("footer")
        if len(footer) < FOOTER_BYTES or any(footer[2 * SECTOR :]):
            return None
        marked = unpack_from("<II", footer, 8) == (0, FOOTER_MARKER)
        return SparseHeader.parse(footer[SECTOR : 2 * SECTOR]) if marked else None

    # The map of the grains

    @property
    def _room(self) -> int:
        """How many bytes of grain tables can be held beside the descriptor."""
        described = self.region("descriptor").length if self.has_region("descriptor") else 0
        return MAX_HELD_BYTES - described

    def _tables(self, directory: str) -> list[int]:
        """The first sectors of the grain tables that a directory leads to, in ascending order."""
        return sorted({entry for entry in self._entries(directory) if entry})

    @property
    def _directories_differ(self) -> bool:
        """Whether a grain table or a grain is there by one directory and not by the other."""
        directory, primary = self._entries("directory"), self._entries("primary")
        if primary and [not entry for entry in directory] != [not entry for entry in primary]:
            return True
        tables = self.captured("primary_tables")
        return bool(tables) and tables != self.captured("first_tables")

    @property
    def _directory_held(self) -> bool:
        return self._header is not None and 4 * self._header.tables_needed <= MAX_DIRECTORY_BYTES

    @property
    def _tables_filled(self) -> bool:
        return self.filled("first_tables") and self.filled("last_tables")

    @property
    def _all_tables_held(self) -> bool:
        if self._header is None or not self._tables_filled or not self._directory_held:
            return False
        if self.region("last_tables").length:
            return False
        return self.region("first_tables").length == len(self._tables("directory")) * self._header.table_bytes

    @property
    def _last_grain(self) -> int:
        """The first sector of the last grain that the held tables lead to; zero if they lead to none."""
        last = max(max(self._entries(name), default=0) for name in ("first_tables", "last_tables"))
        return last if last > ZERO_GRAIN else 0

    def _last_grain_bytes(self, header: SparseHeader) -> int:
        if not header.compressed:
            return header.grain_bytes
        marker = self.captured("last_grain")
        stated = unpack_from("<I", marker, 8)[0] if len(marker) == GRAIN_MARKER_BYTES else 0
        return GRAIN_MARKER_BYTES + int(stated)

    def _entries(self, name: str) -> tuple[int, ...]:
        """A region as the u32 entries of a grain directory or of grain tables."""
        data = self.captured(name)
        return unpack_from(f"<{len(data) // 4}I", data)
