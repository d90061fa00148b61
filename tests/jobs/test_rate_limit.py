"""The rate limit of a bucket, which all workers share."""

import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import pairwise
from types import SimpleNamespace

import pytest
import redis

from keyhole.builders import qcow2
from keyhole.jobs import rate_limit
from keyhole.jobs.rate_limit import RateLimiter
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target
from keyhole.scan.scanner import scan
from keyhole.scan.settings import ScanSettings
from keyhole.scan.undecided import is_undecided
from keyhole.sources.errors import TransientError
from keyhole.sources.local import FileSource
from keyhole.store import keys


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits in seconds. No test really waits: each wait advances the rate limiter's clock instead."""
    waited: list[float] = []
    began = time.monotonic()
    monkeypatch.setattr(
        rate_limit, "time", SimpleNamespace(sleep=waited.append, monotonic=lambda: began + sum(waited))
    )
    return waited


def test_a_second_s_worth_comes_at_once_and_the_rest_waits(valkey: redis.Redis, waits: list[float]) -> None:
    rate_limiter = RateLimiter(valkey, "images", 10)
    began = time.monotonic()

    for _ in range(30):
        rate_limiter()

    took = time.monotonic() - began
    # No call really waited, so the last slot comes after all earlier slots, minus the slots of the first
    # second.
    assert sum(wait == 0 for wait in waits) == 0
    assert len(waits) <= 20
    assert 1.9 - took < max(waits, default=0.0) <= 2.0


def test_all_workers_share_the_limit(valkey: redis.Redis, waits: list[float]) -> None:
    began = time.monotonic()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: RateLimiter(valkey, "images", 100)(), range(300)))

    took = time.monotonic() - began
    assert 1.9 - took < max(waits, default=0.0) <= 2.0


def test_every_bucket_has_its_own(valkey: redis.Redis, waits: list[float]) -> None:
    RateLimiter(valkey, "a", 1)()
    RateLimiter(valkey, "b", 1)()

    assert waits == []


def test_a_rate_of_nothing_is_no_limit_and_asks_nobody() -> None:
    unreachable = redis.Redis.from_url("redis://nowhere.invalid:1")

    RateLimiter(unreachable, "images", 0)()


@pytest.mark.parametrize(("rate", "turns"), [(0.04, 2), (0.4, 11)])
def test_waiting_sends_heartbeats(valkey: redis.Redis, waits: list[float], rate: float, turns: int) -> None:
    """A single long wait sends heartbeats, and many short waits do too."""
    signs: list[float] = []
    rate_limiter = RateLimiter(valkey, "images", rate, heartbeat=lambda: signs.append(sum(waits)))

    for _ in range(turns):
        rate_limiter()

    moments = [0.0, *signs, sum(waits)]
    assert len(signs) >= 2
    assert all(9.99 < later - earlier < 20.01 for earlier, later in pairwise(moments[:-1]))
    assert moments[-1] - moments[-2] < 20.01


def test_a_server_s_clock_that_is_set_back_holds_nobody_up(valkey: redis.Redis, waits: list[float]) -> None:
    """The slots were given when the clock was an hour ahead. A new call waits only for these slots."""
    began = time.monotonic()
    rate_limiter = RateLimiter(valkey, "images", 10)
    for _ in range(20):
        rate_limiter()
    kept = (valkey.get(keys.rate("images")) or b"").split()
    valkey.set(keys.rate("images"), " ".join(str(int(part) + 3_600_000_000) for part in kept))
    waits.clear()

    rate_limiter()

    took = time.monotonic() - began
    assert 0.9 - took < sum(waits) <= 1.2


def test_what_is_kept_of_a_bucket_expires(valkey: redis.Redis, waits: list[float]) -> None:
    RateLimiter(valkey, "images", 10)()

    assert waits == []
    assert 0 < valkey.ttl(keys.rate("images")) <= 61


def test_a_slot_that_begins_too_late_is_not_taken(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    now = time.monotonic()
    monkeypatch.setattr(rate_limit, "time", SimpleNamespace(sleep=waited.append, monotonic=lambda: now))
    rate_limiter = RateLimiter(valkey, "images", 1, until=now + 5)

    with pytest.raises(TransientError) as raised:
        [rate_limiter() for _ in range(100)]

    # Several slots at once, and then one slot for each second of the limit and of this test.
    assert raised.value.reason == "rate"
    assert 5 <= len(waited) < 30
    # A call that gave up does not delay others.
    waited.clear()
    RateLimiter(valkey, "images", 1)()
    assert 0 < waited[0] <= 6


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 1e-9, 1e300])
def test_the_smallest_and_the_largest_rates_are_no_errors(
    valkey: redis.Redis, waits: list[float], rate: float
) -> None:
    RateLimiter(valkey, "images", rate)()
    RateLimiter(valkey, "images", rate).reserve(2, first_within=float("inf"))

    assert waits == []


def test_reserved_slots_follow_each_other_and_others_come_later(
    valkey: redis.Redis, waits: list[float]
) -> None:
    first, second = RateLimiter(valkey, "images", 0.1), RateLimiter(valkey, "images", 0.1)
    first.reserve(3, first_within=0)
    second.reserve(1, first_within=30)

    for _ in range(3):
        first()
    took = sum(waits)
    second()

    assert 19 < took <= 20
    assert 29 < sum(waits) <= 30


def test_reserved_slots_that_take_long_are_used_at_once_and_others_come_later(
    valkey: redis.Redis, waits: list[float]
) -> None:
    """A process must not wait for minutes in the middle of its work."""
    first, second = RateLimiter(valkey, "images", 0.01), RateLimiter(valkey, "images", 0.01)
    first.reserve(5, first_within=0, all_within=0)

    for _ in range(5):
        first()
    assert waits == []
    with pytest.raises(TransientError):
        second.reserve(5, first_within=490)
    second.reserve(5, first_within=500)


def test_slots_that_begin_too_late_are_not_reserved(valkey: redis.Redis, waits: list[float]) -> None:
    rate_limiter = RateLimiter(valkey, "images", 0.1)

    with pytest.raises(TransientError):
        rate_limiter.reserve(3, first_within=19, all_within=19)
    rate_limiter.reserve(3, first_within=0)
    with pytest.raises(TransientError):
        rate_limiter.reserve(1, first_within=5)

    rate_limiter()
    assert waits == []


def test_scans_of_many_threads_do_not_outlive_the_time_that_waits_have(
    valkey: redis.Redis,
) -> None:
    """The scans' objects stay undecided, and are tried again when fewer scans wait."""
    image, threads, longest = qcow2(2**30).to_bytes(), 40, 1.0

    def look(_: int) -> Report:
        rate_limiter = RateLimiter(valkey, "images", 10, until=time.monotonic() + longest)
        return scan(
            Target("a"),
            lambda meter: FileSource(BytesIO(image), meter),
            ScanSettings(),
            rate_limiter=rate_limiter,
        )

    with ThreadPoolExecutor(threads) as pool:
        reports = list(pool.map(look, range(threads)))

    undecided = [report for report in reports if is_undecided(report)]
    assert 0 < len(undecided) < threads
    assert {report.reasons for report in undecided} == {("rate",)}
