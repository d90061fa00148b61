r"""QEMU's enhanced disk format, QED. All fields are little-endian.

Source: QEMU, docs/interop/qed_spec, sections "Header", "Tables", "Consistency checking"; block/qed.c,
bdrv_qed_do_open.

| offset | bytes | field |
|---|---|---|
| 0 | 4 | magic `QED\0` |
| 4 | 4 | cluster size in bytes, a power of 2 from 2^12 to 2^26 |
| 8 | 4 | table size in clusters, a power of 2 from 1 to 16 |
| 12 | 4 | header size in clusters |
| 16 | 8 | feature bits: 1 has a backing file, 2 needs a check, 4 the backing file is a raw disk |
| 24 | 8 | compatible features |
| 32 | 8 | autoclear features |
| 40 | 8 | offset of the L1 table |
| 48 | 8 | virtual size in bytes |
| 56 | 4 | offset of the backing file's name, within the header's clusters |
| 60 | 4 | length of the backing file's name in bytes |

L1 and L2 entries are offsets of 8 bytes. An L1 entry points to an L2 table, and an L2 entry points to a data
cluster. The offset 0 means that the table or cluster is not allocated. In an L2 table, 1 means a cluster of
zeros.

Wholeness: QEMU appends clusters and tables to the file. So the L2 table at the highest offset most probably
points to the last cluster of the file. Keyhole reads only this L2 table. If the image has no other L2
table, its wholeness is proven; otherwise it is sampled.
"""

from array import array
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import or_

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR, little_endian, used_blocks
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.layout import Blocks, Part, overlaps
from keyhole.inspectors.region import CaptureRegion
from keyhole.inspectors.text import printable

MAGIC = b"QED\0"
HEADER_BYTES = 64

#: The maximum length of a backing file's name, in bytes. QEMU's first versions accepted at most this length
#: in QED images, and QEMU still has this limit for qcow2 images.
MAX_NAME_BYTES = 1023
#: A backing file's name that ends after this offset is not read. QEMU writes the name right after the
#: header's fields.
MAX_NAME_END = 64 * 1024
#: At most this many bytes of the L1 table are read: 8,192 entries, which map 16 TiB of the disk if clusters
#: and tables have their default sizes.
MAX_L1_BYTES = 64 * 1024
#: At most this many bytes of the highest L2 table are read. A table of the default size is read completely.
MAX_L2_BYTES = 256 * 1024

BACKING_FILE, NEED_CHECK, NO_PROBE = 1, 2, 4
FEATURE_NAMES = {BACKING_FILE: "backing_file", NEED_CHECK: "need_check", NO_PROBE: "backing_format_no_probe"}
CLUSTER_SIZES = frozenset(1 << bits for bits in range(12, 27))
TABLE_SIZES = frozenset({1, 2, 4, 8, 16})
#: The value of an L2 entry for a cluster of zeros.
ZEROS = 1


class QEDInspector(HeaderInspector):
    """QEMU QED: the header states the virtual size.

    The L1 table and the highest L2 table show whether the image is whole.
    """

    NAME = "qed"
    HEADER_LENGTH = HEADER_BYTES
    SIGNATURES = (MAGIC,)

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        #: The offset of each L2 table, and how many of its entries a disk of this virtual size needs.
        self._l2_tables: list[tuple[int, int]] = []
        #: The offsets of the clusters that the highest L2 table points to; `None` until the table is read.
        self._clusters: array[int] | None = None

    @property
    def virtual_size(self) -> int:
        """The virtual size in bytes that the header states; zero until this field is read."""
        return self._u64(48) if self.format_match and len(self.region("header").data) >= 56 else 0

    def post_process(self) -> None:
        """Declare regions for the backing file's name and the L1 table, and then for the highest L2 table."""
        if not self._usable:
            return
        if not self.has_region("l1"):
            self.new_region("l1", CaptureRegion(self._u64(40), min(8 * self._l1_entries, MAX_L1_BYTES)))
            if self._name_followed:
                self.new_region("backing_name", CaptureRegion(self._u32(56), self._u32(60)))
        if self.filled("l1") and not self.has_region("l2"):
            self._l2_tables = self._read_l1()
            offset, entries = max(self._l2_tables, default=(0, 0))
            self.new_region("l2", CaptureRegion(offset, min(8 * entries, MAX_L2_BYTES)))
        if self.filled("l2") and self._clusters is None:
            self._clusters = array(
                "Q",
                [
                    offset
                    for _, block in used_blocks(self.captured("l2"))
                    for offset in little_endian("Q", block)
                    if offset > ZEROS
                ],
            )

    @property
    def wholeness(self) -> Wholeness:
        """`PROVEN` if all tables were read, `SAMPLED` if some tables were not read.

        It is `UNCHECKED` if the image needs a check, or if a table or a cluster is beyond the object's end.
        """
        if self._clusters is None or self._size is None or self._features & NEED_CHECK:
            return Wholeness.UNCHECKED
        if self._end > self._size:
            return Wholeness.UNCHECKED
        seen = 8 * self._l1_entries <= MAX_L1_BYTES and len(self._l2_tables) <= 1
        seen = seen and all(8 * entries <= MAX_L2_BYTES for _, entries in self._l2_tables)
        return Wholeness.PROVEN if seen else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """The cluster size, the table size, the features and the backing file."""
        if not self._usable:
            return {}
        facts: dict[str, object] = {
            "cluster_size": self._cluster_bytes,
            "table_size": self._u32(8),
            "features": [name for bit, name in FEATURE_NAMES.items() if self._features & bit],
        }
        if self._features & BACKING_FILE:
            facts["backing_file"] = printable(self._backing_name)
            if self._features & NO_PROBE:
                facts["backing_format"] = "raw"
        return facts

    def checks(self) -> list[Finding]:
        """Return findings on the backing file, on the features, and on contradictions in the image."""
        if not self.format_match or not self.filled("header"):
            return []
        if len(self.captured("header")) < HEADER_BYTES:
            return [found("truncated", "the object ends within the QED header")]
        if not self._usable:
            return [found("structure", "the header's cluster, table or header size is out of bounds")]
        return [*self._states(), *self._contradictions(), *self._needs(self._end)]

    def _states(self) -> Iterator[Finding]:
        if self._features & BACKING_FILE:
            how = "as a raw disk" if self._features & NO_PROBE else "in the format that QEMU detects"
            name = printable(self._backing_name)
            yield found("backing_file", f"opening the image also opens its backing file {name!r}, {how}")
        unknown = self._features & ~(BACKING_FILE | NEED_CHECK | NO_PROBE)
        if unknown:
            yield found("unknown_features", f"feature bits {unknown:#x} are unknown")
        if self._features & NEED_CHECK:
            yield found("dirty", "the image was not closed cleanly; run `qemu-img check -r all` on it")

    def _contradictions(self) -> Iterator[Finding]:
        if self._features & BACKING_FILE and not self._name_followed:
            yield found("structure", "the backing file's name has an invalid offset or length")
        if self._u64(48) % SECTOR:
            yield found("structure", f"the virtual size of {self._u64(48)} bytes is not a multiple of 512")
        if self._u64(48) > (self._table_bytes // 8) ** 2 * self._cluster_bytes:
            yield found("structure", "the tables are too short for the virtual size")
        l1 = self._u64(40)
        if l1 % self._cluster_bytes:
            yield found("structure", f"the L1 table's offset {l1} is not the start of a cluster")
        tables = [offset for offset, _ in self._l2_tables]
        clusters, within = self._clusters or array("Q"), self._cluster_bytes - 1
        if reduce(or_, tables, 0) & within:
            yield found("structure", "an L1 entry does not point to the start of a cluster")
        if reduce(or_, clusters, 0) & within:
            yield found("structure", "an L2 entry does not point to the start of a cluster")
        yield from overlaps(
            [
                Part(0, self._header_bytes, "the header"),
                Part(l1, l1 + self._table_bytes, "the L1 table"),
            ],
            Blocks("an L2 table", tables, self._table_bytes),
            Blocks("a cluster", clusters, self._cluster_bytes),
        )

    # The header's fields

    @property
    def _usable(self) -> bool:
        """Whether the header has been read and its sizes are valid.

        If not, Keyhole does not use the header's offsets.
        """
        return (
            self.format_match
            and len(self.captured("header")) == HEADER_BYTES
            and self._cluster_bytes in CLUSTER_SIZES
            and self._u32(8) in TABLE_SIZES
            # QEMU stores the header's size in 32 bits.
            and 0 < self._header_bytes < 1 << 32
        )

    @property
    def _cluster_bytes(self) -> int:
        return self._u32(4)

    @property
    def _table_bytes(self) -> int:
        return self._u32(8) * self._cluster_bytes

    @property
    def _header_bytes(self) -> int:
        return self._u32(12) * self._cluster_bytes

    @property
    def _features(self) -> int:
        return self._u64(16)

    @property
    def _l1_entries(self) -> int:
        """The number of L1 entries that a disk of this virtual size needs."""
        entries = self._table_bytes // 8
        return min(-(-self._u64(48) // (entries * self._cluster_bytes)), entries)

    @property
    def _name_followed(self) -> bool:
        """Whether there is a backing file, and its name has a valid offset and length.

        If not, Keyhole does not read the name.
        """
        offset, length = self._u32(56), self._u32(60)
        in_place = offset >= HEADER_BYTES and offset + length <= min(self._header_bytes, MAX_NAME_END)
        return bool(self._features & BACKING_FILE) and 0 < length <= MAX_NAME_BYTES and in_place

    @property
    def _backing_name(self) -> bytes:
        return self.captured("backing_name") if self.has_region("backing_name") else b""

    # The tables

    def _read_l1(self) -> list[tuple[int, int]]:
        """Return the L2 tables that the captured L1 table points to, in the form of `_l2_tables`."""
        most = self._table_bytes // 8
        clusters = -(-self._u64(48) // self._cluster_bytes)
        return [
            (offset, min(most, clusters - index * most))
            for at, block in used_blocks(self.captured("l1"))
            for index, offset in enumerate(little_endian("Q", block), at // 8)
            if offset
        ]

    @property
    def _end(self) -> int:
        """The minimum length of the object in bytes, according to the header and the tables."""
        ends = [self._u64(40) + self._table_bytes]
        if self._l2_tables:
            ends.append(max(self._l2_tables)[0] + self._table_bytes)
        if self._clusters:
            ends.append(max(self._clusters) + self._cluster_bytes)
        return max(ends)
