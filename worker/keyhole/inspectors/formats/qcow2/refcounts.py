"""The refcounts of a qcow2: how many pointers each cluster may have.

Source: QEMU, docs/interop/qcow2.txt, section "Host cluster management".

The refcount table points to refcount blocks, each of one cluster. A refcount has 1, 2, 4, 8, 16, 32 or 64
bits. Refcounts of fewer than 8 bits share a byte, the first in its low bits; wider ones are big-endian. If a
cluster has more pointers than its refcount says, QEMU can free it while something still points to it.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import groupby, islice, pairwise
from operator import eq

from keyhole.inspectors.effort import spend
from keyhole.inspectors.fields import big_endian

#: The array type code for each width of a refcount in bits.
CODES = {8: "B", 16: "H", 32: "I", 64: "Q"}


class Refcounts:
    """The refcounts in the refcount blocks that are held.

    Args:
        bits: The bits of a refcount.
        per_block: How many refcounts a block has.
        table: The offsets of the blocks, as far as the refcount table is held; zero if there is no block.
        blocks: The blocks that are held completely, by their offset.
        whole: Whether all of the refcount table is held.
        shared: Whether clusters whose refcounts are not held may have several pointers.
    """

    def __init__(
        self,
        bits: int,
        per_block: int,
        table: Sequence[int],
        blocks: Mapping[int, bytes],
        *,
        whole: bool,
        shared: bool,
    ) -> None:
        self._bits = bits
        self._per_block = per_block
        self._table = table
        self._blocks = blocks
        self._whole = whole
        self._shared = shared

    def exceeded(self, clusters: Sequence[int], times: int = 1) -> int | None:
        """The number of a cluster that has more pointers than its refcount says; `None` if there is none.

        Args:
            clusters: The numbers of the clusters, sorted; a cluster is listed once for each pointer to it.
            times: How many pointers each list entry stands for.
        """
        start = 0
        while start < len(clusters):
            spend()
            block = clusters[start] // self._per_block
            base = block * self._per_block
            end = bisect_left(clusters, base + self._per_block, start)
            some = array("Q", (cluster - base for cluster in clusters[start:end]))
            start = end
            if (place := self._exceeded_in(some, self._counts(block), times)) is not None:
                return base + place
        return None

    def _exceeded_in(self, places: "array[int]", counts: Sequence[int] | None, times: int) -> int | None:
        """Like `exceeded`, for places within one block, whose refcounts are `counts`."""
        if counts is None:
            if self._shared:
                return None
            return _repeated(places, None, times) if times == 1 else places[0]
        if min(map(counts.__getitem__, places)) < times:
            return next(place for place in places if counts[place] < times)
        return _repeated(places, counts, times)

    def _counts(self, block: int) -> "Sequence[int] | None":
        """The refcounts in a block; `None` if they are not held."""
        if block >= len(self._table):
            return bytes(self._per_block) if self._whole else None
        if not self._table[block]:
            return bytes(self._per_block)
        data = self._blocks.get(self._table[block])
        return None if data is None else decoded(data, self._bits)


def decoded(block: bytes, bits: int) -> Sequence[int]:
    """The refcounts of a block."""
    if bits in CODES:
        return big_endian(CODES[bits], block)
    mask, shifts = (1 << bits) - 1, range(0, 8, bits)
    return bytes(byte >> shift & mask for byte in block for shift in shifts)


def _repeated(places: "array[int]", counts: Sequence[int] | None, times: int) -> int | None:
    """A place that the sorted list has more often than its refcount allows; `None` if there is none."""
    if not any(map(eq, places, islice(places, 1, None))):
        return None
    for place, _ in groupby(one for one, other in pairwise(places) if one == other):
        pointers = times * (bisect_right(places, place) - bisect_left(places, place))
        if counts is None or counts[place] < pointers:
            return place
    return None
