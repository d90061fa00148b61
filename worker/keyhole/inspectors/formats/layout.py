"""Find structures of an image that overlap: headers, tables, and the blocks that maps point to.

A reader such as QEMU writes a block of the disk to the offset that the map states, and does not check what is
stored there. If a map entry points to a header or a table, the guest can overwrite that header or table. The
guest can then change the name of a backing file, or the offsets of other blocks. If two map entries point to
the same offset, a write to one block changes the other block. If the reader then frees one of the two blocks,
it can reuse the space for other data, although the other block is still stored in this space.

Maps have hundreds of thousands of entries. So each map is sorted once, and then searched by bisection.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, groupby, islice, pairwise
from typing import NamedTuple

from keyhole.inspectors.effort import CALL, spend
from keyhole.inspectors.findings import MAX_TOLD, Finding, found
from keyhole.inspectors.formats.ascending import ascending, rises

CHECK = "metadata_overlap"


class Part(NamedTuple):
    """A structure in an image: the offset of its first byte, the offset after its last byte, and its name.

    Findings use the name.
    """

    start: int
    end: int
    name: str


class Blocks:
    """The blocks or tables that a map points to, all of one length.

    Args:
        name: The name of one block in findings, such as `a grain`.
        places: The place of each block's first byte: the number of units (see `unit`) from the offset `base`
            to this byte. The places can be in any order.
        length: The length of each block in bytes.
        unit: The length of a unit in bytes.
        base: The offset of place 0 in bytes.
        shared: Whether the format allows several map entries to point to the same block.
    """

    def __init__(
        self,
        name: str,
        places: Iterable[int],
        length: int,
        *,
        unit: int = 1,
        base: int = 0,
        shared: bool = False,
    ) -> None:
        self.name = name
        self.length = length
        self.shared = shared
        self._unit = unit
        self._base = base
        spend(CALL)
        # There can be millions of places, and a list takes five times as much memory as an array. So store
        # the places as an array, unless a place does not fit into an unsigned 64-bit number.
        self._places: Sequence[int] = ascending(places) if isinstance(places, array) else sorted(places)
        if self._places and self._places[0] >= 0 and self._places[-1] < 1 << 64:
            self._places = self._places if isinstance(self._places, array) else array("Q", self._places)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def start(self) -> int:
        """The offset of the first block in bytes; zero if there are no blocks."""
        return self._base + self._places[0] * self._unit if self._places else 0

    @property
    def end(self) -> int:
        """The offset after the last block in bytes; zero if there are no blocks."""
        return self._base + self._places[-1] * self._unit + self.length if self._places else 0

    @property
    def distinct(self) -> int:
        """The number of different places."""
        return len(self._places) if self._rises(1) else sum(1 for _ in groupby(self._places))

    def _rises(self, units: int) -> bool:
        """Return whether each place is larger than the place before it by at least `units`."""
        # `rises` needs an array. If there are no places, or one of them does not fit into 64 bits, they are
        # in a list. The result is then false, and callers use a slower way.
        return isinstance(self._places, array) and rises(self._places, units)

    def parts(self) -> Iterator[Part]:
        """Yield each block as a part."""
        for place in self._places:
            start = self._base + place * self._unit
            yield Part(start, start + self.length, self.name)

    def over(self, part: Part) -> int | None:
        """Return the offset of the first block that overlaps `part`, or `None` if no block does."""
        # The index of the first block that ends after the part begins.
        index = bisect_left(self._places, (part.start - self.length - self._base) // self._unit + 1)
        if part.end <= part.start or index == len(self._places):
            return None
        start = self._base + self._places[index] * self._unit
        return start if start < part.end else None

    def doubled(self) -> int | None:
        """Return the offset of the first block that overlaps the block before it, or `None` if no block does.

        If the format allows shared blocks, the result is `None`.
        """
        places = self._places
        if self.shared or self._rises(-(-self.length // self._unit)):
            return None
        for before, place in pairwise(places):
            if (place - before) * self._unit < self.length:
                return self._base + place * self._unit
        return None


def overlaps(parts: Iterable[Part], *blocks: Blocks) -> list[Finding]:
    """Return findings on parts that overlap each other, and on blocks that overlap parts or other blocks.

    At most `MAX_TOLD` findings are returned.
    """
    return list(islice(_overlaps(sorted(part for part in parts if part.start < part.end), blocks), MAX_TOLD))


def over(blocks: Blocks, parts: Iterable[Part]) -> Iterator[Finding]:
    """Yield one finding for each part that a block overlaps."""
    for part in parts:
        if (at := blocks.over(part)) is not None:
            yield found(CHECK, f"{blocks.name} at byte {at} overlaps {part.name}")


def _overlaps(parts: Sequence[Part], blocks: Sequence[Blocks]) -> Iterator[Finding]:
    yield from _parts(parts)
    for some in blocks:
        if (at := some.doubled()) is not None:
            yield found(CHECK, f"{some.name} at byte {at} overlaps another one")
        yield from over(some, parts)
    for some, others in combinations(blocks, 2):
        # Usually all blocks of one map are before all blocks of the other map. In this case, the blocks of
        # the two maps cannot overlap, and the search is skipped.
        if some.end > others.start and others.end > some.start:
            few, many = sorted((some, others), key=len)
            yield from islice(over(many, few.parts()), 1)


def _parts(parts: Iterable[Part]) -> Iterator[Finding]:
    """Yield findings on parts that overlap; `parts` must be sorted.

    If several parts overlap each other, there is at least one finding, but not a finding for each pair.
    """
    before: Part | None = None
    for part in parts:
        if before and part.start < before.end:
            yield found(CHECK, f"{part.name} at byte {part.start} overlaps {before.name}")
        if before is None or part.end > before.end:
            before = part
