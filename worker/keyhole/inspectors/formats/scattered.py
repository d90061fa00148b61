"""A region of many pieces: the tables of a map, which lie anywhere between what they lead to."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from keyhole.inspectors.region import ByteRange, CaptureRegion


class ScatteredRegion(CaptureRegion):
    """Pieces of a file that are captured together; what lies between them is not.

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
        #: The numbers of those that are not whole yet.
        self._open = dict.fromkeys(range(len(merged)))

    def put(self, offset: int, data: bytes) -> None:
        """Take what belongs here from bytes that begin at `offset`. Bytes already held stay as they are."""
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
        """The held bytes of the pieces in order, each piece up to its first byte that is not here yet."""
        return b"".join(piece.data for piece in self._pieces)

    def at(self, offset: int, length: int) -> bytes:
        """The bytes captured from an absolute offset on, of the piece in which it lies."""
        number = bisect_right(self._starts, offset) - 1
        return self._pieces[number].at(offset, length) if number >= 0 else b""

    @property
    def held(self) -> int:
        """How many bytes are held in memory."""
        return sum(piece.held for piece in self._pieces)

    def gaps(self, size: int | None) -> list[ByteRange]:
        """The ranges that are still wanted, of an object of `size` bytes (`None`: not known yet)."""
        return [gap for number in self._open for gap in self._pieces[number].gaps(size)]
