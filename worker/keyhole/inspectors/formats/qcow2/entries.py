"""The entries of a qcow2's L2 tables, and the clusters that they point to.

Source: QEMU, docs/interop/qcow2.txt, sections "Cluster mapping", "Extended L2 Entries".

| bits | of an L2 entry |
|---|---|
| 0 | version 3 without extended entries: the cluster reads as zeros |
| 9 to 55 | offset of the cluster; zero: it is not allocated |
| 62 | the cluster is compressed |
| 63 | the cluster's refcount is exactly one, so QEMU writes the cluster in place |

All other bits are zero. For a compressed cluster, x = 62 - (cluster bits - 8):

| bits | of a compressed cluster's entry |
|---|---|
| 0 to x - 1 | offset of the data, which need not be aligned |
| x to 61 | sectors of 512 bytes that the data take after the one in which they begin |

Compressed clusters may share a cluster of the file with each other, but with nothing else.
"""

from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from keyhole.inspectors.effort import CALL, spend
from keyhole.inspectors.fields import SECTOR, big_endian, used_bytes
from keyhole.inspectors.formats.ascending import ascending

#: Reading this many bytes of a table counts as one step of effort.
BYTES_A_STEP = 1024
OFFSET = 0x00FFFFFFFFFFFE00
#: Bits that must be zero in an entry. In version 2 and in extended entries, the lowest bit must be zero too.
RESERVED, LOWEST = 0x3F000000000001FE, 1
COMPRESSED = 1 << 62


class Mapped(NamedTuple):
    """The numbers of the clusters that entries point to, sorted. A number may occur several times.

    `in_place` says whether a cluster that occurs several times is written in place. `sound` is false if an
    entry does not point to the beginning of a cluster, or has a bit set that must be zero.
    """

    clusters: "array[int]"
    compressed: "array[int]"
    in_place: bool
    sound: bool


def mapped(tables: Iterable[bytes], cluster_bits: int, *, extended: bool, version: int) -> Mapped:
    """The clusters that the entries of some L2 tables point to."""
    within = (1 << cluster_bits) - 1
    reserved = RESERVED | (LOWEST if extended or version < 3 else 0) | within & OFFSET
    # Arrays, because there may be two million entries.
    plain, packed = array("Q"), array("Q")
    bad = 0
    for table in tables:
        spend(1 + len(table) // BYTES_A_STEP)
        used = -(-used_bytes(table) // 8) * 8
        for entry in big_endian("Q", table[:used])[:: 2 if extended else 1]:
            if entry & COMPRESSED:
                packed.append(entry)
            elif entry:
                bad |= entry & reserved
                if entry & OFFSET:
                    # The number of the cluster; the lowest bit says whether it is written in place.
                    plain.append((entry & OFFSET) >> cluster_bits << 1 | entry >> 63)
    plain = ascending(plain)
    spend(CALL)
    in_place = any(one >> 1 == other >> 1 and (one | other) & 1 for one, other in pairwise(plain))
    clusters = array("Q", (one >> 1 for one in plain))
    spend(CALL)
    compressed = ascending(
        array("Q", (number for entry in packed for number in _touched(entry, cluster_bits)))
    )
    return Mapped(clusters, compressed, in_place, not bad)


def _touched(entry: int, cluster_bits: int) -> Iterator[int]:
    """The numbers of the clusters that hold the data of a compressed cluster."""
    shift = 62 - (cluster_bits - 8)
    start = entry & ((1 << shift) - 1)
    sectors = (entry >> shift & ((1 << (cluster_bits - 8)) - 1)) + 1
    end = start // SECTOR * SECTOR + sectors * SECTOR
    yield from range(start >> cluster_bits, ((end - 1) >> cluster_bits) + 1)
