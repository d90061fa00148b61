"""The breaker: if most scans of a bucket end undecided, Keyhole only probes the bucket."""

import pytest

from keyhole.jobs.breaker import (
    MAX_RETRY_SECONDS,
    MIN_RETRY_SECONDS,
    MIN_SCANS,
    PROBE_SECONDS,
    WINDOW,
    Breaker,
)


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def fail(breaker: Breaker, bucket: str, times: int) -> None:
    for _ in range(times):
        breaker.record(bucket, decided=False, reason="no route")


def test_a_few_failures_say_nothing(breaker: Breaker) -> None:
    fail(breaker, "images", MIN_SCANS - 1)

    assert breaker.allows("images")
    assert breaker.open_buckets == ()


def test_nor_do_many_among_more_that_are_decided(breaker: Breaker) -> None:
    for _ in range(WINDOW):
        breaker.record("images", decided=True)
        breaker.record("images", decided=False)

    assert breaker.allows("images")


def test_where_most_fail_only_probes_are_allowed(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, "images", MIN_SCANS)

    assert not breaker.allows("images")
    assert breaker.open_buckets == ("images",)
    clock.seconds += PROBE_SECONDS
    assert [breaker.allows("images") for _ in range(3)] == [True, False, False]


def test_other_buckets_are_not_its_business(breaker: Breaker) -> None:
    fail(breaker, "images", MIN_SCANS)

    assert breaker.allows("others")


def test_one_decided_probe_ends_the_rest(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, "images", WINDOW)
    clock.seconds += PROBE_SECONDS
    assert breaker.allows("images")

    breaker.record("images", decided=True)

    assert all(breaker.allows("images") for _ in range(3))
    fail(breaker, "images", MIN_SCANS - 1)
    assert breaker.allows("images")


def test_a_probe_that_fails_does_not(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, "images", MIN_SCANS)
    clock.seconds += PROBE_SECONDS
    assert breaker.allows("images")

    fail(breaker, "images", 1)

    assert not breaker.allows("images")


def test_work_is_postponed_as_long_as_the_rest_has_lasted(breaker: Breaker, clock: Clock) -> None:
    assert breaker.retry_after("images") == MIN_RETRY_SECONDS
    fail(breaker, "images", MIN_SCANS)
    assert breaker.retry_after("images") == MIN_RETRY_SECONDS
    clock.seconds += 30
    assert breaker.retry_after("images") == 30
    clock.seconds += 3600
    assert breaker.retry_after("images") == MAX_RETRY_SECONDS


def test_it_is_said_once_when_it_rests_and_once_when_it_goes_on(
    breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    fail(breaker, "images", 10 * WINDOW)
    clock.seconds += PROBE_SECONDS
    breaker.record("images", decided=True)

    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "no route" in caplog.records[0].getMessage()
