"""Numbers for people: rounded, but never misleading."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.reports import figures


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1023 * 1024, "1023 KiB"),
        (69 * 1024**2 + 100_000, "69.1 MiB"),
        (408 * 1024 + 512, "408 KiB"),
        (1023 * 1024 + 1000, "1 MiB"),
        (2**73, "8 ZiB"),
        (10**4000, "over 1 QiB"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    assert figures.size(count) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "-"),
        (0, 5, "0%"),
        (5, 5, "100%"),
        (1, 3, "33.3%"),
        (1, 2, "50%"),
        (1, 500, "0.20%"),
        (1, 10**6, "<0.01%"),
        (10**6 - 1, 10**6, ">99.9%"),
    ],
)
def test_shares(part: int, whole: int, text: str) -> None:
    assert figures.share(part, whole) == text


@given(st.integers(1, 10**12), st.integers(1, 10**12))
def test_a_part_is_neither_all_nor_nothing(part: int, rest: int) -> None:
    assert figures.share(part, part + rest) not in {"100%", "0%", "0.00%"}


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "$0.00"),
        (1234.5, "$1,234.50"),
        (0.1, "$0.10"),
        (0.0999, "$0.10"),
        (0.05, "$0.050"),
        (0.0123, "$0.012"),
        (0.0000522, "$0.000052"),
        (0.0000001, "under $0.000001"),
    ],
)
def test_dollars(amount: float, text: str) -> None:
    assert figures.dollars(amount) == text


@given(st.floats(0.000001, 1e9))
def test_dollars_are_right_to_five_per_cent_or_to_a_cent(amount: float) -> None:
    shown = float(figures.dollars(amount).replace("$", "").replace(",", ""))
    assert abs(shown - amount) <= max(0.0051 if amount >= 0.1 else 0, amount * 0.051)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "under a second"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (7384, "2 h 3 min"),
        (200_000, "2 d 7 h"),
        (-5, "under a second"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert figures.duration(timedelta(seconds=seconds)) == text


NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (None, "2026-05-01 12:00 UTC"),
        (NOON, "2026-05-01 12:00 UTC"),
        (NOON + timedelta(minutes=5), "2026-05-01 12:00 to 12:05 UTC"),
        (NOON + timedelta(days=1), "2026-05-01 12:00 to 2026-05-02 12:00 UTC"),
    ],
)
def test_spans(end: datetime | None, text: str) -> None:
    assert figures.span(NOON, end) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 objects"), (1, "1 object"), (1200, "1,200 objects")])
def test_counts(count: int, text: str) -> None:
    assert figures.counted(count, "object") == text
