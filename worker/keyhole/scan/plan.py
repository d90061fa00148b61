"""Which ranges to fetch: what an inspection wants, merged where one request is cheaper than two."""

from collections.abc import Iterable

from keyhole.inspectors.region import ByteRange

#: Ranges are not merged to one that is longer: its body is held twice while it comes.
MAX_MERGED = 2 * 1024 * 1024


def merge(wanted: Iterable[ByteRange], gap: int) -> list[ByteRange]:
    """Ranges in ascending order that cover all that is wanted.

    Two ranges become one where at most `gap` unwanted bytes lie between them, and it is not too long.
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
