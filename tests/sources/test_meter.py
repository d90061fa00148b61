"""The budget of one scan, at its limits."""

from types import SimpleNamespace

import pytest

from keyhole.sources.errors import BudgetExhaustedError
from keyhole.sources.meter import Budget, Meter


def test_the_last_request_and_the_last_byte_are_within_the_budget() -> None:
    meter = Meter(Budget(requests=1, bytes=100))
    meter.request(100)
    meter.received(100)
    assert (meter.requests, meter.bytes_read) == (1, 100)


@pytest.mark.parametrize(
    ("budget", "what"),
    [
        (Budget(requests=1), "1 requests"),
        (Budget(bytes=199), "199 bytes"),
        (Budget(seconds=0), "0 seconds"),
    ],
)
def test_what_is_over_the_budget_is_refused_uncounted_and_named(budget: Budget, what: str) -> None:
    meter = Meter(budget)
    meter.requests, meter.bytes_read = 1, 100
    with pytest.raises(BudgetExhaustedError, match=what):
        meter.request(100)
    assert (meter.requests, meter.bytes_read) == (1, 100)


def test_whoever_paces_is_asked_before_every_request_and_the_wait_is_not_in_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    times = SimpleNamespace(monotonic=lambda: clock[0], thread_time=lambda: 0.0)
    monkeypatch.setattr("keyhole.sources.meter.time", times)

    def pace() -> None:
        clock[0] += 60

    meter = Meter(Budget(seconds=60), rate_limiter=pace)

    meter.request(1)
    meter.request(1)

    assert (meter.requests, clock[0], meter.elapsed_seconds) == (2, 120, 0)
