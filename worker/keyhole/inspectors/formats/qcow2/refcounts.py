"""The refcounts of a qcow2. A cluster's refcount states how many references to the cluster there are.

Source: QEMU, docs/interop/qcow2.txt, section "Host cluster management".

The refcount table points to refcount blocks. Each block has the size of a cluster. A refcount has 1, 2, 4, 8,
16, 32 or 64 bits. Several refcounts of fewer than 8 bits share a byte, and the first of these refcounts is in
the lowest bits. Refcounts of 16 bits and more are big-endian. If a cluster has more references than its
refcount states, QEMU can free the cluster while an entry still points to it.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise

from keyhole.inspectors.effort import spend
from keyhole.inspectors.fields import big_endian
from keyhole.inspectors.formats.ascending import rises

#: The array type code for each width of a refcount in bits. Narrower refcounts have no type code, because
#: several of them share a byte.
CODES = {8: "B", 16: "H", 32: "I", 64: "Q"}

#: The value of the parameter `known` of `Refcounts` if all entries of the refcount table have been read. No
#: table has this many entries.
ALL_BLOCKS = 1 << 64


class Refcounts:
    """The refcounts in the refcount blocks that have been read.

    Args:
        bits: The width of a refcount in bits.
        per_block: The number of refcounts in a block.
        table: The entries of the refcount table that have been read: offsets of blocks, or zero for no block.
            Callers may leave out the zeros at the end.
        blocks: The blocks that have been read completely, by their offset.
        known: The number of blocks whose entries in the refcount table have been read; `ALL_BLOCKS` if the
            whole table has been read.
        shared: Whether a cluster may have several references if its refcount has not been read.
    """

    def __init__(
        self,
        bits: int,
        per_block: int,
        table: Sequence[int],
        blocks: Mapping[int, bytes],
        *,
        known: int,
        shared: bool,
    ) -> None:
        self._bits = bits
        self._per_block = per_block
        self._table = table
        self._blocks = blocks
        self._known = known
        self._shared = shared
        # The refcounts of the blocks that have been parsed so far, by the offset of the block.
        self._decoded: dict[int, Sequence[int]] = {}

    def exceeded(self, clusters: Sequence[int], times: int = 1) -> int | None:
        """Return the number of a cluster that has more references than its refcount states, or `None`.

        Args:
            clusters: The numbers of the clusters in ascending order. A number may occur several times.
            times: How many references each occurrence of a cluster's number represents.
        """
        start = 0
        while start < len(clusters):
            spend()
            block = clusters[start] // self._per_block
            base = block * self._per_block
            end = bisect_left(clusters, base + self._per_block, start)
            some = clusters[start:end]
            places = array("Q", some) if not base else array("Q", [cluster - base for cluster in some])
            start = end
            if (place := self._exceeded_in(places, self._counts(block), times)) is not None:
                return base + place
        return None

    def _exceeded_in(self, places: "array[int]", counts: Sequence[int] | None, times: int) -> int | None:
        """Return the place of a cluster that has more references than its refcount states, or `None`.

        Args:
            places: The places of the clusters' refcounts within one block, in ascending order.
            counts: The refcounts of the block, or `None` if the block has not been read.
            times: How many references each occurrence of a place represents.
        """
        if counts is None:
            if self._shared:
                return None
            return _repeated(places, None, times) if times == 1 else places[0]
        if min(map(counts.__getitem__, places)) < times:
            return next(place for place in places if counts[place] < times)
        return _repeated(places, counts, times)

    def _counts(self, block: int) -> "Sequence[int] | None":
        """Return the refcounts in a block, or `None` if they have not been read."""
        if block >= self._known:
            return None
        offset = self._table[block] if block < len(self._table) else 0
        if offset not in self._decoded:
            data = self._blocks.get(offset) if offset else None
            if offset and data is None:
                return None
            self._decoded[offset] = bytes(self._per_block) if data is None else decoded(data, self._bits)
        return self._decoded[offset]


def decoded(block: bytes, bits: int) -> Sequence[int]:
    """Return the refcounts in a block; `bits` is the width of a refcount."""
    if bits in CODES:
        return big_endian(CODES[bits], block)
    mask, shifts = (1 << bits) - 1, range(0, 8, bits)
    return bytes(byte >> shift & mask for byte in block for shift in shifts)


def _repeated(places: "array[int]", counts: Sequence[int] | None, times: int) -> int | None:
    """Return a place that occurs more often than its refcount allows, or `None`.

    If `counts` is `None`, every place that occurs several times has too many references.
    """
    if rises(places, 1):
        return None
    for place, _ in groupby(one for one, other in pairwise(places) if one == other):
        pointers = times * (bisect_right(places, place) - bisect_left(places, place))
        if counts is None or counts[place] < pointers:
            return place
    return None
