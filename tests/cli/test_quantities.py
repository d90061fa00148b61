"""Counts and times on the command line."""

import pytest

from keyhole.cli.quantities import parse_count, parse_gets, parse_rate, parse_time


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("1500", 1500),
        ("1,500,000", 1_500_000),
        ("1_500_000", 1_500_000),
        ("20k", 20_000),
        ("2M", 2_000_000),
        ("1.5 G", 1_500_000_000),
        ("1e9", 1_000_000_000),
        ("2.5E3", 2500),
        ("1e15", 10**15),
    ],
)
def test_a_count_is_written_in_several_ways(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "0.5k1", "1e16", "1e99", "many", "2m", "1e-3", "nan"])
def test_what_is_no_count_brings_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a count; .* such as 2M or 1e9"):
        parse_count(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30ms", 0.03), ("0.5s", 0.5), ("0.5 s", 0.5), ("200us", 0.0002), ("2min", 120)]
)
def test_a_time_has_a_unit(text: str, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "0ms", "-3ms", "3 hours", "ms", "1e3ms"])
def test_what_is_no_time_brings_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time; .* such as 30ms or 0\.5s"):
        parse_time(text)


@pytest.mark.parametrize(("text", "rate"), [("0", 0), ("500", 500), ("0.5", 0.5), ("1000000", 1e6)])
def test_a_rate_is_a_number_of_requests_per_second(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "-1", "0.0001", "1000001", "nan", "inf", "1e3", "5/s"])
def test_what_is_no_rate_brings_the_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a rate; .* from 0\.001 to 1000000"):
        parse_rate(text)


@pytest.mark.parametrize(("text", "gets"), [("1", 1), ("2.5", 2.5), ("1000", 1000)])
def test_an_average_of_gets_is_at_least_one(text: str, gets: float) -> None:
    assert parse_gets(text) == gets


@pytest.mark.parametrize("text", ["", "0", "0.9", "1001", "nan", "inf", "-2"])
def test_what_is_no_average_of_gets_brings_the_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an average of GETs; .* from 1 to 1000"):
        parse_gets(text)
