"""Inspects VMDKs with a sparse header: monolithicSparse and streamOptimized. All fields are little-endian.

Source: VMware, "Virtual Disk Format 5.0", sections "Hosted Sparse Extents" and "Stream-Optimized Compressed
Sparse Extents"; QEMU, block/vmdk.c. The module `header` lists the header's fields, the module `descriptor`
parses the descriptor.

The footer consists of three sectors: a marker of type 3, a header like the header at the front, and the
end-of-stream marker, which is all zeros. Readers use the header in the footer. So the two headers must be
equal, except for the place of the grain directory and the other fields that `SparseHeader.agrees` ignores.

QEMU searches the 20 sectors after the header for the name of a parent, even if the header states another
place for the descriptor. So Keyhole always searches these sectors, too, and reports grains that overlap them.

An extent of a split disk (`x-s001.vmdk`) has no embedded descriptor. QEMU treats such an extent as a whole
image, and VMware treats it as a part of an image. So Keyhole reports it as unsupported.

Wholeness: an image with a footer is whole if it ends with the end-of-stream marker. An image without a footer
is whole if it contains the last grain that the grain tables point to. The module `grains` describes which
tables are read.
"""

import re
from collections.abc import Iterator, Mapping
from struct import unpack_from

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.ascending import largest
from keyhole.inspectors.formats.layout import Part
from keyhole.inspectors.formats.vmdk import descriptor as vmdk_descriptor
from keyhole.inspectors.formats.vmdk.descriptor import (
    CREATE_TYPE,
    PARENT_CID,
    PARENT_HINT,
    Descriptor,
)
from keyhole.inspectors.formats.vmdk.grains import FOOTER_BYTES, GrainMapInspector
from keyhole.inspectors.formats.vmdk.header import HEADER_BYTES, MAGIC, SparseHeader
from keyhole.inspectors.region import CaptureRegion

#: At most this many bytes of a descriptor are read. Writers reserve 20 sectors (10 KiB) for the descriptor,
#: and QEMU reads only 20 sectors.
MAX_DESCRIPTOR_BYTES = 256 * 1024
#: The usual first sector of a descriptor, right after the header.
DESCRIPTOR_SECTOR = 1
#: The sectors that QEMU searches for the name of a parent (block/vmdk.c, vmdk_parent_open, DESC_SIZE).
SEARCHED = Part(SECTOR, 21 * SECTOR, "the sectors that are searched for a parent")

#: A compressed grain begins with a marker: the grain's first sector on the disk (u64), and the length of its
#: compressed data (u32).
GRAIN_MARKER_BYTES = 12

#: At most this many extents are reported. An image can name thousands of extents, but further findings would
#: not change the verdict.
MAX_FINDINGS = 32

#: Matches an extent's name that is a path or a URL. The only extent of a supported image is the image itself,
#: so its name should be a plain file name. Keyhole accepts every plain file name, because images are often
#: renamed, and readers search for a plain file name only in the folder of the image.
ELSEWHERE = re.compile(r"[/\\:]|^\.{0,2}$")
STREAM_OPTIMIZED = "streamOptimized"
SUPPORTED_TYPES = frozenset({"monolithicSparse", STREAM_OPTIMIZED})
#: The `createType` of split disks, whose extents have no embedded descriptor.
SPLIT = "twoGbMaxExtentSparse"


class VMDKInspector(GrainMapInspector):
    """Inspects sparse VMDKs: the header, the descriptor after the header, and the map of the grains."""

    NAME = "vmdk"
    HEADER_LENGTH = HEADER_BYTES
    SIGNATURES = (MAGIC,)

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self._parsed: Descriptor | None = None

    @property
    def virtual_size(self) -> int:
        """The capacity in bytes; zero until the descriptor is read, or if its `createType` is unsupported."""
        header = self._footer or self._header
        known = self.subformat in SUPPORTED_TYPES or self._is_split
        return header.capacity * SECTOR if header and known else 0

    @property
    def subformat(self) -> str | None:
        """The descriptor's `createType`, or the `createType` of split disks if there is no descriptor."""
        if self._is_split:
            return SPLIT
        return self._descriptor.setting(CREATE_TYPE) if self._descriptor else None

    def post_process(self) -> None:
        """Declare the regions that the header points to: the descriptor, then the map of the grains."""
        header = self._header
        if header is None:
            return
        if not self.has_region("descriptor"):
            place, length = header.descriptor, header.descriptor_sectors * SECTOR
            searched = SEARCHED.end - SEARCHED.start
            if place == DESCRIPTOR_SECTOR:
                length, searched = max(length, searched), 0
            length = min(length, MAX_DESCRIPTOR_BYTES) if place else 0
            self.new_region("descriptor", CaptureRegion(place * SECTOR, length))
            self.new_region("searched", CaptureRegion(SEARCHED.start, searched))
        self._declare_map(self.region("descriptor").length)
        single = header.compressed and not header.has_footer
        if single and not self.has_region("last_grain") and self._map_whole:
            last = self._last_grain
            self.new_region("last_grain", CaptureRegion(last * SECTOR, GRAIN_MARKER_BYTES if last else 0))

    @property
    def wholeness(self) -> Wholeness:
        """Proven if the end-of-stream marker or all grain tables were read, sampled if some tables were read.

        A thorough inspection also reads the tables of images with an end-of-stream marker. If the image is
        truncated, `checks` reports this, and `Inspection` then does not report the image as whole.
        """
        if self._header is None:
            return Wholeness.UNCHECKED
        if self._header.has_footer and not self._footer:
            return Wholeness.UNCHECKED
        if self._header.has_footer and not self.thorough:
            return Wholeness.PROVEN
        if not self._map_seen:
            return Wholeness.UNCHECKED
        return Wholeness.PROVEN if self._map_whole else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """Return the version, the type, the grain size, and the files that the descriptor names."""
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
        """Return findings about other files that the image needs, unknown features, and contradictions."""
        if not self.format_match or not self.filled("header"):
            return []
        header, descriptor = self._header, self._descriptor
        if header is None:
            return [found("truncated", "the object ends within the VMDK header")]
        findings = [*self._leads_outside(header, descriptor)] if descriptor else []
        searched = self.captured("searched")
        if searched and (parent := vmdk_descriptor.parse(searched).parent()):
            findings.append(
                found("parent_image", f"QEMU reads a descriptor after the header: {parent.message}")
            )
        findings += [*self._states(header), *self._header_contradictions(header)]
        if descriptor and not self._is_split:
            findings += self._descriptor_contradictions(header, descriptor)
        findings += self._overlaps(self._parts(header), SEARCHED)
        return [*findings, *self._footer_contradictions(header), *self._truncation(header)]

    def _leads_outside(self, header: SparseHeader, descriptor: Descriptor) -> Iterator[Finding]:
        if parent := descriptor.parent():
            yield parent
        # If the capacity is zero, QEMU treats the image as a text descriptor, and opens the files that the
        # descriptor names.
        own = self.subformat in SUPPORTED_TYPES and len(descriptor.extents) == 1 and header.capacity
        for extent in descriptor.extents[:MAX_FINDINGS]:
            if not own or extent.kind != "SPARSE" or ELSEWHERE.search(extent.file):
                yield found(
                    "extent_path", f"an extent of type {extent.kind} is another file: {extent.file!r}"
                )
        if tracking := descriptor.change_tracking():
            yield tracking

    def _states(self, header: SparseHeader) -> Iterator[Finding]:
        if header.version not in {1, 2, 3}:
            yield found("unknown_features", f"VMDK version {header.version} is unknown")
        if header.unclean or (self._footer and self._footer.unclean):
            yield found("dirty", "the image was not closed cleanly")
        if self._is_split:
            yield found(
                "unsupported_subformat",
                "this is one extent of a split disk, whose descriptor is another file",
            )
        elif header.descriptor != DESCRIPTOR_SECTOR:
            yield found(
                "unsupported_subformat",
                f"the descriptor begins at sector {header.descriptor}, but QEMU reads it from sector 1",
            )
        elif self._descriptor and self.subformat not in SUPPORTED_TYPES:
            yield found("unsupported_subformat", f"Keyhole does not support createType {self.subformat!r}")

    def _header_contradictions(self, header: SparseHeader) -> Iterator[Finding]:
        if header.descriptor_sectors * SECTOR > MAX_DESCRIPTOR_BYTES:
            yield found("structure", f"the header states a descriptor of over {MAX_DESCRIPTOR_BYTES} bytes")
        if not header.tables_needed:
            yield found("structure", "the capacity, grain size or grain table size is out of bounds")
        if not header.method_agrees:
            yield found("structure", "the compression flag and the compression method contradict each other")
        if not header.line_ends_intact:
            yield found(
                "structure", "a transfer as text changed the header's line ends and damaged the image"
            )
        if self._directories_differ:
            yield found("structure", "the two grain directories contradict each other")

    def _descriptor_contradictions(self, header: SparseHeader, descriptor: Descriptor) -> Iterator[Finding]:
        if len(set(descriptor.settings.get(CREATE_TYPE, ()))) > 1 or CREATE_TYPE in descriptor.misplaced:
            yield found(
                "structure", "the descriptor states two createTypes, or mentions createType elsewhere"
            )
        if PARENT_CID in descriptor.misplaced:
            yield found("structure", "the descriptor mentions parentCID where it is not a setting")
        if self.subformat in SUPPORTED_TYPES and (self.subformat == STREAM_OPTIMIZED) != header.compressed:
            yield found("structure", f"createType {self.subformat} contradicts the compression flag")
        sectors = sum(extent.sectors for extent in descriptor.extents)
        # Writers may round the capacity up to whole grains. So the capacity can be larger than the extents by
        # less than a grain.
        if descriptor.extents and not 0 <= header.capacity - sectors < max(header.grain, 1):
            yield found(
                "size_mismatch", f"the extents have {sectors} sectors, the header states {header.capacity}"
            )

    def _footer_contradictions(self, header: SparseHeader) -> Iterator[Finding]:
        if not header.has_footer or self._size is None:
            return
        footer = self._footer
        if self.filled("footer") and not footer:
            yield found("truncated", "the object does not end with a footer and an end-of-stream marker")
        if footer and footer.capacity != header.capacity:
            yield found("size_mismatch", "the header and the footer state different capacities")
        if footer and not header.agrees(footer):
            yield found("structure", "the header and the footer contradict each other")
        if self._size % SECTOR:
            # QEMU rounds the object's length up to whole sectors, and expects the footer three sectors before
            # the rounded end.
            yield found("structure", "the footer does not begin at a whole sector")

    def _truncation(self, header: SparseHeader) -> Iterator[Finding]:
        if self._size is None:
            return
        for name, end in self._places(header):
            if end > self._size:
                yield found("truncated", f"{name} ends at byte {end}, the object ends at {self._size}")

    def _places(self, header: SparseHeader) -> Iterator[tuple[str, int]]:
        """Yield the structures that the object must contain, each with its end in bytes."""
        footer, directory_bytes = self._footer, 4 * header.tables_needed
        if header.descriptor:
            yield "the descriptor", (header.descriptor + header.descriptor_sectors) * SECTOR
        yield "the overhead", (footer or header).overhead * SECTOR
        footer_bytes = FOOTER_BYTES if footer else 0
        for directory in self._directories:
            yield directory.name, directory.sector * SECTOR + directory_bytes + footer_bytes
            if last := largest(self._tables[directory]):
                end = last * SECTOR + header.table_bytes + footer_bytes
                yield f"the last table of {directory.name}", end
        if last := self._last_grain:
            yield "the last grain", last * SECTOR + self._last_grain_bytes(header) + footer_bytes

    def _parts(self, header: SparseHeader) -> Iterator[Part]:
        """Yield the structures that no other structure and no grain is allowed to overlap."""
        yield Part(0, HEADER_BYTES, "the header")
        if header.descriptor:
            start = header.descriptor * SECTOR
            yield Part(start, start + header.descriptor_sectors * SECTOR, "the descriptor")
        if self._footer and self._size is not None:
            yield Part(self._size - FOOTER_BYTES, self._size, "the footer")

    # The headers and the descriptor

    @property
    def _is_split(self) -> bool:
        """Whether the image is an extent of a split disk: its header states no embedded descriptor."""
        header = self._header
        return header is not None and not header.descriptor

    @property
    def _descriptor(self) -> Descriptor | None:
        if self._parsed is None and self.filled("descriptor"):
            self._parsed = vmdk_descriptor.parse(self.captured("descriptor"))
        return self._parsed

    def _last_grain_bytes(self, header: SparseHeader) -> int:
        if not header.compressed:
            return header.grain_bytes
        marker = self.captured("last_grain")
        stated = unpack_from("<I", marker, 8)[0] if len(marker) == GRAIN_MARKER_BYTES else 0
        return GRAIN_MARKER_BYTES + int(stated)
