"""The ranges of an object that a scan has read, for its report."""

from collections.abc import Iterable
from itertools import pairwise

from keyhole.inspectors.region import ByteRange

#: The maximum number of ranges in a report. An image needs fewer than ten. A container with hundreds of
#: members needs hundreds, which would make its record several times as long.
MOST_RANGES = 32
#: The maximum number of ranges that `ReadRanges` stores before it joins them.
_MOST_STORED = 1024


class ReadRanges:
    """Collects the ranges that a scan has read."""

    def __init__(self) -> None:
        self._read: list[ByteRange] = []

    def add(self, offset: int, length: int) -> None:
        """Add a range that was read. An empty range is ignored."""
        if length > 0:
            self._read.append(ByteRange(offset, length))
        if len(self._read) > _MOST_STORED:
            self._read = _fewer(_joined(self._read))

    def report(self) -> tuple[ByteRange, ...]:
        """Return the ranges in ascending order, with at least one byte between them.

        If there are more than `MOST_RANGES`, the ranges with the smallest gaps between them are joined. The
        result then contains bytes that were not read.
        """
        return tuple(_fewer(_joined(self._read)))


def _joined(ranges: Iterable[ByteRange]) -> list[ByteRange]:
    joined: list[ByteRange] = []
    for part in sorted(ranges):
        if joined and part.offset <= joined[-1].end:
            last = joined[-1]
            joined[-1] = ByteRange(last.offset, max(last.end, part.end) - last.offset)
        else:
            joined.append(part)
    return joined


def _fewer(ranges: list[ByteRange]) -> list[ByteRange]:
    """Return at most `MOST_RANGES` ranges that cover all ranges of a list."""
    if len(ranges) <= MOST_RANGES:
        return ranges
    gaps = sorted(range(1, len(ranges)), key=lambda at: ranges[at].offset - ranges[at - 1].end, reverse=True)
    # Keep the widest gaps.
    bounds = [0, *sorted(gaps[: MOST_RANGES - 1]), len(ranges)]
    return [
        ByteRange(ranges[first].offset, ranges[end - 1].end - ranges[first].offset)
        for first, end in pairwise(bounds)
    ]
