"""Find contradictions between the tables of a qcow2: overlaps, and clusters with too many references.

Source: QEMU, block/qcow2-refcount.c, qcow2_check_refcounts, qcow2_check_metadata_overlap.

Snapshots share clusters, so several entries can point to the same cluster. A cluster's refcount states how
many references to the cluster there are. A cluster with more references than its refcount states is an error.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.ascending import ascending, rises, unique
from keyhole.inspectors.formats.layout import CHECK, Blocks, Part, overlaps
from keyhole.inspectors.formats.qcow2.entries import Mapped
from keyhole.inspectors.formats.qcow2.maps import L1_OFFSET, SNAPSHOT_BYTES, QcowMaps
from keyhole.inspectors.formats.qcow2.refcounts import Refcounts

#: The refcounts of at most this many clusters are checked for each structure. The largest L1 table has this
#: many clusters if a cluster has 512 bytes.
MAX_CLUSTERS = 65536


def map_findings(maps: QcowMaps, others: Iterable[Part]) -> Iterator[Finding]:
    """Yield findings on structures that overlap, and on clusters whose refcount is too small.

    Args:
        maps: The tables of the image.
        others: The structures that header extensions point to.
    """
    header, cluster = maps.header, maps.header.cluster_bytes
    if not maps.held:
        return
    tables = ascending(maps.l2_tables)
    counted = _counted(tables)
    # If n L1 entries point to the same L2 table, each entry of this table adds n references to the cluster
    # that the entry points to. So the clusters are grouped by n.
    groups = {
        times: maps.mapped_by(offset for offset, count in counted if count == times)
        for times in sorted({count for _, count in counted})
    }
    if any(not group.sound for group in groups.values()):
        yield found(
            "structure", "an L2 entry has reserved bits set or does not point to the start of a cluster"
        )
    if not header.has_data:
        groups = {}
    parts = [*_parts(maps), *others]
    clusters = _unique([group.clusters for group in groups.values()])
    compressed = _unique([group.compressed for group in groups.values()])
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
    """Yield the header and the tables that are contiguous."""
    header = maps.header
    yield Part(0, header.cluster_bytes, "the header")
    yield Part(header.l1_table.offset, header.l1_table.end, "the L1 table")
    yield Part(header.refcount_table.offset, header.refcount_table.end, "the refcount table")
    start = header.snapshot_table_offset
    yield Part(start, start + header.snapshots * SNAPSHOT_BYTES, "the snapshot table")
    for one in maps.snapshots:
        yield Part(one.l1.offset, one.l1.end, "a snapshot's L1 table")


def _miscounted(maps: QcowMaps, parts: Iterable[Part], groups: dict[int, Mapped]) -> Iterator[Finding]:
    """Yield one finding if a cluster has more references than its refcount states.

    Only the tables and refcount blocks that have been read are compared.

    Args:
        maps: The tables of the image.
        parts: The contiguous structures of the image.
        groups: The clusters that L2 tables point to, grouped by the number of L1 entries that point to the L2
            table.
    """
    bits, counts = maps.header.cluster_bits, _refcounts(maps)
    for part in parts:
        last = (part.end - 1) >> bits
        clusters = range(part.start >> bits, min(last + 1, (part.start >> bits) + MAX_CLUSTERS))
        if part.end > part.start and (free := counts.exceeded(clusters)) is not None:
            yield found(CHECK, f"cluster {free} contains a part of {part.name}, but its refcount is zero")
            return
    tables = ascending(array("Q", (offset >> bits for offset in maps.l2_tables)))
    blocks = array("Q", (offset >> bits for offset in unique(maps.refcount_blocks)))
    for times, pointed_at in ((1, tables), (1, blocks), *_pointers(groups)):
        if (shared := counts.exceeded(pointed_at, times)) is not None:
            yield found(CHECK, f"cluster {shared} has more references than its refcount states")
            return
    # Bit 63 of an L1 entry states that the refcount of the L2 table is one. `entries` contains the offset of
    # each L2 table, with a copy of bit 63 in the lowest bit.
    entries = (entry & L1_OFFSET | entry >> 63 for entry in maps.l1_table if entry & L1_OFFSET)
    written = not rises(tables, 1) and any(
        one | 1 == other | 1 and (one | other) & 1 for one, other in pairwise(ascending(array("Q", entries)))
    )
    if written or any(group.in_place for group in groups.values()):
        yield found(
            CHECK, "several entries point to a cluster, but one of them states that its refcount is one"
        )


def _refcounts(maps: QcowMaps) -> Refcounts:
    """Return the refcounts that have been read."""
    header = maps.header
    offsets = unique(maps.refcount_blocks)
    held = {offset: block for offset in offsets if (block := maps.cluster_at(offset))}
    return Refcounts(
        header.refcount_bits,
        header.cluster_bytes * 8 // header.refcount_bits,
        maps.refcount_table,
        held,
        known=maps.known_blocks,
        shared=bool(header.snapshots),
    )


def _snapshot_sizes(maps: QcowMaps) -> Iterator[Finding]:
    """Yield a finding if the L1 table of a snapshot is too short for the size of the snapshot's disk."""
    covered = maps.header.bytes_per_l1_entry
    for one in maps.snapshots:
        if one.disk_bytes is not None and one.l1.length // 8 * covered < one.disk_bytes:
            yield found("size_mismatch", "a snapshot's L1 table is too short for the size of its disk")
            return


def _unique(lists: "Sequence[array[int]]") -> "array[int]":
    """Return the distinct numbers of several arrays in ascending order."""
    if len(lists) == 1:
        return unique(lists[0])
    numbers = array("Q")
    for some in lists:
        numbers.extend(some)
    return unique(numbers)


def _counted(numbers: "array[int]") -> list[tuple[int, int]]:
    """Return each distinct number and how often it occurs; `numbers` must be in ascending order."""
    return [(number, sum(1 for _ in alike)) for number, alike in groupby(numbers)]


def _pointers(groups: dict[int, Mapped]) -> "Iterator[tuple[int, array[int]]]":
    """Yield pairs (times, clusters).

    `clusters` are the clusters that L2 tables point to, and `times` is the number of L1 entries that point to
    each of these L2 tables.
    """
    for times, group in groups.items():
        yield times, group.clusters
        yield times, group.compressed
