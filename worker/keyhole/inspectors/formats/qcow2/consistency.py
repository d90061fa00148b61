"""Finds contradictions between the tables of a qcow2: overlaps, and clusters used more often than counted.

Source: QEMU, block/qcow2-refcount.c, qcow2_check_refcounts, qcow2_check_metadata_overlap.

Snapshots share clusters, so several entries may point to one cluster, but no more than its refcount says.
"""

from array import array
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise

from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.ascending import ascending, unique
from keyhole.inspectors.formats.layout import CHECK, Blocks, Part, overlaps
from keyhole.inspectors.formats.qcow2.entries import Mapped
from keyhole.inspectors.formats.qcow2.maps import L1_OFFSET, SNAPSHOT_BYTES, QcowMaps
from keyhole.inspectors.formats.qcow2.refcounts import Refcounts

#: At most this many clusters of one structure are checked against their refcounts. The largest L1 table takes
#: as many clusters if a cluster has 512 bytes.
MAX_CLUSTERS = 65536


def map_findings(maps: QcowMaps, others: Iterable[Part]) -> Iterator[Finding]:
    """Findings on structures that overlap, and on clusters with more pointers than their refcount says.

    Args:
        maps: The tables.
        others: Structures that the header points to, other than the tables.
    """
    header, cluster = maps.header, maps.header.cluster_bytes
    if not maps.held:
        return
    tables = ascending(maps.l2_tables)
    counted = _counted(tables)
    groups = {
        times: maps.mapped_by(offset for offset, count in counted if count == times)
        for times in sorted({count for _, count in counted})
    }
    if any(not group.sound for group in groups.values()):
        yield found("structure", "an entry of an L2 table does not lead to the start of a cluster")
    if not header.has_data:
        groups = {}
    parts = [*_parts(maps), *others]
    clusters = _unique(group.clusters for group in groups.values())
    compressed = _unique(group.compressed for group in groups.values())
    yield from overlaps(
        parts,
        Blocks("a refcount block", maps.refcount_blocks, cluster),
        Blocks("an L2 table", unique(tables), cluster),
        Blocks("a cluster", clusters, cluster, unit=cluster),
        Blocks("a compressed cluster", compressed, cluster, unit=cluster),
    )
    yield from _snapshot_sizes(maps)
    if header.refcounts_right:
        yield from _miscounted(maps, parts, groups)


def _parts(maps: QcowMaps) -> Iterator[Part]:
    """The header, and the tables that are contiguous."""
    header = maps.header
    yield Part(0, header.cluster_bytes, "the header")
    yield Part(header.l1_table.offset, header.l1_table.end, "the L1 table")
    yield Part(header.refcount_table.offset, header.refcount_table.end, "the refcount table")
    start = header.snapshot_table_offset
    yield Part(start, start + header.snapshots * SNAPSHOT_BYTES, "the snapshot table")
    for one in maps.snapshots:
        yield Part(one.l1.offset, one.l1.end, "a snapshot's L1 table")


def _miscounted(maps: QcowMaps, parts: Iterable[Part], groups: dict[int, Mapped]) -> Iterator[Finding]:
    """A finding if a cluster has more pointers than its refcount says, by the tables and blocks held."""
    bits, counts = maps.header.cluster_bits, _refcounts(maps)
    for part in parts:
        last = (part.end - 1) >> bits
        clusters = range(part.start >> bits, min(last + 1, (part.start >> bits) + MAX_CLUSTERS))
        if part.end > part.start and (free := counts.exceeded(clusters)) is not None:
            yield found(CHECK, f"cluster {free} holds a part of {part.name}, and is free by its refcount")
            return
    tables = array("Q", (offset >> bits for offset in maps.l2_tables))
    blocks = array("Q", (offset >> bits for offset in unique(maps.refcount_blocks)))
    for times, pointed_at in ((1, ascending(tables)), (1, blocks), *_pointers(groups)):
        if (shared := counts.exceeded(pointed_at, times)) is not None:
            yield found(CHECK, f"cluster {shared} is pointed at more often than its refcount says")
            return
    # The offset of each L2 table; the lowest bit says whether the table is written in place.
    entries = (entry & L1_OFFSET | entry >> 63 for entry in maps.l1_table if entry & L1_OFFSET)
    written = any(
        one | 1 == other | 1 and (one | other) & 1 for one, other in pairwise(ascending(array("Q", entries)))
    )
    if written or any(group.in_place for group in groups.values()):
        yield found(CHECK, "a cluster is pointed at several times, but is written in place")


def _refcounts(maps: QcowMaps) -> Refcounts:
    """The refcounts that are held."""
    header, table = maps.header, maps.refcount_table
    offsets = unique(maps.refcount_blocks)
    held = {offset: block for offset in offsets if (block := maps.cluster_at(offset))}
    return Refcounts(
        header.refcount_bits,
        header.cluster_bytes * 8 // header.refcount_bits,
        table,
        held,
        whole=8 * len(table) == header.refcount_table.length,
        shared=bool(header.snapshots),
    )


def _snapshot_sizes(maps: QcowMaps) -> Iterator[Finding]:
    """A finding on a snapshot whose L1 table is too short for its disk."""
    covered = maps.header.bytes_per_l1_entry
    for one in maps.snapshots:
        if one.disk_bytes is not None and one.l1.length // 8 * covered < one.disk_bytes:
            yield found("size_mismatch", "a snapshot's L1 table is too short for the size of its disk")
            return


def _unique(lists: "Iterable[array[int]]") -> "array[int]":
    """The distinct numbers of several sorted lists, in ascending order."""
    numbers = array("Q")
    for some in lists:
        numbers.extend(some)
    return unique(numbers)


def _counted(numbers: "array[int]") -> list[tuple[int, int]]:
    """Pairs of a number and how often it occurs, from numbers in ascending order."""
    return [(number, sum(1 for _ in alike)) for number, alike in groupby(numbers)]


def _pointers(groups: dict[int, Mapped]) -> "Iterator[tuple[int, array[int]]]":
    """The clusters that L2 tables point to, with how many L1 entries point to each of these tables."""
    for times, group in groups.items():
        yield times, group.clusters
        yield times, group.compressed
