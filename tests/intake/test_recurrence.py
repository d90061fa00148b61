"""Crontabs and intervals: which are accepted, which are refused, and when each is due next."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from keyhole.intake.recurrence import parse_crontab, parse_interval

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)  # a Friday
#: The minimum and the maximum of each field.
BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


class TestIntervals:
    @pytest.mark.parametrize(
        ("text", "seconds"), [("60s", 60), ("90s", 90), ("15m", 900), ("6h", 21_600), ("366d", 31_622_400)]
    )
    def test_it_is_a_number_and_a_unit(self, text: str, seconds: int) -> None:
        interval = parse_interval(text)

        assert interval.celery == timedelta(seconds=seconds)
        assert interval.next_after(NOON) == NOON + timedelta(seconds=seconds)
        assert str(interval) == f"every {text}"

    @pytest.mark.parametrize(
        "text", ["", "6", "h", "6 h", "6H", "-6h", "1.5h", "6h30m", "\uff16h", "6h\n", "6w", "9999999999s"]
    )
    def test_anything_else_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"not an interval; write a number and s, m, h or d"):
            parse_interval(text)

    @pytest.mark.parametrize("text", ["0s", "59s", "0d"])
    def test_one_that_is_too_short_is_refused_with_the_reason(self, text: str) -> None:
        with pytest.raises(ValueError, match=rf"{text} is shorter than 60s, and every run lists"):
            parse_interval(text)

    @pytest.mark.parametrize("text", ["367d", "999999999d"])
    def test_one_that_is_too_long_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="longer than a year"):
            parse_interval(text)


class TestCrontabs:
    @pytest.mark.parametrize(
        ("text", "following"),
        [
            ("15 3 * * *", "2026-05-02 03:15"),
            ("* * * * *", "2026-05-01 12:01"),
            ("*/20 * * * *", "2026-05-01 12:20"),
            ("5,35 12-13 * * *", "2026-05-01 12:05"),
            ("0 22-2/2 * * *", "2026-05-01 22:00"),
            ("0 0 29 2 *", "2028-02-29 00:00"),
            ("0 0 1 jan *", "2027-01-01 00:00"),
            ("0 6 * * 0", "2026-05-03 06:00"),
            ("0 6 * * Mon-Fri", "2026-05-04 06:00"),
            ("  0   6 * *\tsat ", "2026-05-02 06:00"),
        ],
    )
    def test_it_comes_when_it_says(self, text: str, following: str) -> None:
        assert parse_crontab(text).next_after(NOON) == datetime.fromisoformat(f"{following}Z")

    @pytest.mark.parametrize("text", ["", "* * * *", "* * * * * *", "@daily", "15 3"])
    def test_it_has_five_fields(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"fields; write minute, hour, day of the month, month"):
            parse_crontab(text)

    @pytest.mark.parametrize(
        "bad",
        [
            "least",
            "greatest",
            "-",
            "x",
            "-1",
            "1-",
            "1--2",
            "1-2-3",
            "",
            "1,,2",
            "?",
            "L",
            "1.5",
            "\uff11",
            "7#2",
        ],
    )
    def test_what_a_field_does_not_have_is_refused(self, bad: str) -> None:
        for field, (least, greatest) in enumerate(BOUNDS):
            value = {"least": f"{least - 1}", "greatest": f"{greatest + 1}"}.get(bad, bad)
            fields = ["*"] * 5
            fields[field] = f"{value},*"
            with pytest.raises(ValueError, match=r"; write \*, \d"):
                parse_crontab(" ".join(fields))

    @pytest.mark.parametrize(
        "text", ["mon * * * *", "* jan * * *", "* * sun * *", "* * * fri *", "* * * * dec", "* * * * monday"]
    )
    def test_a_name_stands_for_a_value_of_its_own_field_alone(self, text: str) -> None:
        """Celery interprets `mon` as the first minute."""
        with pytest.raises(ValueError, match=" is not a valid "):
            parse_crontab(text)

    @pytest.mark.parametrize("text", ["*/0 * * * *", "*/60 * * * *", "* * * * */7", "1-5/99 * * * *"])
    def test_a_step_reaches_a_second_value(self, text: str) -> None:
        with pytest.raises(ValueError, match="write a step from 1 to"):
            parse_crontab(text)

    @pytest.mark.parametrize("text", ["*/5-7 * * * *", "1-5/2-3 * * * *", "*/2x * * * *", "*/ * * * *"])
    def test_nothing_stands_behind_a_step(self, text: str) -> None:
        """Celery interprets the first two as `*/5` and `1-5/2`."""
        with pytest.raises(ValueError, match="is not a valid minute"):
            parse_crontab(text)

    def test_one_value_has_no_step(self) -> None:
        with pytest.raises(ValueError, match="write 5-59/10"):
            parse_crontab("5/10 * * * *")

    def test_days_of_the_month_and_of_the_week_are_ambiguous(self) -> None:
        with pytest.raises(ValueError, match="cron runs if either matches, Celery only if both match"):
            parse_crontab("0 0 1 * mon")

    @pytest.mark.parametrize("text", ["0 0 31 2 *", "0 0 30,31 feb *", "0 0 31 4,6,9,11 *"])
    def test_one_that_never_comes_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="never matches a date"):
            parse_crontab(text)


@st.composite
def crontabs(draw: st.DrawFn) -> tuple[str, list[set[int]]]:
    """A crontab, and the values of its fields."""
    texts, values = [], []
    for least, greatest in BOUNDS:
        every = list(range(least, greatest + 1))
        kind = draw(st.sampled_from(["*", "step", "list", "range"]))
        first, last = draw(st.sampled_from(every)), draw(st.sampled_from(every))
        step = draw(st.integers(1, greatest - least))
        if kind == "*":
            text, chosen = "*", every
        elif kind == "step":
            text, chosen = f"*/{step}", every[::step]
        elif kind == "list":
            text, chosen = f"{first},{last}", [first, last]
        else:
            span = [value for value in every if value >= first] + [value for value in every if value <= last]
            chosen = (span if last < first else list(range(first, last + 1)))[::step]
            text = f"{first}-{last}/{step}"
        texts.append(text)
        values.append(set(chosen))
    if texts[2] != "*":
        texts[4], values[4] = "*", set(range(7))
    return " ".join(texts), values


def first_after(moment: datetime, values: list[set[int]]) -> datetime | None:
    """Return the next time with these values within nine years, by checking every day."""
    minutes, hours, days, months, weekdays = values
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    for number in range(9 * 366):
        day = midnight + timedelta(days=number)
        if day.month not in months or day.day not in days or day.isoweekday() % 7 not in weekdays:
            continue
        for hour, minute in product(sorted(hours), sorted(minutes)):
            if (found := day.replace(hour=hour, minute=minute)) > moment:
                return found
    return None


@given(crontabs(), st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis adds the zone
@example(("0 0 29 2 *", [{0}, {0}, {29}, {2}, set(range(7))]), datetime(2096, 2, 29, tzinfo=UTC))
def test_the_next_time_is_the_first_whose_fields_match(
    crontab: tuple[str, list[set[int]]], moment: datetime
) -> None:
    text, values = crontab
    expected = first_after(moment, values)
    assume(expected is not None)

    assert parse_crontab(text).next_after(moment) == expected
