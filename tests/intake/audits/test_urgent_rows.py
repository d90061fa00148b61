"""Pages of an audit's rows: every row once, the most urgent first."""

import random
from collections.abc import Iterator

import pytest

from keyhole.intake.audits.audit import How
from keyhole.intake.audits.records import Row
from keyhole.intake.audits.urgent_rows import urgent_page
from keyhole.reasons import STATUSES, URGENCY, Status
from keyhole.results.search import CursorError


def rows(count: int, statuses: tuple[Status, ...] = tuple(Status), seed: int = 0) -> list[Row]:
    chosen = random.Random(seed)  # noqa: S311 - no secret
    return [Row(f"{number:032x}", chosen.choice(statuses), chosen.choice([*How])) for number in range(count)]


def strings(listed: list[Row], seed: int = 0) -> list[bytes]:
    """The rows in strings of different lengths, as pages and batches add them."""
    chosen = random.Random(seed)  # noqa: S311 - no secret
    found, at = [], 0
    while at < len(listed):
        length = chosen.randint(1, 9)
        found.append(b"".join(row.packed() for row in listed[at : at + length]))
        at += length
    return found


def paged(stored: list[bytes], limit: int, status: Status | None = None) -> Iterator[list[Row]]:
    after = None
    while True:
        page = urgent_page(stored, status=status, after=after, limit=limit)
        yield list(page.rows)
        if page.cursor is None:
            return
        after = page.cursor


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [1, 2, 7, 50, 1000])
def test_pages_have_every_row_once_and_the_most_urgent_first(seed: int, limit: int) -> None:
    listed = rows(150, tuple(Status) if seed % 2 else (Status.SAFE, Status.UNSAFE), seed)

    pages = list(paged(strings(listed, seed), limit))

    assert [row for page in pages for row in page] == sorted(listed, key=lambda row: URGENCY[row.status])
    assert {len(page) for page in pages[:-1]} <= {limit}
    assert pages[-1]


@pytest.mark.parametrize("status", Status)
def test_pages_of_a_status_have_only_its_rows(status: Status) -> None:
    listed = rows(100)

    found = [row for page in paged(strings(listed), 7, status) for row in page]

    assert found == [row for row in listed if row.status is status]


def test_without_rows_there_is_one_empty_page() -> None:
    assert urgent_page([]) == ((), None)
    assert urgent_page(strings(rows(9, (Status.SAFE,))), status=Status.UNSAFE) == ((), None)


def test_rows_that_a_running_audit_appends_move_no_row_to_another_page() -> None:
    listed, more = rows(30), rows(60)[30:]
    first = urgent_page(strings(listed), limit=10)

    second = urgent_page([*strings(listed), *strings(more)], after=first.cursor, limit=10)

    ordered = sorted(listed, key=lambda row: URGENCY[row.status])
    assert list(first.rows) == ordered[:10]
    assert not set(first.rows) & set(second.rows)
    assert set(ordered[10:15]) <= {*second.rows, *more}


def test_a_full_page_of_the_most_urgent_status_needs_no_further_strings() -> None:
    read = []

    def stored() -> Iterator[bytes]:
        for number, string in enumerate(strings(rows(1000, (next(iter(STATUSES)),)))):
            read.append(number)
            yield string

    urgent_page(stored(), limit=10)

    assert len(read) <= 11


@pytest.mark.parametrize(
    "cursor", ["", "1", "safe", "safe-", "-1", "happy-1", "safe-1\n", "safe-" + "9" * 13]
)
def test_what_is_no_cursor_is_an_error(cursor: str) -> None:
    with pytest.raises(CursorError, match="begin with the first page"):
        urgent_page([], after=cursor)
