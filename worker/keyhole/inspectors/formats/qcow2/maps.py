"""The tables of a qcow2. Selects the tables to read, and parses them.

Source: QEMU, docs/interop/qcow2.txt, sections "Host cluster management", "Cluster mapping", "Snapshots".

| offset | bytes | field of an entry of the snapshot table; entries are padded to a multiple of 8 bytes |
|---|---|---|
| 0 | 8 | offset of the snapshot's L1 table |
| 8 | 4 | number of entries in the snapshot's L1 table |
| 12 | 2 | length of the identifier |
| 14 | 2 | length of the name |
| 36 | 4 | length of the further data, which contain the size of the snapshot's disk: a u64 at byte 48 |
| 40 | | further data, identifier, name |

The inspector captures the front of the file, where QEMU writes the first L2 table and the first refcount
block. By default, the first GET of a scan fetches the whole front, so the front costs no additional request.
A thorough inspector reads all tables, including the tables of snapshots.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from struct import unpack_from
from typing import NamedTuple

from keyhole.inspectors.base import THOROUGH_BYTES, FileInspector
from keyhole.inspectors.fields import big_endian, used_bytes
from keyhole.inspectors.formats.ascending import unique
from keyhole.inspectors.formats.qcow2.entries import Mapped, mapped
from keyhole.inspectors.formats.qcow2.header import HEADER_BYTES, Header
from keyhole.inspectors.formats.qcow2.refcounts import ALL_BLOCKS
from keyhole.inspectors.formats.scattered import ScatteredRegion
from keyhole.inspectors.region import ByteRange, CaptureRegion
from keyhole.inspectors.remembered import Remembered

#: The length of the file's front. At the default cluster size, the front contains the header, one cluster of
#: each kind of table, and the first L2 table.
NEAR_BYTES = 320 * 1024
#: If clusters are larger than this, the front contains no L2 table, so the inspector does not capture the
#: front.
MAX_NEAR_CLUSTER = 64 * 1024
#: At most this many bytes of the refcount table are read: 16,384 entries. At the default cluster size, these
#: entries cover an image file of 32 TiB.
MAX_REFCOUNT_TABLE_BYTES = 128 * 1024
#: At most this many bytes of the last refcount block are read. If clusters are larger than this, only the
#: beginning of the block is read.
MAX_REFCOUNT_BLOCK_BYTES = 128 * 1024
#: A thorough inspector reads at most this many bytes of the snapshot table. QEMU writes about 100 bytes for
#: each snapshot.
MAX_SNAPSHOT_BYTES = 1024 * 1024
#: The bits of an L1 entry that must be zero, and the bits that contain the L2 table's offset (section "L1
#: table entry").
L1_RESERVED, L1_OFFSET = 0x7F000000000001FF, 0x00FFFFFFFFFFFE00
#: The length in bytes of a snapshot table entry without further data, identifier and name.
SNAPSHOT_BYTES = 40


class Snapshot(NamedTuple):
    """The L1 table of a snapshot, and the size of the snapshot's disk in bytes.

    The size is `None` if the snapshot's entry does not state the size.
    """

    l1: ByteRange
    disk_bytes: int | None


class LastBlock(NamedTuple):
    """The last refcount block in use: its number in the refcount table, and its offset in the image."""

    number: int
    offset: int


class QcowMaps:
    """The tables of one image.

    Args:
        inspector: The image's inspector, in which the regions for the tables are declared.
        header: The image's header, whose sizes are within the format's limits.
    """

    def __init__(self, inspector: FileInspector, header: Header) -> None:
        self.header = header
        self.remembered = inspector.remembered
        self._inspector = inspector
        # The names of the regions that have been selected. If a table has no bytes, the name of its region is
        # in this set, but the region is not declared.
        self._selected: set[str] = set()

    # Declaring what is read

    def declare(self) -> None:
        """Declare the regions for the tables whose offset and length are known by now."""
        if "tables" in self._selected:
            return
        if "refcount_table" not in self._selected:
            self._select_first()
        if self.read("refcount_table") and "refcount_block" not in self._selected:
            last = self.last_block
            length = min(self.header.cluster_bytes, MAX_REFCOUNT_BLOCK_BYTES) if last else 0
            self._select("refcount_block", CaptureRegion(last.offset if last else 0, length))
        if self.read("snapshot_table") and "snapshot_l1" not in self._selected:
            pieces = _first((one.l1 for one in self.snapshots), THOROUGH_BYTES // 4)
            self._select("snapshot_l1", ScatteredRegion(pieces))
        if self.read("refcount_table") and self.read("l1_table") and self.read("snapshot_l1"):
            self._select("tables", ScatteredRegion(self._tables()))

    def _select_first(self) -> None:
        """Declare the regions whose places the header states."""
        header, thorough = self.header, self._inspector.thorough
        length = min(THOROUGH_BYTES if thorough else MAX_REFCOUNT_TABLE_BYTES, header.refcount_table.length)
        self._select("refcount_table", CaptureRegion(header.refcount_table.offset, length))
        # The front begins after the region `header`, because a stream has already passed the header when this
        # code runs.
        near = header.cluster_bytes <= MAX_NEAR_CLUSTER
        self._select("front", CaptureRegion(HEADER_BYTES, NEAR_BYTES - HEADER_BYTES if near else 0))
        is_near = thorough or header.l1_table.end <= NEAR_BYTES
        length = min(header.l1_table.length, THOROUGH_BYTES) if is_near else 0
        self._select("l1_table", CaptureRegion(header.l1_table.offset, length))
        length = min(SNAPSHOT_BYTES * 32 * header.snapshots, MAX_SNAPSHOT_BYTES) if thorough else 0
        self._select("snapshot_table", CaptureRegion(header.snapshot_table_offset, length))

    def _select(self, name: str, region: CaptureRegion) -> None:
        self._selected.add(name)
        if region.length:
            self._inspector.new_region(name, region)

    def read(self, name: str) -> bool:
        """Return whether a region has been selected and its bytes have been read."""
        if name not in self._selected:
            return False
        return self._inspector.filled(name) or not self._inspector.has_region(name)

    def length(self, name: str) -> int:
        """Return the length in bytes of a selected region."""
        return self._inspector.region(name).length if self._inspector.has_region(name) else 0

    def _tables(self) -> Iterator[ByteRange]:
        """Yield the ranges of the L2 tables and refcount blocks that a thorough inspector reads."""
        if not self._inspector.thorough:
            return
        for offsets, most in ((self.l2_tables, THOROUGH_BYTES), (self.refcount_blocks, THOROUGH_BYTES // 2)):
            pieces = (ByteRange(offset, self.header.cluster_bytes) for offset in unique(offsets))
            yield from _first(pieces, most)

    @property
    def whole(self) -> bool:
        """Whether all tables have been read, including the tables of snapshots."""
        header = self.header
        if not self.held or len(self.snapshots) < header.snapshots:
            return False
        snapshot_bytes = sum(one.l1.length for one in self.snapshots)
        return (
            self.length("l1_table") == header.l1_table.length
            and self.length("refcount_table") == header.refcount_table.length
            and snapshot_bytes <= THOROUGH_BYTES // 4
            and len(unique(self.l2_tables)) * header.cluster_bytes <= THOROUGH_BYTES
            and len(unique(self.refcount_blocks)) * header.cluster_bytes <= THOROUGH_BYTES // 2
        )

    # The tables that have been read

    @Remembered
    def l1_table(self) -> Sequence[int]:
        """The entries of the active L1 table; empty if the table has not been read."""
        return big_endian("Q", self._captured("l1_table"))

    @Remembered
    def last_block(self) -> LastBlock | None:
        """The last refcount block in use; `None` if the refcount table has not been read or is empty."""
        table = self._used_refcount_table
        if not table:
            return None
        index = (len(table) - 1) // 8
        entry = int.from_bytes(table[index * 8 : index * 8 + 8].ljust(8, b"\0"), "big")
        return LastBlock(index, entry & ~0x1FF)

    @Remembered
    def last_cluster(self) -> int | None:
        """The offset of the last cluster in use, according to the last refcount block.

        The offset is `None` if this block has not been read, or if all of its refcounts are zero.
        """
        block, last = self._captured("refcount_block"), self.last_block
        used = used_bytes(block)
        if not used or last is None:
            return None
        # Refcounts of fewer than 8 bits fill a byte from its lowest bits on. Wider refcounts are big-endian.
        last_bit = (used - 1) * 8 + block[used - 1].bit_length() - 1
        cluster, bits = self.header.cluster_bytes, self.header.refcount_bits
        return (last.number * (cluster * 8 // bits) + last_bit // bits) * cluster

    @property
    def pointed_to_end(self) -> int | None:
        """The highest offset in bytes of the L2 tables and of the clusters that L2 tables point to.

        The offset is `None` if a table has not been read, or if the image has snapshots.
        """
        header = self.header
        if header.snapshots or not self.held:
            return None
        offsets = unique(self.l2_tables)
        if not all(map(self.cluster_at, offsets)):
            return None
        if self.length("l1_table") != header.l1_table.length:
            return None
        used = self.mapped_by(offsets)
        last = [numbers[-1] * header.cluster_bytes for numbers in (used.clusters, used.compressed) if numbers]
        return max([*offsets, *last], default=0)

    @property
    def held(self) -> bool:
        """Whether every table that the inspector wants to read has been read."""
        return self.read("tables")

    def mapped_by(self, tables: Iterable[int]) -> Mapped:
        """Return the clusters that L2 tables point to. Tables that have not been read are skipped.

        Args:
            tables: The offsets of the L2 tables.
        """
        header = self.header
        return mapped(
            map(self.cluster_at, tables),
            header.cluster_bits,
            extended=header.extended,
            version=header.version,
        )

    @property
    def snapshots(self) -> list[Snapshot]:
        """The snapshots in the part of the snapshot table that has been read."""
        table, position = self._captured("snapshot_table"), 0
        snapshots: list[Snapshot] = []
        while len(snapshots) < self.header.snapshots and position + SNAPSHOT_BYTES <= len(table):
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
        """The entries of the L1 tables that have been read: the active table and the snapshots' tables."""
        if not self._inspector.has_region("snapshot_l1"):
            return [self.l1_table]
        region = self._inspector.region("snapshot_l1")
        return [self.l1_table, *(big_endian("Q", region.at(*one.l1)) for one in self.snapshots)]

    @Remembered
    def l2_tables(self) -> "array[int]":
        """For each L1 entry that points to an L2 table, the offset of this L2 table."""
        offsets = array("Q")
        for table in self._l1_tables:
            offsets.extend([entry & L1_OFFSET for entry in table if entry & L1_OFFSET])
        return offsets

    @Remembered
    def refcount_blocks(self) -> "array[int]":
        """The offsets of the refcount blocks."""
        return array("Q", filter(None, self.refcount_table))

    @Remembered
    def refcount_table(self) -> "array[int]":
        """The entries of the refcount table: the offset of each refcount block, or zero.

        The zeros at the end are left out.
        """
        return array("Q", [entry & ~0x1FF for entry in big_endian("Q", self._used_refcount_table)])

    @property
    def known_blocks(self) -> int:
        """The number of refcount table entries that were read; `ALL_BLOCKS` if the whole table was read."""
        held = len(self._captured("refcount_table"))
        return ALL_BLOCKS if held == self.header.refcount_table.length else held // 8

    @Remembered
    def _used_refcount_table(self) -> bytes:
        """The bytes of the refcount table, up to the end of the last entry that is not zero."""
        table = self._captured("refcount_table")
        return table[: -(-used_bytes(table) // 8) * 8]

    def cluster_at(self, offset: int) -> bytes:
        """Return the bytes of the cluster at an offset; empty if not all of them have been read."""
        length = self.header.cluster_bytes
        for name in ("refcount_block", "front", "tables"):
            data = self._at(name, offset, length)
            if len(data) == length:
                return data
        return b""

    def _at(self, name: str, offset: int, length: int) -> bytes:
        has_region = self._inspector.has_region(name)
        return self._inspector.region(name).at(offset, length) if has_region else b""

    def _captured(self, name: str) -> bytes:
        return self._inspector.captured(name) if self._inspector.has_region(name) else b""


def _first(pieces: Iterable[ByteRange], most: int) -> Iterator[ByteRange]:
    """Yield the pieces in order, until their total length would exceed `most` bytes."""
    for piece in pieces:
        most -= piece.length
        if most < 0:
            return
        yield piece
