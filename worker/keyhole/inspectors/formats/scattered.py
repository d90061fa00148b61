"""A region of many pieces, for the tables of a map, which lie scattered among the data that they point to."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from keyhole.inspectors.region import ByteRange, CaptureRegion


class ScatteredRegion(CaptureRegion):
    """Pieces of a file that are captured together, without the bytes between them.

    Args:
        pieces: The pieces, in any order. Those that touch or overlap become one.
    """

    __slots__ = ("_open", "_pieces", "_starts")

    def __init__(self, pieces: Iterable[ByteRange]) -> None:
        merged: list[ByteRange] = []
        for piece in sorted(piece for piece in pieces if piece.length > 0):
            if merged and piece.offset <= merged[-1].end:
                end = max(merged[-1].end, piece.end)
                merged[-1] = ByteRange(merged[-1].offset, end - merged[-1].offset)
            else:
                merged.append(piece)
        super().__init__(merged[0].offset if merged else 0, sum(piece.length for piece in merged))
        self._pieces = [CaptureRegion(*piece) for piece in merged]
        self._starts = [piece.offset for piece in merged]
        #: The numbers of the pieces that are not complete yet.
        self._open = dict.fromkeys(range(len(merged)))

    def put(self, offset: int, data: bytes) -> None:
        """Keep those bytes of `data`, which begins at `offset`, that lie in a piece and are not held yet."""
        first = max(0, bisect_right(self._starts, offset) - 1)
        for number in range(first, bisect_left(self._starts, offset + len(data))):
            if number in self._open:
                self._pieces[number].put(offset, data)
                if self._pieces[number].complete:
                    del self._open[number]

    @property
    def complete(self) -> bool:
        """Whether every byte of every piece has been captured."""
        return not self._open

    @property
    def data(self) -> bytes:
        """The held bytes of the pieces in order, each piece up to its first missing byte."""
        return b"".join(piece.data for piece in self._pieces)

    def at(self, offset: int, length: int) -> bytes:
        """The bytes captured from an absolute offset on, up to the end of the piece that contains it."""
        number = bisect_right(self._starts, offset) - 1
        return self._pieces[number].at(offset, length) if number >= 0 else b""

    @property
    def held(self) -> int:
        """How many bytes are held in memory."""
        return sum(piece.held for piece in self._pieces)

    def gaps(self, size: int | None) -> list[ByteRange]:
        """The ranges that are still missing, for an object of `size` bytes (`None`: not known yet)."""
        return [gap for number in self._open for gap in self._pieces[number].gaps(size)]
