"""The tables of a qcow2: which of them are read, and what they point to.

Source: QEMU, docs/interop/qcow2.txt, sections "Host cluster management", "Cluster mapping", "Snapshots",
"Bitmaps"; block/qcow2-refcount.c, qcow2_check_refcounts, qcow2_check_metadata_overlap.

| offset | bytes | field of an entry of the snapshot table, which is padded to 8 |
|---|---|---|
| 0 | 8 | offset of the snapshot's L1 table |
| 8 | 4 | entries of that table |
| 12 | 2 | length of the identifier |
| 14 | 2 | length of the name |
| 36 | 4 | length of further data: u64@48 the size of the disk |
| 40 | | further data, identifier, name |

The front of the file is held: QEMU writes the first L2 table and the first refcount block there, and a scan's
first GET brings it. A thorough inspector reads all tables, those of snapshots, too.

A cluster may be pointed at several times, by snapshots, as often as its refcount says.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from struct import unpack_from
from typing import NamedTuple

from keyhole.inspectors.base import THOROUGH_BYTES, FileInspector
from keyhole.inspectors.fields import big_endian
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.ascending import ascending, unique
from keyhole.inspectors.formats.layout import CHECK, Blocks, Part, overlaps
from keyhole.inspectors.formats.qcow2.entries import Mapped, mapped
from keyhole.inspectors.formats.qcow2.refcounts import Refcounts
from keyhole.inspectors.formats.scattered import ScatteredRegion
from keyhole.inspectors.region import ByteRange, CaptureRegion

HEADER_BYTES = 512
#: What is held of the front: at the default cluster size the header, one cluster of each kind of table, and
#: the first L2 table.
NEAR_BYTES = 320 * 1024
#: With larger clusters no L2 table lies in the front.
MAX_NEAR_CLUSTER = 64 * 1024
#: What is held of the refcount table: 16,384 entries lead to 32 TiB of image at the default cluster size.
MAX_REFCOUNT_TABLE_BYTES = 128 * 1024
#: What is held of the last refcount block: all of it at cluster sizes up to 128 KiB, else its beginning.
MAX_REFCOUNT_BLOCK_BYTES = 128 * 1024
#: What a thorough inspector holds of the snapshot table. QEMU writes about 100 bytes for a snapshot.
MAX_SNAPSHOT_BYTES = 1024 * 1024
#: What must be zero in an L1 entry, and where its L2 table lies (section "L1 table entry").
L1_RESERVED, L1_OFFSET = 0x7F000000000001FF, 0x00FFFFFFFFFFFE00
COPIED = 1 << 63
#: An entry of the snapshot table without its texts and extra data.
SNAPSHOT_BYTES = 40
#: Clusters of one structure whose refcounts are looked at. The largest L1 table has as many, of 512 bytes.
MAX_CLUSTERS = 65536


class Shape(NamedTuple):
    """What the header says of the tables; offsets and lengths in bytes."""

    version: int
    cluster_bits: int
    extended: bool
    refcount_bits: int
    l1: ByteRange
    refcount_table: ByteRange
    snapshots: int
    snapshot_table: int
    #: Whether clusters of the disk lie in this file, and whether the refcounts are said to be right.
    has_data: bool
    counted: bool

    @property
    def cluster(self) -> int:
        """The bytes of a cluster."""
        return 1 << self.cluster_bits


class Snapshot(NamedTuple):
    """A snapshot's L1 table, and the size of its disk if that is stated."""

    l1: ByteRange
    disk_bytes: int | None


class QcowMaps:
    """The tables of one image, by the regions of its inspector."""

    def __init__(self, inspector: FileInspector, shape: Shape) -> None:
        self._inspector = inspector
        self._shape = shape

    # What is read

    def declare(self) -> None:
        """Declare the tables that can be declared now."""
        inspector, shape = self._inspector, self._shape
        thorough = inspector.thorough
        if not inspector.has_region("refcount_table"):
            length = min(
                THOROUGH_BYTES if thorough else MAX_REFCOUNT_TABLE_BYTES, shape.refcount_table.length
            )
            inspector.new_region("refcount_table", CaptureRegion(shape.refcount_table.offset, length))
            # A stream has passed the header when this is declared.
            near = NEAR_BYTES - HEADER_BYTES if shape.cluster <= MAX_NEAR_CLUSTER else 0
            inspector.new_region("front", CaptureRegion(HEADER_BYTES, near))
            near = thorough or shape.l1.end <= NEAR_BYTES
            length = min(shape.l1.length, THOROUGH_BYTES) if near else 0
            inspector.new_region("l1_table", CaptureRegion(shape.l1.offset, length))
            length = min(SNAPSHOT_BYTES * 32 * shape.snapshots, MAX_SNAPSHOT_BYTES) if thorough else 0
            inspector.new_region("snapshot_table", CaptureRegion(shape.snapshot_table, length))
        if inspector.filled("refcount_table") and not inspector.has_region("refcount_block"):
            last = self.last_block
            length = min(shape.cluster, MAX_REFCOUNT_BLOCK_BYTES) if last else 0
            inspector.new_region("refcount_block", CaptureRegion(last[1] if last else 0, length))
        if not inspector.has_region("snapshot_l1") and inspector.filled("snapshot_table"):
            pieces = _first((one.l1 for one in self.snapshots), THOROUGH_BYTES // 4)
            inspector.new_region("snapshot_l1", ScatteredRegion(pieces))
        ready = ("refcount_table", "l1_table", "snapshot_l1")
        if not inspector.has_region("tables") and all(map(inspector.filled, ready)):
            inspector.new_region("tables", ScatteredRegion(self._tables()))

    def _tables(self) -> Iterator[ByteRange]:
        """The L2 tables and refcount blocks to read beside those in the front."""
        if not self._inspector.thorough:
            return
        for offsets, most in ((self._l2_tables, THOROUGH_BYTES), (self._blocks, THOROUGH_BYTES // 2)):
            pieces = (ByteRange(offset, self._shape.cluster) for offset in unique(offsets))
            yield from _first(pieces, most)

    @property
    def whole(self) -> bool:
        """Whether all tables are here, those of snapshots among them."""
        shape, inspector = self._shape, self._inspector
        if not inspector.filled("tables") or len(self.snapshots) < shape.snapshots:
            return False
        snapshot_bytes = sum(one.l1.length for one in self.snapshots)
        return (
            inspector.region("l1_table").length == shape.l1.length
            and inspector.region("refcount_table").length == shape.refcount_table.length
            and snapshot_bytes <= THOROUGH_BYTES // 4
            and len(unique(self._l2_tables)) * shape.cluster <= THOROUGH_BYTES
            and len(unique(self._blocks)) * shape.cluster <= THOROUGH_BYTES // 2
        )

    # What is here

    @property
    def l1_table(self) -> Sequence[int]:
        """The entries of the active L1 table, where that is read."""
        return big_endian("Q", self._captured("l1_table"))

    @property
    def last_block(self) -> tuple[int, int] | None:
        """The last refcount block in use, as its index in the refcount table and its offset in the image."""
        table = self._captured("refcount_table")
        used = len(table.rstrip(b"\0"))
        if not used:
            return None
        index = (used - 1) // 8
        entry = int.from_bytes(table[index * 8 : index * 8 + 8].ljust(8, b"\0"), "big")
        return index, entry & ~0x1FF

    @property
    def last_cluster(self) -> int | None:
        """Where the last cluster in use begins, by the last refcount block; `None` if that counts nothing."""
        used, last = self._captured("refcount_block").rstrip(b"\0"), self.last_block
        if not used or last is None:
            return None
        # Refcounts below 8 bits fill a byte from its low bits; wider ones are big-endian.
        last_bit = (len(used) - 1) * 8 + used[-1].bit_length() - 1
        bits = self._shape.refcount_bits
        return (last[0] * (self._shape.cluster * 8 // bits) + last_bit // bits) * self._shape.cluster

    @property
    def pointed_to_end(self) -> int | None:
        """Where the last cluster begins that an L2 table points to; `None` unless all tables are here."""
        shape = self._shape
        if shape.snapshots or not self._inspector.filled("tables"):
            return None
        offsets = unique(self._l2_tables)
        if not all(map(self._held, offsets)):
            return None
        if self._inspector.region("l1_table").length != shape.l1.length:
            return None
        found_in = mapped(
            map(self._held, offsets), shape.cluster_bits, extended=shape.extended, version=shape.version
        )
        last = [
            numbers[-1] * shape.cluster for numbers in (found_in.clusters, found_in.compressed) if numbers
        ]
        return max([*offsets, *last], default=0)

    @property
    def snapshots(self) -> list[Snapshot]:
        """The snapshots, as far as their table is here."""
        table, position = self._captured("snapshot_table"), 0
        snapshots: list[Snapshot] = []
        while len(snapshots) < self._shape.snapshots and position + SNAPSHOT_BYTES <= len(table):
            offset, entries, identifier, name = unpack_from(">QIHH", table, position)
            extra = int.from_bytes(table[position + 36 : position + 40], "big")
            end = position + SNAPSHOT_BYTES + extra + identifier + name
            if end > len(table):
                break
            size = int.from_bytes(table[position + 48 : position + 56], "big") if extra >= 16 else None
            snapshots.append(Snapshot(ByteRange(offset, 8 * entries), size))
            position += -(-(end - position) // 8) * 8
        return snapshots

    @property
    def _l1_tables(self) -> list[Sequence[int]]:
        """The entries of the L1 tables that are here: the active one's, and those of snapshots."""
        if not self._inspector.has_region("snapshot_l1"):
            return [self.l1_table]
        region = self._inspector.region("snapshot_l1")
        return [self.l1_table, *(big_endian("Q", region.at(*one.l1)) for one in self.snapshots)]

    @property
    def _l2_tables(self) -> "array[int]":
        """The offsets of the L2 tables, as often as an L1 table points to them."""
        offsets = (entry & L1_OFFSET for table in self._l1_tables for entry in table)
        return array("Q", filter(None, offsets))

    @property
    def _blocks(self) -> "array[int]":
        """The offsets of the refcount blocks."""
        return array("Q", filter(None, self._refcount_table))

    @property
    def _refcount_table(self) -> "array[int]":
        """The entries of the refcount table: where blocks lie, or zero."""
        return array("Q", (entry & ~0x1FF for entry in big_endian("Q", self._captured("refcount_table"))))

    def _held(self, offset: int) -> bytes:
        """The cluster at an offset, where that is here; else nothing, or a part of it."""
        for name in ("tables", "front", "refcount_block"):
            data = self._inspector.region(name).at(offset, self._shape.cluster)
            if len(data) == self._shape.cluster:
                return data
        return b""

    def _captured(self, name: str) -> bytes:
        return self._inspector.captured(name) if self._inspector.has_region(name) else b""

    # What is wrong

    def findings(self, others: Iterable[Part]) -> Iterator[Finding]:
        """What lies over something else, or is pointed at more often than is counted.

        Args:
            others: Structures that the header points to, but for the tables that are known here.
        """
        shape, inspector = self._shape, self._inspector
        if not inspector.filled("tables"):
            return
        cluster = shape.cluster
        tables = ascending(self._l2_tables)
        groups = {
            times: mapped(
                (self._held(offset) for offset, count in _counted(tables) if count == times),
                shape.cluster_bits,
                extended=shape.extended,
                version=shape.version,
            )
            for times in sorted({count for _, count in _counted(tables)})
        }
        if any(not group.sound for group in groups.values()):
            yield found("structure", "an L2 table leads elsewhere than to clusters")
        if not shape.has_data:
            groups = {}
        parts = [*self._parts(), *others]
        yield from overlaps(
            parts,
            Blocks("a refcount block", self._blocks, cluster),
            Blocks("an L2 table", unique(tables), cluster),
            Blocks("a cluster", _unique(group.clusters for group in groups.values()), cluster, unit=cluster),
            Blocks(
                "a compressed cluster",
                _unique(group.compressed for group in groups.values()),
                cluster,
                unit=cluster,
            ),
        )
        yield from self._snapshot_sizes()
        if shape.counted:
            yield from self._miscounted(parts, groups)

    def _parts(self) -> Iterator[Part]:
        shape = self._shape
        yield Part(0, shape.cluster, "the header")
        yield Part(shape.l1.offset, shape.l1.end, "the L1 table")
        yield Part(shape.refcount_table.offset, shape.refcount_table.end, "the refcount table")
        start = shape.snapshot_table
        yield Part(start, start + shape.snapshots * SNAPSHOT_BYTES, "the snapshot table")
        for one in self.snapshots:
            yield Part(one.l1.offset, one.l1.end, "a snapshot's L1 table")

    def _miscounted(self, parts: Iterable[Part], groups: dict[int, Mapped]) -> Iterator[Finding]:
        """What is pointed at more often than its refcount says, as far as both are here."""
        bits, counts = self._shape.cluster_bits, self._refcounts()
        for part in parts:
            last = (part.end - 1) >> bits
            clusters = range(part.start >> bits, min(last + 1, (part.start >> bits) + MAX_CLUSTERS))
            if part.end > part.start and (free := counts.exceeded(clusters)) is not None:
                yield found(CHECK, f"cluster {free} holds a part of {part.name}, and is free by its refcount")
                return
        tables = array("Q", (offset >> bits for offset in self._l2_tables))
        blocks = array("Q", (offset >> bits for offset in unique(self._blocks)))
        for times, pointed_at in ((1, ascending(tables)), (1, blocks), *_pointers(groups)):
            if (shared := counts.exceeded(pointed_at, times)) is not None:
                yield found(CHECK, f"cluster {shared} is pointed at more often than its refcount says")
                return
        # Where each table lies, and in the lowest bit whether it is written in place.
        entries = (entry & L1_OFFSET | entry >> 63 for entry in self.l1_table if entry & L1_OFFSET)
        written = any(
            one | 1 == other | 1 and (one | other) & 1
            for one, other in pairwise(ascending(array("Q", entries)))
        )
        if written or any(group.in_place for group in groups.values()):
            yield found(CHECK, "a cluster is pointed at several times, and yet written in place")

    def _refcounts(self) -> Refcounts:
        """The refcounts that are here."""
        shape, table = self._shape, self._refcount_table
        held = {offset: block for offset in unique(table) if (block := self._held(offset))}
        per_block = shape.cluster * 8 // shape.refcount_bits
        return Refcounts(
            shape.refcount_bits,
            per_block,
            table,
            held,
            whole=8 * len(table) == shape.refcount_table.length,
            shared=bool(shape.snapshots),
        )

    def _snapshot_sizes(self) -> Iterator[Finding]:
        """Snapshots whose L1 table is too short for their disk."""
        shape = self._shape
        covered = (shape.cluster // (16 if shape.extended else 8)) * shape.cluster
        for one in self.snapshots:
            if one.disk_bytes is not None and one.l1.length // 8 * covered < one.disk_bytes:
                yield found("size_mismatch", "a snapshot's L1 table is too short for the size of its disk")
                return


def _first(pieces: Iterable[ByteRange], most: int) -> Iterator[ByteRange]:
    """Pieces until they have so many bytes together."""
    for piece in pieces:
        most -= piece.length
        if most < 0:
            return
        yield piece


def _unique(lists: "Iterable[array[int]]") -> "array[int]":
    """The numbers in some sorted lists, each once."""
    numbers = array("Q")
    for some in lists:
        numbers.extend(some)
    return unique(numbers)


def _counted(numbers: "array[int]") -> Iterator[tuple[int, int]]:
    """Numbers in ascending order, and how often each is there."""
    return ((number, sum(1 for _ in alike)) for number, alike in groupby(numbers))


def _pointers(groups: dict[int, Mapped]) -> "Iterator[tuple[int, array[int]]]":
    for times, group in groups.items():
        yield times, group.clusters
        yield times, group.compressed
