"""The value that every builder returns: the size of an image, and the pieces of the image that are not zeros.

An image of a terabyte takes little memory, because `pieces` contains only the few kilobytes that are not
zeros. An `Image` is immutable. Each operation returns a new `Image`, so a test can damage a copy and keep the
original.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import Self

#: `Image.of` joins adjacent pieces into one piece of at most this many bytes. The tables of an image are
#: shorter than this limit, so each table becomes one piece. Longer runs of adjacent pieces, such as the
#: content of a disk, are not copied into one large piece.
JOINED_PIECE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Image:
    """An image of `size` bytes, which are zeros except in `pieces`.

    A piece is (offset, data). The pieces are in ascending order and do not overlap.

    Raises:
        ValueError: A piece overlaps another piece or ends after the image's end. This means that the builder
            has a bug.
    """

    size: int
    pieces: tuple[tuple[int, bytes], ...] = ()

    def __post_init__(self) -> None:
        reached = 0
        for offset, data in self.pieces:
            if offset < reached:
                raise ValueError(f"the piece at {offset} overlaps the piece that ends at {reached}")
            reached = offset + len(data)
        if reached > self.size:
            raise ValueError(f"the last piece ends at {reached}, after the image's end at {self.size}")

    @classmethod
    def of(cls, size: int, pieces: Iterable[tuple[int, bytes]]) -> Self:
        """Return an image of `pieces` in any order. Drop empty pieces, and join short adjacent pieces."""
        return cls(size, tuple(_joined(sorted(pieces, key=itemgetter(0)))))

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset` on, or fewer if the image ends earlier."""
        end = min(offset + length, self.size)
        result = bytearray(max(0, end - offset))
        for start, data in self._cut(offset, end):
            result[start - offset : start - offset + len(data)] = data
        return bytes(result)

    def to_bytes(self) -> bytes:
        """Return all bytes of the image, including the zeros."""
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
        """Return the first `size` bytes of the image."""
        return type(self)(min(size, self.size), tuple(self._cut(0, size)))

    def patched(self, offset: int, data: bytes) -> Self:
        """Return the image with `data` in place of the bytes at `offset`. The size does not change."""
        end = offset + len(data)
        return self.of(self.size, (*self._cut(0, offset), (offset, data), *self._cut(end, self.size)))

    def appended(self, data: bytes) -> Self:
        """Return the image with `data` appended."""
        return self.of(self.size + len(data), (*self.pieces, (self.size, data)))

    def _cut(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the parts of the pieces between the offsets `start` and `end`."""
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
