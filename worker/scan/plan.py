"""Which ranges to fetch: what an inspection wants, merged where one request is cheaper than two."""

from collections.abc import Iterable

from worker.inspectors.region import ByteRange


def merge(wanted: Iterable[ByteRange], gap: int) -> list[ByteRange]:
    """Ranges in ascending order that cover all that is wanted.

    Two ranges become one where at most `gap` unwanted bytes lie between them.
    """
    merged: list[ByteRange] = []
    for part in sorted(wanted):
        if merged and part.offset <= merged[-1].end + gap:
            last = merged[-1]
            merged[-1] = ByteRange(last.offset, max(last.end, part.end) - last.offset)
        else:
            merged.append(part)
    return merged
