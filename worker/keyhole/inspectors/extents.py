"""Extents, which map ranges of a file to places in a container. The rest of the file is holes of zeros.

A disk stored as a sparse file can have thousands of extents. So an extent map stores its extents in arrays of
integers, which take little memory, and finds an extent by bisection.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple


class Extent(NamedTuple):
    """`length` bytes that begin at `offset` in the file and at `place` in the container."""

    offset: int
    length: int
    place: int


class ExtentMap:
    """The extents of a file of `size` bytes. A file stored in one piece has a single extent.

    The caller adds the extents in the order of their offsets, which must also be the order of their places.
    Extents must lie inside the file, and must overlap neither in the file nor in the container.
    """

    __slots__ = ("_lengths", "_offsets", "_places", "size", "stored")

    def __init__(self, size: int) -> None:
        self.size = size
        #: The number of the file's bytes that are not in holes.
        self.stored = 0
        self._offsets, self._lengths, self._places = array("Q"), array("Q"), array("Q")

    @classmethod
    def whole(cls, size: int, place: int) -> "ExtentMap":
        """Return the map of a file that is stored in one piece at `place`."""
        one = cls(size)
        if size:
            one.add(0, size, place)
        return one

    def add(self, offset: int, length: int, place: int) -> None:
        """Add the next extent, which must have at least one byte."""
        self.stored += length
        self._offsets.append(offset)
        self._lengths.append(length)
        self._places.append(place)

    @property
    def place(self) -> int | None:
        """The place of the file's first byte; `None` if the byte is in a hole, or the file is empty."""
        return self._places[0] if self._offsets and self._offsets[0] == 0 else None

    @property
    def sparse(self) -> bool:
        """Whether the file has holes."""
        return self.stored < self.size

    @property
    def end(self) -> int:
        """The place in the container where the last extent ends; 0 without extents."""
        return self._places[-1] + self._lengths[-1] if self._places else 0

    def available(self, container_size: int) -> int:
        """Return how many bytes at the file's beginning lie inside a container of `container_size` bytes."""
        if self.end <= container_size:
            return self.size
        index = bisect_right(self._places, container_size) - 1
        if index >= 0 and self._places[index] + self._lengths[index] > container_size:
            return self._offsets[index] + container_size - self._places[index]
        return self._offsets[index + 1]

    def within(self, offset: int, end: int) -> Iterator[Extent]:
        """Yield the extents, or parts of extents, between `offset` and `end` in the file."""
        for index in self._from(self._offsets, offset):
            if self._offsets[index] >= end:
                return
            yield self._part(index, offset - self._offsets[index], end - self._offsets[index])

    def placed(self, place: int, end: int) -> Iterator[Extent]:
        """Yield the extents, or parts of extents, between `place` and `end` in the container."""
        for index in self._from(self._places, place):
            if self._places[index] >= end:
                return
            yield self._part(index, place - self._places[index], end - self._places[index])

    def holes(self, offset: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield start and end of each hole, or part of a hole, between `offset` and `end` in the file."""
        for extent in self.within(offset, end):
            if offset < extent.offset:
                yield offset, extent.offset
            offset = extent.offset + extent.length
        end = min(end, self.size)
        if offset < end:
            yield offset, end

    def _from(self, starts: "array[int]", start: int) -> range:
        """Return the indexes of the extents that contain or follow `start`.

        `starts` contains the offsets of all extents, or the places of all extents.
        """
        index = max(0, bisect_left(starts, start) - 1)
        if index < len(starts) and starts[index] + self._lengths[index] <= start:
            index += 1
        return range(index, len(starts))

    def _part(self, index: int, start: int, end: int) -> Extent:
        """Return the part of an extent from `start` to `end`, without the bytes that lie outside the extent.

        `start` and `end` are relative to the extent's first byte.
        """
        start, end = max(0, start), min(end, self._lengths[index])
        return Extent(self._offsets[index] + start, end - start, self._places[index] + start)


class JoinedExtents(ExtentMap):
    """The extents of a file that is stored as several smaller files (pieces), placed in any order.

    Args:
        pieces: The extents of each piece, in the order in which the pieces form the joined file.
    """

    __slots__ = ("_pieces", "_starts")

    def __init__(self, pieces: Iterable[ExtentMap]) -> None:
        # Leave out empty pieces, because the place of an empty piece has no meaning.
        self._pieces = [piece for piece in pieces if piece.size]
        self._starts = [0, *accumulate(piece.size for piece in self._pieces)]
        super().__init__(self._starts[-1])
        self.stored = sum(piece.stored for piece in self._pieces)

    @property
    def place(self) -> int | None:
        """The place of the file's first byte; `None` if the byte is in a hole, or the file is empty."""
        return self._pieces[0].place if self._pieces else None

    @property
    def end(self) -> int:
        """The highest place in the container where an extent ends; 0 without extents."""
        return max((piece.end for piece in self._pieces), default=0)

    def available(self, container_size: int) -> int:
        """Return how many bytes at the file's beginning lie inside a container of `container_size` bytes."""
        for start, piece in zip(self._starts, self._pieces, strict=False):
            available = piece.available(container_size)
            if available < piece.size:
                return start + available
        return self.size

    def within(self, offset: int, end: int) -> Iterator[Extent]:
        """Yield the extents, or parts of extents, between `offset` and `end` in the file."""
        first = max(0, bisect_right(self._starts, offset) - 1)
        for start, piece in zip(self._starts[first:], self._pieces[first:], strict=False):
            if start >= end:
                return
            for part in piece.within(max(0, offset - start), end - start):
                yield part._replace(offset=start + part.offset)

    def placed(self, place: int, end: int) -> Iterator[Extent]:
        """Yield the extents, or parts of extents, between `place` and `end` in the container."""
        for start, piece in zip(self._starts, self._pieces, strict=False):
            for part in piece.placed(place, end):
                yield part._replace(offset=start + part.offset)
