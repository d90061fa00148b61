"""What comes out of a decoder, shown to an inspection as it passes: once, from front to end.

An inspection may want what has passed, a table that stands before what leads to it. So what came first and
what came last is kept for a while, and given when it is asked for. What lies between is lost: the inspection
misses it then.
"""

from collections import deque
from collections.abc import Iterator

from keyhole.inspectors.inside import Look
from keyhole.inspectors.region import ByteRange

#: Bytes that are kept of what came first, and at least of what came last. UDF's anchor at 512 KiB leads to
#: descriptors before it; a DMG's trailer and the footer of a VMDK to tables not far before them.
KEPT_FIRST, KEPT_LAST = 1024**2, 1024**2


class Passing:
    """An inspection that is shown something once, in order."""

    def __init__(self, inspection: Look) -> None:
        self.inspection = inspection
        #: How much has passed.
        self.position = 0
        self._first: list[tuple[int, bytes]] = []
        self._last: deque[tuple[int, bytes]] = deque()
        self._held_last = 0

    def show(self, data: bytes) -> None:
        """Show what comes next."""
        self.inspection.feed(self.position, data)
        self._keep(data)
        self.position += len(data)
        self._give()

    def finish(self) -> None:
        """All has passed."""
        self.inspection.finish(self.position)
        self._give()

    def wants(self, end: int) -> bool:
        """Whether something is wanted that is still to come, and begins before `end`."""
        return any(gap.end > self.position and gap.offset < end for gap in self.inspection.missing())

    @property
    def held(self) -> int:
        """How many bytes are kept, but for those that the inspection holds itself."""
        return self._held_last + sum(len(data) for _, data in self._first)

    def _keep(self, data: bytes) -> None:
        if self.position < KEPT_FIRST:
            self._first.append((self.position, data[: KEPT_FIRST - self.position]))
        self._last.append((self.position, data))
        self._held_last += len(data)
        while self._held_last - len(self._last[0][1]) >= KEPT_LAST:
            self._held_last -= len(self._last.popleft()[1])

    def _give(self) -> None:
        """Give what is wanted of what is kept. Each time more may be wanted, as often as there is some."""
        while parts := [part for gap in self._passed() for part in self._kept(gap)]:
            for offset, data in parts:
                self.inspection.feed(offset, data)

    def _passed(self) -> list[ByteRange]:
        """What is wanted and has passed."""
        return [gap for gap in self.inspection.missing() if gap.offset < self.position]

    def _kept(self, gap: ByteRange) -> Iterator[tuple[int, bytes]]:
        """What is kept of a range."""
        for offset, data in (*self._first, *self._last):
            start, end = max(offset, gap.offset), min(offset + len(data), gap.end)
            if start < end:
                yield start, data[start - offset : end - offset]
