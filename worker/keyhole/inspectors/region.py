"""Regions, which are the byte ranges of an image that an inspector captures.

A region receives bytes in any order. It keeps the bytes that lie inside its range and drops the rest. So the
memory of an inspection depends on the declared regions, and not on the length of the object.
"""

from bisect import bisect_left
from typing import NamedTuple


class ByteRange(NamedTuple):
    """A range of `length` bytes that begins at the absolute `offset`."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset of the first byte after the range."""
        return self.offset + self.length


class CaptureRegion:
    """A byte range of an object that an inspector captures.

    Args:
        offset: The absolute offset of the region's first byte.
        length: The region's length in bytes.
    """

    __slots__ = ("_held", "length", "offset")

    def __init__(self, offset: int, length: int) -> None:
        self.offset = offset
        self.length = length
        # The captured pieces as pairs of start and data, in ascending order. The pieces neither touch nor
        # overlap, and nearly always there is only one piece. A growing piece is a bytearray. The property
        # `data` replaces the bytearray with bytes, so that later reads of `data` make no further copy.
        self._held: list[tuple[int, bytearray | bytes]] = []

    def capture(self, chunk: bytes, current_position: int) -> None:
        """Capture the part of a chunk that lies in the region.

        `current_position` is the position *after* the chunk.
        """
        self.put(current_position - len(chunk), chunk)

    def put(self, offset: int, data: bytes) -> bool:
        """Capture the part of `data` that lies in the region. Bytes that are already captured stay unchanged.

        `data` begins at the absolute `offset`.

        Returns:
            Whether the region has changed.
        """
        start, end = self.offset, self.offset + self.length
        if offset >= end or offset + len(data) <= start:
            return False
        start, end = max(offset, start), min(offset + len(data), end)
        if not self._held:  # fast path: most regions arrive in one piece
            piece = data[start - offset : end - offset]
            self._held.append((start, piece))
            return True
        holes = self._holes(start, end)
        for hole in holes:
            self._insert(hole.offset, data[hole.offset - offset : hole.end - offset])
        return bool(holes)

    @property
    def complete(self) -> bool:
        """Whether every byte of the region has been captured."""
        held = self._held
        return len(held[0][1]) == self.length if len(held) == 1 else not self.length

    @property
    def data(self) -> bytes:
        """The captured bytes from the region's beginning up to the first missing byte."""
        if not self._held or self._held[0][0] != self.offset:
            return b""
        data = self._held[0][1]
        if isinstance(data, bytearray):
            data = bytes(data)
            self._held[0] = (self.offset, data)
        return data

    def at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes of `data` from an absolute offset on."""
        start = offset - self.offset
        return self.data[start : start + length] if start >= 0 else b""

    @property
    def held(self) -> int:
        """How many captured bytes are in memory."""
        held = self._held
        return len(held[0][1]) if len(held) == 1 else sum(len(piece) for _, piece in held)

    def pieces(self, wanted: ByteRange) -> list[tuple[int, bytes]]:
        """Return the captured bytes of a range, as pairs of absolute offset and bytes."""
        found = []
        for start, piece in self._held:
            first, end = max(start, wanted.offset), min(start + len(piece), wanted.end)
            if first < end:
                found.append((first, bytes(piece[first - start : end - start])))
        return found

    def gaps(self, size: int | None) -> list[ByteRange]:
        """Return the ranges that are still missing, if the object has `size` bytes (`None`: unknown)."""
        held = self._held
        if len(held) == 1 and len(held[0][1]) == self.length:  # fast path: most regions are complete
            return []
        end = self.offset + self.length
        return self._holes(self.offset, end if size is None else min(end, size))

    def settled(self, size: int | None) -> bool:
        """Whether all bytes of the region that lie in an object of `size` bytes have been captured."""
        held = self._held
        if len(held) == 1:  # fast path: no list of gaps is necessary
            start, piece = held[0]
            length = len(piece)
            if length == self.length or (
                size is not None and start == self.offset and start + length >= size
            ):
                return True
        return not self.length or not self.gaps(size)

    def _holes(self, start: int, end: int) -> list[ByteRange]:
        """Return the parts of the range from `start` to `end` that have not been captured."""
        holes = []
        for piece_start, piece in self._held:
            if piece_start >= end:
                break
            if piece_start > start:
                holes.append(ByteRange(start, piece_start - start))
            start = max(start, piece_start + len(piece))
        if start < end:
            holes.append(ByteRange(start, end - start))
        return holes

    def _insert(self, start: int, data: bytes) -> None:
        """Add bytes that lie in a hole, and join them with the pieces that they touch."""
        index = bisect_left(self._held, start, key=lambda piece: piece[0])
        if index and self._held[index - 1][0] + len(self._held[index - 1][1]) == start:
            index -= 1
            self._join(index, data)
        else:
            # Store the bytes without copying them, because a region can be several megabytes long.
            self._held.insert(index, (start, data))
        if index + 1 < len(self._held):
            joined_start, joined = self._held[index]
            if joined_start + len(joined) == self._held[index + 1][0]:
                self._join(index, self._held.pop(index + 1)[1])

    def _join(self, index: int, data: bytearray | bytes) -> None:
        """Add bytes to the end of a piece."""
        start, piece = self._held[index]
        if len(piece) + len(data) == self.length:
            self._held[index] = (start, b"".join((piece, data)))
            return
        if not isinstance(piece, bytearray):
            piece = bytearray(piece)
        piece += data
        self._held[index] = (start, piece)


class TailRegion(CaptureRegion):
    """The last `length` bytes of an object.

    The region's offset is known once the object's length is known. Until then, the region keeps the last
    `length` bytes below the highest offset that it has seen. The object cannot end below that offset. A
    stream arrives in ascending order, so the bytes that the region drops are not among the object's last
    bytes.
    """

    __slots__ = ("_anchored",)

    def __init__(self, length: int) -> None:
        super().__init__(0, length)
        self._anchored = False

    def put(self, offset: int, data: bytes) -> bool:
        """Capture the part of `data` that lies in the region; see `CaptureRegion.put`."""
        slid = not self._anchored and self._slide(offset + len(data))
        return super().put(offset, data) or slid

    def anchor(self, size: int) -> None:
        """Move the region permanently to the end of an object of `size` bytes."""
        self._slide(size)
        self._anchored = True
        self.length = min(self.length, size)

    def gaps(self, size: int | None) -> list[ByteRange]:
        """Return the ranges that are still missing; none while the object's length is unknown."""
        return super().gaps(size) if self._anchored else []

    @property
    def complete(self) -> bool:
        """Whether the object's length is known and every byte of the region has been captured."""
        return self._anchored and super().complete

    def settled(self, size: int | None) -> bool:  # noqa: ARG002 - `anchor` has already received the size
        """Whether the object's length is known and every byte of the region has been captured."""
        return self.complete

    def _slide(self, end: int) -> bool:
        """Move the region forward so that it ends at `end`, and drop captured bytes before the new range.

        Do nothing, and return false, if the region already ends at or after `end`.
        """
        offset = max(self.offset, end - self.length)
        if offset == self.offset:
            return False
        self.offset = offset
        kept = []
        for start, piece in self._held:
            if start + len(piece) > offset:
                cut = max(0, offset - start)
                kept.append((start + cut, piece[cut:]))
        self._held = kept
        return True
