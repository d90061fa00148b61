"""Shows a decoder's output to an inspection, and repeats recent output on request.

The output passes once, from front to end. An inspection may want bytes that have passed already, such as a
table that lies before the header that leads to it. So the first and the last bytes are kept for a while and
shown again if the inspection asks for them. The inspection misses the bytes between.
"""

from collections import deque
from collections.abc import Iterator

from keyhole.inspectors.inside import Look
from keyhole.inspectors.region import ByteRange

#: Bytes that are kept of the output's beginning, and at least of its end. UDF's anchor at 512 KiB leads to
#: descriptors before it, and a DMG's trailer and a VMDK's footer lead to tables not far before them.
KEPT_FIRST, KEPT_LAST = 1024**2, 1024**2


class Replay:
    """Shows the output to an inspection in order, and keeps the first and last bytes to show them again."""

    def __init__(self, inspection: Look) -> None:
        self.inspection = inspection
        #: How many bytes have passed.
        self.position = 0
        self._first: list[tuple[int, bytes]] = []
        self._last: deque[tuple[int, bytes]] = deque()
        self._held_last = 0

    def show(self, data: bytes) -> None:
        """Show the next bytes."""
        self.inspection.feed(self.position, data)
        self._keep(data)
        self.position += len(data)
        self._give()

    def finish(self) -> None:
        """Tell the inspection that the output has ended."""
        self.inspection.finish(self.position)
        self._give()

    def wants(self, end: int) -> bool:
        """Whether the inspection wants bytes that are still to come and begin before `end`."""
        return any(gap.end > self.position and gap.offset < end for gap in self.inspection.missing())

    @property
    def held(self) -> int:
        """How many bytes are kept here, not counting those that the inspection holds."""
        return self._held_last + sum(len(data) for _, data in self._first)

    def _keep(self, data: bytes) -> None:
        if self.position < KEPT_FIRST:
            self._first.append((self.position, data[: KEPT_FIRST - self.position]))
        self._last.append((self.position, data))
        self._held_last += len(data)
        while self._held_last - len(self._last[0][1]) >= KEPT_LAST:
            self._held_last -= len(self._last.popleft()[1])

    def _give(self) -> None:
        """Show kept bytes until the inspection wants none of them: shown bytes may make it want others."""
        while parts := [part for gap in self._passed() for part in self._kept(gap)]:
            for offset, data in parts:
                self.inspection.feed(offset, data)

    def _passed(self) -> list[ByteRange]:
        """The ranges that the inspection wants and that have passed."""
        return [gap for gap in self.inspection.missing() if gap.offset < self.position]

    def _kept(self, gap: ByteRange) -> Iterator[tuple[int, bytes]]:
        """The kept bytes of a range."""
        for offset, data in (*self._first, *self._last):
            start, end = max(offset, gap.offset), min(offset + len(data), gap.end)
            if start < end:
                yield start, data[start - offset : end - offset]
