"""A region that consists of separate pieces, for tables that are scattered among the data of an image."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from keyhole.inspectors.region import ByteRange, CaptureRegion


class ScatteredRegion(CaptureRegion):
    """A region of several pieces of a file, without the bytes between the pieces.

    Args:
        pieces: The pieces, in any order. Pieces that touch or overlap are merged.
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

    def put(self, offset: int, data: bytes) -> bool:
        """Store the bytes of `data` that belong to a piece and are not stored yet.

        Args:
            offset: The absolute offset of the first byte of `data`.
            data: Bytes of the file.

        Returns:
            Whether any piece has changed.
        """
        changed = False
        if not self._open:
            return changed
        first = max(0, bisect_right(self._starts, offset) - 1)
        for number in range(first, bisect_left(self._starts, offset + len(data))):
            if number in self._open:
                changed |= self._pieces[number].put(offset, data)
                if self._pieces[number].complete:
                    del self._open[number]
        return changed

    @property
    def complete(self) -> bool:
        """Whether every byte of every piece has been captured."""
        return not self._open

    @property
    def data(self) -> bytes:
        """The captured bytes of all pieces in order, each piece up to its first missing byte."""
        return b"".join(piece.data for piece in self._pieces)

    def at(self, offset: int, length: int) -> bytes:
        """Return at most `length` captured bytes from an absolute offset on.

        The result never extends beyond the piece that contains the offset.
        """
        number = bisect_right(self._starts, offset) - 1
        return self._pieces[number].at(offset, length) if number >= 0 else b""

    @property
    def held(self) -> int:
        """The number of bytes in memory."""
        return sum(piece.held for piece in self._pieces)

    def gaps(self, size: int | None) -> list[ByteRange]:
        """Return the ranges that are still missing.

        Args:
            size: The object's length in bytes, or `None` if it is not known yet.
        """
        return [gap for number in self._open for gap in self._pieces[number].gaps(size)]

    def settled(self, size: int | None) -> bool:
        """Whether all bytes of the pieces have been captured.

        Bytes beyond the end of an object of `size` bytes are not needed.
        """
        return not self._open or not self.gaps(size)
