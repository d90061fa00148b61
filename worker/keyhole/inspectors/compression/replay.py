"""Passes a decoder's output to an inspection, and passes parts of it again if the inspection needs them.

The decoder yields its output only once, in order. But an inspection can need bytes that have already passed,
for example a table at a lower offset than the header that points to the table. So the first and the most
recent bytes of the output are kept, and passed again if the inspection needs them. Bytes between these two
parts cannot be passed again.
"""

from collections import deque
from collections.abc import Iterator

from keyhole.inspectors.inside import Look
from keyhole.inspectors.region import ByteRange

#: How many bytes of the output's beginning are kept, and at least how many of the most recent bytes are kept.
#: UDF's anchor at 512 KiB points to descriptors before it. A DMG's trailer and a VMDK's footer point to
#: tables a short distance before them.
KEPT_FIRST, KEPT_LAST = 1024**2, 1024**2


class Replay:
    """Passes the output to an inspection, and keeps its first and its most recent bytes."""

    def __init__(self, inspection: Look) -> None:
        self.inspection = inspection
        #: How many bytes of output were passed to the inspection.
        self.position = 0
        self._first: list[tuple[int, bytes]] = []
        self._last: deque[tuple[int, bytes]] = deque()
        self._held_last = 0
        #: The ranges that the inspection needs after it received the bytes up to `position`.
        self._wanted = inspection.missing()
        #: Whether the inspection has recognised a container.
        self._takes_all = False

    def show(self, data: bytes) -> None:
        """Pass the next bytes of output to the inspection, if it needs some of them.

        A container receives all bytes, because its members can need bytes that `missing` does not return yet.
        """
        wanted = self._takes_all or self.wants(self.position + len(data))
        if wanted:
            self.inspection.feed(self.position, data)
        self._keep(data)
        self.position += len(data)
        if wanted:
            self._give()

    def finish(self) -> None:
        """Set the member's length to the length of the output."""
        self.inspection.finish(self.position)
        self._give()

    def wants(self, end: int) -> bool:
        """Return whether the inspection needs bytes between the current position and the offset `end`."""
        return any(gap.end > self.position and gap.offset < end for gap in self._wanted)

    @property
    def held(self) -> int:
        """How many bytes this object keeps in memory, without the bytes in the inspection's regions."""
        return self._held_last + sum(len(data) for _, data in self._first)

    def _keep(self, data: bytes) -> None:
        if self.position < KEPT_FIRST:
            self._first.append((self.position, data[: KEPT_FIRST - self.position]))
        self._last.append((self.position, data))
        self._held_last += len(data)
        while self._held_last - len(self._last[0][1]) >= KEPT_LAST:
            self._held_last -= len(self._last.popleft()[1])

    def _give(self) -> None:
        """Pass kept bytes to the inspection until it needs no more of them.

        This is a loop, because the inspection can declare new regions when it receives bytes.
        """
        self._wanted = self.inspection.missing()
        self._takes_all = any(one.IS_CONTAINER for one in self.inspection.matches)
        while parts := [part for gap in self._passed() for part in self._kept(gap)]:
            for offset, data in parts:
                self.inspection.feed(offset, data)
            self._wanted = self.inspection.missing()

    def _passed(self) -> list[ByteRange]:
        """Return the ranges that the inspection needs and that have already passed."""
        return [gap for gap in self._wanted if gap.offset < self.position]

    def _kept(self, gap: ByteRange) -> Iterator[tuple[int, bytes]]:
        """Yield the kept bytes of a range, with their offsets."""
        for offset, data in (*self._first, *self._last):
            start, end = max(offset, gap.offset), min(offset + len(data), gap.end)
            if start < end:
                yield start, data[start - offset : end - offset]
