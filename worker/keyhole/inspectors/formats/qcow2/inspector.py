"""QEMU's qcow2, versions 2 and 3. All fields are big-endian; the module `header` lists them.

Source: QEMU, docs/interop/qcow2.txt, sections "Header", "Header extensions", "Host cluster management".

Wholeness: the last refcount block shows which cluster is the last one in use, because the block's last
nonzero refcount belongs to this cluster. The last cluster in use must begin inside the object. The end of
this cluster may be missing, because QEMU does not pad a file to whole clusters. The module `maps` states
which other tables are read.
"""

from collections.abc import Iterator, Mapping
from functools import reduce
from operator import or_
from struct import unpack_from

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import Finding, Severity, found
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.layout import Part
from keyhole.inspectors.formats.qcow2.consistency import map_findings
from keyhole.inspectors.formats.qcow2.header import (
    COMPRESSION,
    CORRUPT,
    DATA_FILE,
    DIRTY,
    EXTENDED_L2,
    HEADER_BYTES,
    MAGIC,
    MAX_NAME_BYTES,
    RAW_DATA_FILE,
    Extensions,
    Header,
)
from keyhole.inspectors.formats.qcow2.maps import L1_OFFSET, L1_RESERVED, SNAPSHOT_BYTES, QcowMaps
from keyhole.inspectors.region import ByteRange, CaptureRegion
from keyhole.inspectors.remembered import Remembered
from keyhole.inspectors.text import printable

#: The first 8 bytes of an image: the magic, followed by version 2 or 3.
VERSIONS = (MAGIC + b"\0\0\0\2", MAGIC + b"\0\0\0\3")
#: QEMU's limits (block/qcow2.h: QCOW_MAX_L1_SIZE, QCOW_MAX_REFTABLE_SIZE, QCOW_MAX_SNAPSHOTS).
MAX_L1_BYTES = 32 * 1024 * 1024
MAX_REFCOUNT_TABLE_BYTES = 8 * 1024 * 1024
MAX_SNAPSHOTS = 65536
#: The smallest cluster size in bytes that allows extended L2 entries. An extended L2 entry divides a cluster
#: into 32 subclusters, and a subcluster has at least 512 bytes.
LEAST_EXTENDED_CLUSTER = 32 * SECTOR

FEATURE_NAMES = {
    DIRTY: "dirty",
    CORRUPT: "corrupt",
    DATA_FILE: "data_file",
    COMPRESSION: "compression_type",
    EXTENDED_L2: "extended_l2",
}
KNOWN_INCOMPATIBLE = sum(FEATURE_NAMES)
ENCRYPTIONS = {1: "aes", 2: "luks"}
LUKS = 2
COMPRESSIONS = {0: "zlib", 1: "zstd"}

EXTENSION_BACKING_FORMAT = 0xE2792ACA
EXTENSION_DATA_FILE = 0x44415441
EXTENSION_ENCRYPTION = 0x0537BE77
EXTENSION_BITMAPS = 0x23852875
#: Header extensions that point to a structure. Each value is the structure's name, and the positions of the
#: structure's offset and length in the extension's data.
POINTERS = {
    EXTENSION_ENCRYPTION: ("the encryption header", 0, 8),
    EXTENSION_BITMAPS: ("the bitmap directory", 16, 8),
}
NO_EXTENSIONS = Extensions((), ended=True)


class QcowInspector(HeaderInspector):
    """QEMU qcow2: the header states the virtual size, and the refcounts show whether the image is whole."""

    NAME = "qcow2"
    HEADER_LENGTH = HEADER_BYTES
    SIGNATURES = VERSIONS
    BYTE_ORDER = "big"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        # The header; `None` until the whole header has been read, and also if the header is cut off or out of
        # bounds.
        self._header: Header | None = None
        self._maps: QcowMaps | None = None

    @property
    def virtual_size(self) -> int:
        """The virtual size in bytes that the header states; zero until this field has been read."""
        return self._u64(24) if self.format_match and len(self.region("header").data) >= 32 else 0

    @property
    def subformat(self) -> str | None:
        """`v2` or `v3`."""
        return f"v{self._u32(4)}" if self.format_match else None

    def post_process(self) -> None:
        """Declare regions for header extensions, the backing file's name and, step by step, the tables."""
        if self._maps is None and self.filled("header") and self.format_match:
            header = Header.parse(self.captured("header"))
            if header is not None and header.in_bounds:
                self._header, self._maps = header, QcowMaps(self, header)
                self._declare_beyond_header("extensions", header.extensions)
                if header.backing_offset:
                    self._declare_beyond_header("backing_name", header.backing_name)
        if self._maps is not None:
            self._maps.declare()

    def _declare_beyond_header(self, name: str, wanted: ByteRange) -> None:
        """Declare a region for the part of `wanted` that is after the region `header`.

        A stream has already passed the bytes of the region `header`, so they cannot be captured again.
        """
        start = max(wanted.offset, HEADER_BYTES)
        self.new_region(name, CaptureRegion(start, max(0, wanted.end - start)))

    def _with_header(self, name: str, wanted: ByteRange) -> bytes:
        """Return the bytes of a range that `_declare_beyond_header` declared; empty until all are read."""
        if not self.filled(name):
            return b""
        return self.captured("header")[wanted.offset : wanted.end] + self.captured(name)

    @property
    def wholeness(self) -> Wholeness:
        """`PROVEN` if the refcount table and its last block were read completely, `SAMPLED` if only partly.

        For a thorough inspector, the result is `PROVEN` only if all tables were read.
        """
        header, maps = self._header, self._maps
        if header is None or maps is None or not header.refcounts_right:
            return Wholeness.UNCHECKED
        if maps.last_cluster is None:
            # The last refcount block has not been read, or all of its refcounts are zero. If all are zero,
            # the last cluster in use has its refcount in an earlier block, which was not read.
            return Wholeness.UNCHECKED
        if self.thorough:
            return Wholeness.PROVEN if maps.whole else Wholeness.SAMPLED
        table_whole = maps.length("refcount_table") == header.refcount_table.length
        block_whole = maps.length("refcount_block") == header.cluster_bytes
        return Wholeness.PROVEN if table_whole and block_whole else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """Return the version, the sizes, the features, the encryption, and the names of other files."""
        return self._details

    @Remembered
    def _details(self) -> Mapping[str, object]:
        """The version, the sizes, the features, the encryption, and the names of other files."""
        header = self._header
        if header is None:
            return {}
        facts: dict[str, object] = {
            "version": header.version,
            "cluster_size": header.cluster_bytes,
            "refcount_bits": header.refcount_bits,
            "snapshots": header.snapshots,
            "features": [name for bit, name in FEATURE_NAMES.items() if header.incompatible & bit],
            "compression": COMPRESSIONS.get(header.compression, str(header.compression)),
        }
        if header.encryption:
            facts["encryption"] = ENCRYPTIONS.get(header.encryption, str(header.encryption))
        if header.backing_offset:
            facts["backing_file"] = printable(self._with_header("backing_name", header.backing_name))
        for kind, body in self._extensions.entries:
            if kind == EXTENSION_BACKING_FORMAT:
                facts["backing_format"] = printable(body)
            elif kind == EXTENSION_DATA_FILE:
                facts["data_file"] = printable(body)
        return facts

    def checks(self) -> list[Finding]:
        """Return findings on other files that the image needs, on features, and on contradictions."""
        if not self.format_match or not self.filled("header"):
            return []
        header, maps = self._header, self._maps
        if header is None or maps is None:
            return [self._unusable()]
        return [
            *self._leads_outside(header),
            *self._states(header),
            *self._contradictions(header),
            *self._table_contradictions(header, maps),
            *map_findings(maps, self._pointed_at()),
            *self._truncation(header, maps),
        ]

    def _unusable(self) -> Finding:
        if Header.parse(self.captured("header")) is None:
            return found("truncated", "the object ends within the qcow2 header")
        return found("structure", "the header's cluster size, refcount order or length is out of bounds")

    def _leads_outside(self, header: Header) -> Iterator[Finding]:
        details = self._details
        if header.backing_offset:
            name = details["backing_file"]
            yield found("backing_file", f"opening the image also opens its backing file {name!r}")
        elif "backing_format" in details:
            yield found("structure", "the image states the format of a backing file, but has no backing file")
        if not header.has_data or "data_file" in details:
            name = details.get("data_file", "an unnamed file")
            yield found("data_file", f"the disk's content is in another file: {name!r}")

    def _states(self, header: Header) -> Iterator[Finding]:
        unknown = header.incompatible & ~KNOWN_INCOMPATIBLE
        if unknown:
            yield found("unknown_features", f"incompatible feature bits {unknown:#x} are unknown")
        if header.compression not in COMPRESSIONS:
            yield found("unknown_features", f"compression type {header.compression} is unknown")
        if header.incompatible & CORRUPT:
            yield found("corrupt_flag", "the image is marked corrupt; repair it with `qemu-img check -r`")
        if header.incompatible & DIRTY:
            yield found("dirty", "the image was not closed cleanly; run `qemu-img check -r all` on it")
        if header.encryption:
            method = ENCRYPTIONS.get(header.encryption, "unknown")
            yield found("encrypted", f"the content is encrypted ({method})")
        if header.snapshots:
            yield found("snapshots", f"the image has {header.snapshots} internal snapshot(s)")

    def _contradictions(self, header: Header) -> Iterator[Finding]:
        cluster = header.cluster_bytes
        if header.backing_offset and not (
            header.length <= header.backing_offset <= cluster - min(header.backing_length, cluster)
            and 0 < header.backing_length <= MAX_NAME_BYTES
        ):
            message = "the backing file's name has an invalid length or is not within the first cluster"
            yield found("structure", message)
        if header.disk_bytes % SECTOR:
            yield found(
                "structure", f"the virtual size of {header.disk_bytes} bytes is not a multiple of 512"
            )
        if bool(header.compression) != bool(header.incompatible & COMPRESSION):
            yield found("structure", "the compression type and its feature bit contradict each other")
        if header.autoclear & RAW_DATA_FILE and header.has_data:
            yield found("structure", "the header marks the data file as raw, but there is no data file")
        if header.extended and cluster < LEAST_EXTENDED_CLUSTER:
            yield found("structure", f"clusters of {cluster} bytes are too small for extended L2 entries")
        if not self._extensions.ended:
            yield found("structure", "the list of header extensions has no valid end")
        kinds = {kind for kind, _ in self._extensions.entries}
        if header.encryption != LUKS and EXTENSION_ENCRYPTION in kinds:
            yield found("structure", "the image has a LUKS header, but its encryption method is not LUKS")

    def _table_contradictions(self, header: Header, maps: QcowMaps) -> Iterator[Finding]:
        cluster = header.cluster_bytes
        for name, table, needed in (
            ("L1 table", header.l1_table, header.l1_entries > 0),
            ("refcount table", header.refcount_table, True),
        ):
            if table.offset % cluster or (needed and not table.offset):
                yield found("structure", f"the {name}'s offset {table.offset} is not a valid cluster offset")
        if header.l1_table.length > MAX_L1_BYTES:
            yield found("structure", f"the L1 table has {header.l1_entries} entries, more than qcow2 allows")
        elif header.l1_entries < header.l1_entries_needed:
            yield found("size_mismatch", "the L1 table is too short for the virtual size")
        if reduce(or_, maps.l1_table, 0) & (L1_RESERVED | (cluster - 1) & L1_OFFSET):
            message = "an L1 entry has reserved bits set or does not point to the start of a cluster"
            yield found("structure", message)
        if not 0 < header.refcount_table.length <= MAX_REFCOUNT_TABLE_BYTES:
            clusters = header.refcount_table_clusters
            yield found("structure", f"a refcount table of {clusters} clusters is not allowed")
        block = maps.last_block
        if block and (not block.offset or block.offset % cluster):
            message = f"the refcount block's offset {block.offset} is not a valid cluster offset"
            yield found("structure", message)
        snapshots, table_offset = header.snapshots, header.snapshot_table_offset
        if snapshots > MAX_SNAPSHOTS or table_offset % cluster or (snapshots and not table_offset):
            yield found("structure", "the snapshot table is too large, or its offset is not valid")

    def _truncation(self, header: Header, maps: QcowMaps) -> Iterator[Finding]:
        size = self._size
        if size is None:
            return
        places = [("header extensions", header.length), ("refcount table", header.refcount_table_offset)]
        if header.l1_entries:
            places.append(("L1 table", header.l1_table.end - 1))
            last = max((entry & L1_OFFSET for entry in maps.l1_table), default=0)
            places.append(("last L2 table", last))
        if header.snapshots:
            end = header.snapshot_table_offset + header.snapshots * SNAPSHOT_BYTES
            places.append(("snapshot table", end - 1))
        block = maps.last_block
        if block is not None:
            places.append(("last refcount block", block.offset))
        mark = maps.last_cluster
        if mark is not None and mark >= size:
            pointed_to = maps.pointed_to_end
            if pointed_to is not None and pointed_to < size:
                # The tool e2image sets the refcounts of clusters that it never writes. No reader accesses
                # these clusters, so the image is not reported as truncated, and the finding is only
                # information.
                message = f"the refcounts mark the cluster at byte {mark} as used, but no table points to it"
                yield found("truncated", message, Severity.INFO)
            else:
                places.append(("last cluster in use", mark))
        for name, offset in places:
            if offset >= size:
                yield found(
                    "truncated", f"the {name} at byte {offset} is beyond the object's end at byte {size}"
                )

    @Remembered
    def _extensions(self) -> Extensions:
        """The header extensions that have been read."""
        if self._header is None:
            return NO_EXTENSIONS
        area = self._header.extensions
        return Extensions.parse(self._with_header("extensions", area), area.length)

    def _pointed_at(self) -> Iterator[Part]:
        """Yield the structures that header extensions point to."""
        for kind, body in self._extensions.entries:
            name, offset_at, length_at = POINTERS.get(kind, ("", 0, 0))
            if name and len(body) >= max(offset_at, length_at) + 8:
                start, length = (unpack_from(">Q", body, at)[0] for at in (offset_at, length_at))
                yield Part(start, start + length, name)
