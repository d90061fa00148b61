"""Plans the ranges to fetch: merges those that an inspection needs if one request is cheaper than two."""

from collections.abc import Iterable

from keyhole.inspectors.region import ByteRange

#: The longest merged range. Its body is in memory twice while it is received.
MAX_MERGED = 2 * 1024 * 1024


def merge(wanted: Iterable[ByteRange], gap: int) -> list[ByteRange]:
    """Return ranges in ascending order that cover all wanted ones.

    Two ranges become one if at most `gap` bytes lie between them, and the result is not too long.
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
