"""Plans the ranges to fetch: merges two ranges if one longer request is cheaper than two requests."""

from collections.abc import Iterable

from keyhole.inspectors.region import ByteRange

#: The longest merged range, in bytes. The limit saves memory: while a response is being received, its bytes
#: are in memory twice.
MAX_MERGED = 2 * 1024 * 1024


def merge(wanted: Iterable[ByteRange], gap: int) -> list[ByteRange]:
    """Return ranges, in ascending order, that cover all wanted ranges.

    Two ranges are merged if the gap between them has at most `gap` bytes, and the merged range has at most
    `MAX_MERGED` bytes. A range that lies inside the previous range is always merged.
    """
    merged: list[ByteRange] = []
    for part in sorted(wanted):
        last = merged[-1] if merged else ByteRange(0, 0)
        joined = ByteRange(last.offset, max(last.end, part.end) - last.offset)
        if merged and (
            part.end <= last.end or (part.offset <= last.end + gap and joined.length <= MAX_MERGED)
        ):
            merged[-1] = joined
        elif part.offset < last.end:
            merged.append(ByteRange(last.end, part.end - last.end))
        else:
            merged.append(part)
    return merged
