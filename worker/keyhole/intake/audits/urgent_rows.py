"""Finds the rows of an audit, the most urgent status first, one page at a time.

The rows of an audit are stored in the order in which the audit got their verdicts. For each page, the
function reads them from the beginning, and compares only their statuses, so it needs a few milliseconds for
100,000 objects, which have 1.8 MB. It stops when it has a page of the most urgent status.

A page ends with a cursor: the status and the number of its last row. An audit only appends rows, so the next
page begins after this row even while the audit is running. A row that is appended meanwhile can belong to an
earlier page.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple, Self

from keyhole.intake.audits.records import ROW_BYTES, STATUS_AT, STATUS_BYTES, Row
from keyhole.reasons import STATUSES, URGENCY, Status
from keyhole.results.search import CursorError

_CURSOR: Final = re.compile(r"([a-z]+)-(\d{1,12})", re.ASCII)


class RowPage(NamedTuple):
    """A page of rows, the most urgent first. `cursor` is `None` if there are no more rows."""

    rows: tuple[Row, ...]
    cursor: str | None


class _Place(NamedTuple):
    """A place in the order of the rows: a status, and the number of a row, beginning with 0."""

    status: Status
    number: int

    @classmethod
    def parse(cls, cursor: str) -> Self:
        found = _CURSOR.fullmatch(cursor)
        if found is None or found[1] not in set(Status):
            raise CursorError("this is not the cursor of a page of objects; begin with the first page")
        return cls(Status(found[1]), int(found[2]))


def urgent_page(
    strings: Iterable[bytes], *, status: Status | None = None, after: str | None = None, limit: int = 50
) -> RowPage:
    """Return a page of at most `limit` rows.

    Args:
        strings: The strings of rows that the audit stores, in their order.
        status: Only rows with this status; `None` for all rows.
        after: The cursor of the previous page; `None` for the first page.
        limit: The maximum number of rows, at least 1.

    Raises:
        CursorError: `after` is not a cursor.
    """
    begin = None if after is None else _Place.parse(after)
    found: dict[Status, list[tuple[_Place, bytes]]] = {
        one: []
        for one in STATUSES
        if status in {None, one} and (begin is None or URGENCY[one] >= URGENCY[begin.status])
    }
    first = 0
    for packed in strings:
        letters = packed[STATUS_AT::ROW_BYTES]
        needed = limit + 1
        for one, rows in found.items():
            skipped = begin.number + 1 - first if begin is not None and begin.status is one else 0
            at = letters.find(STATUS_BYTES[one], max(0, skipped))
            while at >= 0 and len(rows) < needed:
                rows.append((_Place(one, first + at), packed[at * ROW_BYTES : (at + 1) * ROW_BYTES]))
                at = letters.find(STATUS_BYTES[one], at + 1)
            needed -= len(rows)
            if needed <= 0:
                break
        first += len(letters)
        if len(next(iter(found.values()), ())) > limit:
            break
    listed = [one for rows in found.values() for one in rows]
    page = listed[:limit]
    cursor = f"{page[-1][0].status}-{page[-1][0].number}" if len(listed) > limit else None
    return RowPage(tuple(Row.unpacked(row) for _, row in page), cursor)
