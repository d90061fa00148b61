"""The strip that shows which ranges of an object a scan has read, and the numbers beside it."""

from collections.abc import Sequence
from typing import Final, NamedTuple

#: The width of the strip, in units of its SVG image.
WIDTH: Final = 1000.0
#: The least width of a range. A range of some kilobytes of a large object would be invisible otherwise.
_NARROWEST: Final = 4.0


class Piece(NamedTuple):
    """A range on the strip: its place and width, in units of the image, and the range in bytes."""

    x: float
    width: float
    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset of the last byte."""
        return self.offset + self.length - 1


class Strip(NamedTuple):
    """The ranges of an object of `size` bytes, and the number of bytes in all ranges."""

    pieces: tuple[Piece, ...]
    size: int
    read: int


def strip(ranges: Sequence[tuple[int, int]], size: int | None) -> Strip | None:
    """Return the strip; `None` if the size or the ranges are unknown. Ranges outside it are left out."""
    if not size or size < 0:
        return None
    inside = [
        (offset, min(length, size - offset)) for offset, length in ranges if 0 <= offset < size and length > 0
    ]
    if not inside:
        return None
    pieces = []
    for offset, length in inside:
        width = max(_NARROWEST, WIDTH * length / size)
        x = min(WIDTH * offset / size, WIDTH - width)
        pieces.append(Piece(round(max(0.0, x), 2), round(min(width, WIDTH), 2), offset, length))
    return Strip(tuple(pieces), size, min(size, sum(length for _, length in inside)))
