r"""QEMU's qcow2, versions 2 and 3. All fields are big-endian.

Source: QEMU, docs/interop/qcow2.txt, sections "Header", "Header extensions", "Host cluster management".

| offset | bytes | field |
|---|---|---|
| 0 | 4 | magic `QFI\xfb` |
| 4 | 4 | version, 2 or 3 |
| 8 | 8 | offset of the backing file's name, 0 if there is none |
| 16 | 4 | length of that name, at most 1,023 |
| 20 | 4 | cluster bits, 9 to 21 |
| 24 | 8 | virtual size in bytes |
| 32 | 4 | encryption method: 0 none, 1 AES, 2 LUKS |
| 36 | 4 | entries of the active L1 table |
| 40 | 8 | offset of the active L1 table |
| 48 | 8 | offset of the refcount table |
| 56 | 4 | clusters of the refcount table |
| 60 | 4 | snapshots |
| 64 | 8 | offset of the snapshot table |
| 72 | 8 | v3: incompatible features: 0 dirty, 1 corrupt, 2 data file, 3 compression type, 4 extended L2 |
| 80 | 8 | v3: compatible features |
| 88 | 8 | v3: autoclear features: 1 the data file is raw |
| 96 | 4 | v3: refcount order, at most 6; a refcount has 2^order bits. In v2: 4 |
| 100 | 4 | v3: header length |
| 104 | 1 | v3, if the header is longer than 104: compression type: 0 deflate, 1 zstd |

Header extensions follow the header (after 72 bytes in v2): type u32, length u32, data padded to 8; type 0
ends them.

Wholeness: the refcount table leads to the last refcount block, and the block's last nonzero entry is the last
cluster in use: the high-water mark. That cluster may end short (nothing pads a file to whole clusters), but
it must begin. `keyhole.inspectors.formats.qcow2.maps` says which tables are read besides.
"""

from collections.abc import Iterator, Mapping
from struct import unpack_from

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import Finding, Severity, found
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.layout import Part
from keyhole.inspectors.formats.qcow2.maps import (
    HEADER_BYTES,
    L1_OFFSET,
    L1_RESERVED,
    SNAPSHOT_BYTES,
    QcowMaps,
    Shape,
)
from keyhole.inspectors.region import ByteRange, CaptureRegion
from keyhole.inspectors.text import printable

MAGIC = b"QFI\xfb"

#: The specification's limit of a backing file's name.
MAX_NAME_BYTES = 1023
#: Extensions lie between header and backing name; QEMU writes less than 1 KiB. More than this is not looked
#: at.
MAX_EXTENSION_BYTES = 16 * 1024
#: QEMU writes at most six kinds of extension, each once.
MAX_EXTENSIONS = 32
#: QEMU's limits (block/qcow2.h: QCOW_MAX_L1_SIZE, QCOW_MAX_REFTABLE_SIZE, QCOW_MAX_SNAPSHOTS).
MAX_L1_BYTES = 32 * 1024 * 1024
MAX_REFCOUNT_CLUSTERS_BYTES = 8 * 1024 * 1024
MAX_SNAPSHOTS = 65536
#: An extended L2 entry divides a cluster into 32 subclusters, which are no smaller than the smallest cluster.
LEAST_EXTENDED_CLUSTER = 32 * SECTOR

DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))
#: An autoclear feature: the data file alone is the disk.
RAW_DATA_FILE = 1 << 1
KNOWN_INCOMPATIBLE = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2
FEATURE_NAMES = {
    DIRTY: "dirty",
    CORRUPT: "corrupt",
    DATA_FILE: "data_file",
    COMPRESSION: "compression_type",
    EXTENDED_L2: "extended_l2",
}
ENCRYPTIONS = {1: "aes", 2: "luks"}
COMPRESSIONS = {0: "zlib", 1: "zstd"}

EXTENSION_BACKING_FORMAT = 0xE2792ACA
EXTENSION_DATA_FILE = 0x44415441
EXTENSION_ENCRYPTION = 0x0537BE77
EXTENSION_BITMAPS = 0x23852875
#: What a header extension says of a structure elsewhere: its name, and where offset and length stand.
POINTERS = {
    EXTENSION_ENCRYPTION: ("the encryption header", 0, 8),
    EXTENSION_BITMAPS: ("the bitmap directory", 16, 8),
}
LUKS = 2


class QcowInspector(HeaderInspector):
    """QEMU qcow2: 32 bytes from the front give the virtual size, the refcounts tell whether it is whole."""

    NAME = "qcow2"
    BYTE_ORDER = "big"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self.new_region("header", CaptureRegion(0, HEADER_BYTES))

    @classmethod
    def matches_front(cls, front: bytes) -> bool:
        """Whether the object's first 512 bytes, or fewer, begin with qcow2's magic and a version of it."""
        return front.startswith(MAGIC) and front[4:8] in {b"\0\0\0\2", b"\0\0\0\3"}

    @property
    def virtual_size(self) -> int:
        """The size field of the header, in bytes; zero until it is here."""
        head = self.region("header").data
        return int(unpack_from(">Q", head, 24)[0]) if self.format_match and len(head) >= 32 else 0

    @property
    def subformat(self) -> str | None:
        """`v2` or `v3`."""
        return f"v{self._u32(4)}" if self.format_match else None

    def post_process(self) -> None:
        """Declare what the header leads to: names, extensions, and the tables, one after the other."""
        if not self.filled("header") or not self._usable:
            return
        if not self.has_region("extensions"):
            self._declare_beyond_header("extensions", self._header_length, self._extension_bytes)
            if self._backing_offset:
                self._declare_beyond_header("backing_name", self._backing_offset, self._name_bytes)
        self._maps.declare()

    def _declare_beyond_header(self, name: str, offset: int, length: int) -> None:
        """Declare what of a range the header's region does not hold: a stream has passed that already."""
        start = max(offset, HEADER_BYTES)
        self.new_region(name, CaptureRegion(start, max(0, offset + length - start)))

    def _with_header(self, name: str, offset: int, length: int) -> bytes:
        """The bytes of a range declared so; nothing until all of them are here."""
        if not self.filled(name):
            return b""
        return self.captured("header")[offset : offset + length] + self.captured(name)

    @property
    def wholeness(self) -> Wholeness:
        """Proven when the refcount block was seen to its end, sampled when only its beginning was."""
        if not self._usable or not self.filled("refcount_block") or self._incompatible & (DIRTY | CORRUPT):
            return Wholeness.UNCHECKED
        if not any(self.captured("refcount_block")):
            # It counts nothing, so the mark lies in a block before it, which was not looked at.
            return Wholeness.UNCHECKED
        if self.thorough:
            return Wholeness.PROVEN if self._maps.whole else Wholeness.SAMPLED
        table_whole = self.region("refcount_table").length == self._u32(56) * self._cluster_bytes
        block_whole = self.region("refcount_block").length == self._cluster_bytes
        return Wholeness.PROVEN if table_whole and block_whole else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """Version, cluster size, features, names and extensions."""
        if not self._usable:
            return {}
        facts: dict[str, object] = {
            "version": self._u32(4),
            "cluster_size": self._cluster_bytes,
            "refcount_bits": self._refcount_bits,
            "snapshots": self._u32(60),
            "features": [name for bit, name in FEATURE_NAMES.items() if self._incompatible & bit],
            "compression": COMPRESSIONS.get(self._compression, str(self._compression)),
        }
        if self._u32(32):
            facts["encryption"] = ENCRYPTIONS.get(self._u32(32), str(self._u32(32)))
        if self._backing_offset:
            facts["backing_file"] = printable(
                self._with_header("backing_name", self._backing_offset, self._name_bytes)
            )
        for kind, body in self._extensions()[0]:
            if kind == EXTENSION_BACKING_FORMAT:
                facts["backing_format"] = printable(body)
            elif kind == EXTENSION_DATA_FILE:
                facts["data_file"] = printable(body)
        return facts

    def checks(self) -> list[Finding]:
        """What leads outside, what is not understood, and what contradicts itself."""
        if not self.format_match or not self.filled("header"):
            return []
        if not self._usable:
            return [self._unusable()]
        return [
            *self._leads_outside(),
            *self._states(),
            *self._contradictions(),
            *self._maps.findings(self._pointed_at()),
            *self._truncation(),
        ]

    def _leads_outside(self) -> Iterator[Finding]:
        details = self.details()
        if self._backing_offset:
            yield found("backing_file", f"the image is opened together with {details['backing_file']!r}")
        elif "backing_format" in details:
            yield found("structure", "a backing format is stated, but no backing file")
        if self._incompatible & DATA_FILE or "data_file" in details:
            name = details.get("data_file", "an unnamed file")
            yield found("data_file", f"the content lies in another file: {name!r}")

    def _states(self) -> Iterator[Finding]:
        unknown = self._incompatible & ~KNOWN_INCOMPATIBLE
        if unknown:
            yield found("unknown_features", f"incompatible feature bits {unknown:#x} are unknown")
        if self._compression not in COMPRESSIONS:
            yield found("unknown_features", f"compression type {self._compression} is unknown")
        if self._incompatible & CORRUPT:
            yield found("corrupt_flag", "the image is marked corrupt; repair it with `qemu-img check -r`")
        if self._incompatible & DIRTY:
            yield found("dirty", "the image was not closed cleanly; run `qemu-img check -r all` on it")
        if self._u32(32):
            yield found(
                "encrypted", f"the content is encrypted ({ENCRYPTIONS.get(self._u32(32), 'unknown')})"
            )
        if self._u32(60):
            yield found("snapshots", f"the image has {self._u32(60)} internal snapshot(s)")

    def _contradictions(self) -> Iterator[Finding]:
        cluster = self._cluster_bytes
        if self._backing_offset and not (
            self._header_length <= self._backing_offset <= cluster - min(self._u32(16), cluster)
            and 0 < self._u32(16) <= MAX_NAME_BYTES
        ):
            yield found("structure", "the backing file's name does not lie within the first cluster")
        if self._u64(24) % SECTOR:
            yield found("structure", f"the virtual size {self._u64(24)} is not one of whole sectors")
        yield from self._feature_contradictions()
        for name, offset in (("L1 table", self._u64(40)), ("refcount table", self._u64(48))):
            if offset % cluster or (not offset and (name != "L1 table" or self._u32(36))):
                yield found("structure", f"the {name}'s offset {offset} is not a cluster's")
        if self._u32(36) * 8 > MAX_L1_BYTES:
            yield found("structure", f"the L1 table has {self._u32(36)} entries, more than qcow2 allows")
        elif self._u32(36) < self._l1_entries_needed:
            yield found("size_mismatch", "the L1 table is too short for the virtual size")
        yield from self._table_contradictions()

    def _table_contradictions(self) -> Iterator[Finding]:
        cluster = self._cluster_bytes
        if any(entry & L1_RESERVED or (entry & L1_OFFSET) % cluster for entry in self._maps.l1_table):
            yield found("structure", "the L1 table leads elsewhere than to clusters")
        if not 0 < self._u32(56) * cluster <= MAX_REFCOUNT_CLUSTERS_BYTES:
            yield found("structure", f"the refcount table has {self._u32(56)} clusters")
        block = self._maps.last_block
        if block and (not block[1] or block[1] % cluster):
            yield found("structure", f"the refcount block's offset {block[1]} is not a cluster's")
        snapshots, table = self._u32(60), self._u64(64)
        if snapshots > MAX_SNAPSHOTS or table % cluster or (snapshots and not table):
            yield found("structure", "the snapshot table is larger than qcow2 allows, or not a cluster's")

    def _feature_contradictions(self) -> Iterator[Finding]:
        if bool(self._compression) != bool(self._incompatible & COMPRESSION):
            yield found("structure", "the compression type and its feature bit contradict each other")
        if self._u32(4) == 3 and self._u64(88) & RAW_DATA_FILE and not self._incompatible & DATA_FILE:
            yield found("structure", "the image is said to have a raw data file, and to have none")
        if self._incompatible & EXTENDED_L2 and self._cluster_bytes < LEAST_EXTENDED_CLUSTER:
            yield found("structure", f"clusters of {self._cluster_bytes} bytes have no extended L2 entries")
        extensions, ended = self._extensions()
        if not ended:
            yield found("structure", "the header extensions do not end where they should")
        if self._u32(32) != LUKS and any(kind == EXTENSION_ENCRYPTION for kind, _ in extensions):
            yield found("structure", "the image has an encryption header, but is not encrypted so")

    def _truncation(self) -> Iterator[Finding]:
        size = self._size
        if size is None:
            return
        places = [("header extensions", self._header_length), ("refcount table", self._u64(48))]
        if self._u32(36):
            places.append(("L1 table", self._u64(40) + self._u32(36) * 8 - 1))
            last = max((entry & L1_OFFSET for entry in self._maps.l1_table), default=0)
            places.append(("last L2 table", last))
        if self._u32(60):
            places.append(("snapshot table", self._u64(64) + self._u32(60) * SNAPSHOT_BYTES - 1))
        block = self._maps.last_block if self.filled("refcount_table") else None
        if block is not None:
            places.append(("last refcount block", block[1]))
        mark, pointed_to = self._maps.last_cluster, self._maps.pointed_to_end
        if mark is not None and mark >= size and pointed_to is not None and pointed_to < size:
            # e2image counts clusters that it never writes. No reader looks for them.
            message = f"the refcounts count clusters up to byte {mark}, which no table points to"
            yield found("truncated", message, Severity.INFO)
        elif mark is not None:
            places.append(("last cluster in use", mark))
        for name, offset in places:
            if offset >= size:
                yield found(
                    "truncated", f"the {name} at byte {offset} lies beyond the object's end at {size}"
                )

    def _unusable(self) -> Finding:
        if len(self.captured("header")) < self._least_header:
            return found("truncated", "the object ends within the qcow2 header")
        return found("structure", "the header's cluster size, refcount order or length is out of bounds")

    # The header's fields

    @property
    def _usable(self) -> bool:
        """Whether the header is there and within the format's limits, so that it may be followed."""
        head = self.captured("header")
        return (
            self.format_match
            and len(head) >= self._least_header
            and 9 <= self._u32(20) <= 21
            and (self._u32(4) == 2 or self._u32(96) <= 6)
            and self._least_header <= self._header_length <= self._cluster_bytes
        )

    @property
    def _least_header(self) -> int:
        return 72 if self._u32(4) == 2 else 104

    @property
    def _header_length(self) -> int:
        return 72 if self._u32(4) == 2 else self._u32(100)

    @property
    def _incompatible(self) -> int:
        return 0 if self._u32(4) == 2 else self._u64(72)

    @property
    def _compression(self) -> int:
        head = self.captured("header")
        stated = self._u32(4) == 3 and self._header_length > 104 and len(head) > 104
        return head[104] if stated else 0

    @property
    def _refcount_bits(self) -> int:
        return 16 if self._u32(4) == 2 else 1 << self._u32(96)

    @property
    def _cluster_bytes(self) -> int:
        return 1 << self._u32(20)

    @property
    def _backing_offset(self) -> int:
        return self._u64(8)

    @property
    def _name_bytes(self) -> int:
        return min(self._u32(16), MAX_NAME_BYTES)

    @property
    def _l1_entries_needed(self) -> int:
        l2_entry_bytes = 16 if self._incompatible & EXTENDED_L2 else 8
        bytes_per_l1_entry = self._cluster_bytes // l2_entry_bytes * self._cluster_bytes
        return -(-self._u64(24) // bytes_per_l1_entry)

    @property
    def _extension_bytes(self) -> int:
        end = self._cluster_bytes
        if self._header_length < self._backing_offset < end:
            end = self._backing_offset
        return min(end - self._header_length, MAX_EXTENSION_BYTES)

    # What the header leads to

    def _extensions(self) -> tuple[list[tuple[int, bytes]], bool]:
        """The header extensions as (type, data), and whether they end as they should.

        That is by the end marker or, as QEMU reads them, where there is no room for more. What comes behind
        one that does not fit is seen by some readers and not by others.
        """
        area = self._with_header("extensions", self._header_length, self._extension_bytes)
        extensions: list[tuple[int, bytes]] = []
        position = 0
        while position + 8 <= len(area) and len(extensions) < MAX_EXTENSIONS:
            kind, length = unpack_from(">II", area, position)
            position += 8
            if position + length > self._extension_bytes:
                return extensions, False
            if not kind:
                return extensions, True
            extensions.append((kind, area[position : position + length]))
            position += -(-length // 8) * 8
        # Where the object ends within the area, that is a finding of its own.
        short = len(area) < self._extension_bytes and len(extensions) < MAX_EXTENSIONS
        return extensions, short or self._extension_bytes <= position < MAX_EXTENSION_BYTES

    def _pointed_at(self) -> Iterator[Part]:
        """What header extensions point to."""
        for kind, body in self._extensions()[0]:
            name, offset_at, length_at = POINTERS.get(kind, ("", 0, 0))
            if name and len(body) >= max(offset_at, length_at) + 8:
                start, length = (unpack_from(">Q", body, at)[0] for at in (offset_at, length_at))
                yield Part(start, start + length, name)

    @property
    def _maps(self) -> QcowMaps:
        """The tables, of a header that is usable."""
        l1, table = ByteRange(self._u64(40), 8 * self._u32(36)), self._u64(48)
        return QcowMaps(
            self,
            Shape(
                version=self._u32(4),
                cluster_bits=self._u32(20),
                extended=bool(self._incompatible & EXTENDED_L2),
                refcount_bits=self._refcount_bits,
                l1=l1,
                refcount_table=ByteRange(table, self._u32(56) * self._cluster_bytes),
                snapshots=self._u32(60),
                snapshot_table=self._u64(64),
                has_data=not self._incompatible & DATA_FILE,
                counted=not self._incompatible & (DIRTY | CORRUPT),
            ),
        )
