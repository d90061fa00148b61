"""The value that every builder returns: the image's size, and the pieces of it that are not zeros.

An image of a terabyte takes little memory: a builder gives the few kilobytes that are not zeros, and all
other bytes are zeros. An image is never changed. Each operation returns a new one, so that a test can damage
a copy and keep the original.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import Self

#: The longest piece, in bytes, that `Image.of` makes by joining pieces that touch: enough for any table, too
#: little for a disk.
JOINED_PIECE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Image:
    """`size` bytes, all zeros except `pieces`: (offset, data), in ascending order, without overlaps.

    Raises:
        ValueError: a piece overlaps its neighbour or reaches past the end. The builder has a bug.
    """

    size: int
    pieces: tuple[tuple[int, bytes], ...] = ()

    def __post_init__(self) -> None:
        reached = 0
        for offset, data in self.pieces:
            if offset < reached:
                raise ValueError(f"the piece at {offset} lies over one that ends at {reached}")
            reached = offset + len(data)
        if reached > self.size:
            raise ValueError(f"the last piece ends at {reached}, past the image's end at {self.size}")

    @classmethod
    def of(cls, size: int, pieces: Iterable[tuple[int, bytes]]) -> Self:
        """An image of `pieces`, in any order; empty ones are dropped, short ones that touch are joined."""
        return cls(size, tuple(_joined(sorted(pieces, key=itemgetter(0)))))

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset` on: `length` of them, or fewer where the image ends."""
        end = min(offset + length, self.size)
        result = bytearray(max(0, end - offset))
        for start, data in self._cut(offset, end):
            result[start - offset : start - offset + len(data)] = data
        return bytes(result)

    def to_bytes(self) -> bytes:
        """The whole image in memory, zeros and all."""
        return self.read(0, self.size)

    def write_to(self, path: str | PathLike[str]) -> Path:
        """Write the image as a sparse file and return its path."""
        target = Path(path)
        with target.open("wb") as file:
            file.truncate(self.size)
            for offset, data in self.pieces:
                file.seek(offset)
                file.write(data)
        return target

    def truncated(self, size: int) -> Self:
        """The first `size` bytes of the image."""
        return type(self)(min(size, self.size), tuple(self._cut(0, size)))

    def patched(self, offset: int, data: bytes) -> Self:
        """The image with `data` written over the bytes at `offset`; the size stays the same."""
        end = offset + len(data)
        return self.of(self.size, (*self._cut(0, offset), (offset, data), *self._cut(end, self.size)))

    def appended(self, data: bytes) -> Self:
        """The image with `data` appended."""
        return self.of(self.size + len(data), (*self.pieces, (self.size, data)))

    def _cut(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """The pieces, or parts of them, that lie in `start` up to `end`."""
        first = max(0, bisect_right(self.pieces, start, key=itemgetter(0)) - 1)
        for index in range(first, len(self.pieces)):
            offset, data = self.pieces[index]
            if offset >= end:
                break
            part = data[max(0, start - offset) : end - offset]
            if part:
                yield max(offset, start), part


def _joined(pieces: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    start, run = 0, bytearray()
    for offset, data in pieces:
        if run and (offset != start + len(run) or len(run) + len(data) > JOINED_PIECE_LIMIT):
            yield start, bytes(run)
            run = bytearray()
        if not run:
            start = offset
        run += data
    if run:
        yield start, bytes(run)


def round_up(value: int, unit: int) -> int:
    """Round `value` up to a multiple of `unit`."""
    return ceil_div(value, unit) * unit


def ceil_div(value: int, unit: int) -> int:
    """Divide `value` by `unit` and round up."""
    return -(-value // unit)
