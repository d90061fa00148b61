"""The entries of a qcow2's L2 tables, and the clusters that the entries point to.

Source: QEMU, docs/interop/qcow2.txt, sections "Cluster mapping", "Extended L2 Entries".

| bits | field of an L2 entry |
|---|---|
| 0 | version 3 without extended entries: the cluster reads as zeros |
| 9 to 55 | offset of the cluster, or zero if the cluster is not allocated |
| 62 | the cluster is compressed |
| 63 | the cluster's refcount is exactly one, so QEMU writes the cluster in place |

All other bits must be zero. The entry of a compressed cluster has other fields, where
x = 62 - (cluster bits - 8):

| bits | field of a compressed cluster's entry |
|---|---|
| 0 to x - 1 | offset of the data, which need not be aligned |
| x to 61 | number of 512-byte sectors that the data occupy, not counting the first sector |

The data of several compressed clusters may be stored in the same cluster of the file. Other data must not be
stored in that cluster.
"""

from array import array
from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import NamedTuple

from keyhole.inspectors.effort import CALL, spend
from keyhole.inspectors.fields import SECTOR, big_endian, used_bytes
from keyhole.inspectors.formats.ascending import ascending, rises

#: Parsing this many bytes of a table is counted as one step of effort; see `spend`.
BYTES_A_STEP = 1024
OFFSET = 0x00FFFFFFFFFFFE00
#: Bits that must be zero in an entry. In version 2 and in extended entries, the lowest bit must be zero too.
RESERVED, LOWEST = 0x3F000000000001FE, 1
COMPRESSED = 1 << 62
#: The possible values of an entry's first byte if the entry's cluster is not compressed.
UNCOMPRESSED = bytes(byte for byte in range(256) if not byte << 56 & COMPRESSED)


class Mapped(NamedTuple):
    """The numbers of the clusters that entries point to, in ascending order.

    A cluster's number occurs once for each entry that points to the cluster.

    Attributes:
        clusters: The uncompressed clusters.
        compressed: The clusters of the file that contain compressed data.
        in_place: Whether several entries point to the same cluster although one of the entries states that
            the cluster's refcount is one. QEMU overwrites such a cluster in place.
        sound: False if an entry does not point to the start of a cluster, or if a reserved bit is set.
    """

    clusters: "array[int]"
    compressed: "array[int]"
    in_place: bool
    sound: bool


def mapped(tables: Iterable[bytes], cluster_bits: int, *, extended: bool, version: int) -> Mapped:
    """Return the clusters that the entries of L2 tables point to.

    Args:
        tables: The bytes of each L2 table.
        cluster_bits: The binary logarithm of the cluster size in bytes.
        extended: Whether entries have 16 bytes instead of 8.
        version: The version of the image, 2 or 3.
    """
    within = (1 << cluster_bits) - 1
    reserved = RESERVED | (LOWEST if extended or version < 3 else 0) | within & OFFSET
    step = 2 if extended else 1
    # There can be two million entries, and a list would need five times the memory of an array. Only the
    # entries of one table at a time are converted to a list.
    plain, packed, clusters = array("Q"), array("Q"), array("Q")
    sound = True
    for table in tables:
        spend(1 + len(table) // BYTES_A_STEP)
        used = -(-used_bytes(table) // 8) * 8
        entries = big_endian("Q", table[:used])[::step]
        if table[: used : 8 * step].translate(None, UNCOMPRESSED):
            packed.extend(entry for entry in entries if entry & COMPRESSED)
            entries = array("Q", [entry for entry in entries if not entry & COMPRESSED])
        sound = sound and not reduce(or_, entries, 0) & reserved
        plain.extend(entries)
        clusters.extend([(entry & OFFSET) >> cluster_bits for entry in entries if entry & OFFSET])
    clusters = ascending(clusters)
    in_place = not rises(clusters, 1) and _in_place(plain, cluster_bits)
    spend(CALL)
    compressed = ascending(
        array("Q", (number for entry in packed for number in _touched(entry, cluster_bits)))
    )
    return Mapped(clusters, compressed, in_place, sound)


def _in_place(entries: "array[int]", cluster_bits: int) -> bool:
    """Return whether entries share a cluster although one of them states that the refcount is one."""
    spend(CALL)
    # Each value consists of the cluster's number and, as the lowest bit, bit 63 of the entry.
    marked = ascending(
        array(
            "Q", ((entry & OFFSET) >> cluster_bits << 1 | entry >> 63 for entry in entries if entry & OFFSET)
        )
    )
    return any(one >> 1 == other >> 1 and (one | other) & 1 for one, other in pairwise(marked))


def _touched(entry: int, cluster_bits: int) -> Iterator[int]:
    """Yield the numbers of the clusters of the file that contain the data of a compressed cluster."""
    shift = 62 - (cluster_bits - 8)
    start = entry & ((1 << shift) - 1)
    sectors = (entry >> shift & ((1 << (cluster_bits - 8)) - 1)) + 1
    end = start // SECTOR * SECTOR + sectors * SECTOR
    yield from range(start >> cluster_bits, ((end - 1) >> cluster_bits) + 1)
