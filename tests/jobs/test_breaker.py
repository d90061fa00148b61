"""The breaker: a bucket most of whose scans end undecided is given a rest, and probed."""

import pytest

from keyhole.jobs.breaker import LEAST, LEAST_REST, LONGEST_REST, PROBE_SECONDS, WINDOW, Breaker


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
        breaker.note(bucket, decided=False, reason="no route")


def test_a_few_failures_say_nothing(breaker: Breaker) -> None:
    fail(breaker, "images", LEAST - 1)

    assert breaker.allows("images")
    assert breaker.at_rest == ()


def test_nor_do_many_among_more_that_are_decided(breaker: Breaker) -> None:
    for _ in range(WINDOW):
        breaker.note("images", decided=True)
        breaker.note("images", decided=False)

    assert breaker.allows("images")


def test_where_most_fail_only_probes_are_allowed(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, "images", LEAST)

    assert not breaker.allows("images")
    assert breaker.at_rest == ("images",)
    clock.seconds += PROBE_SECONDS
    assert [breaker.allows("images") for _ in range(3)] == [True, False, False]


def test_other_buckets_are_not_its_business(breaker: Breaker) -> None:
    fail(breaker, "images", LEAST)

    assert breaker.allows("others")


def test_one_decided_probe_ends_the_rest(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, "images", WINDOW)
    clock.seconds += PROBE_SECONDS
    assert breaker.allows("images")

    breaker.note("images", decided=True)

    assert all(breaker.allows("images") for _ in range(3))
    fail(breaker, "images", LEAST - 1)
    assert breaker.allows("images")


def test_a_probe_that_fails_does_not(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, "images", LEAST)
    clock.seconds += PROBE_SECONDS
    assert breaker.allows("images")

    fail(breaker, "images", 1)

    assert not breaker.allows("images")


def test_work_is_postponed_as_long_as_the_rest_has_lasted(breaker: Breaker, clock: Clock) -> None:
    assert breaker.rest("images") == LEAST_REST
    fail(breaker, "images", LEAST)
    assert breaker.rest("images") == LEAST_REST
    clock.seconds += 30
    assert breaker.rest("images") == 30
    clock.seconds += 3600
    assert breaker.rest("images") == LONGEST_REST


def test_it_is_said_once_when_it_rests_and_once_when_it_goes_on(
    breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    fail(breaker, "images", 10 * WINDOW)
    clock.seconds += PROBE_SECONDS
    breaker.note("images", decided=True)

    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "no route" in caplog.records[0].getMessage()
