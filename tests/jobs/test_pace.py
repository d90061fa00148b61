"""Turns at a bucket: so many a second, of all that ask together."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from worker.jobs import pace
from worker.jobs.pace import Pace
from worker.results import keys


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(pace.time, "sleep", waited.append)
    return waited


def test_a_second_s_worth_comes_at_once_and_the_rest_waits_its_turn(
    valkey: redis.Redis, waits: list[float]
) -> None:
    turn = Pace(valkey, "images", 10)
    began = time.monotonic()

    for _ in range(30):
        turn()

    took = time.monotonic() - began
    # Nobody slept, so the last turn is as far off as all those before it last, but for the first second's.
    assert sum(wait == 0 for wait in waits) == 0
    assert len(waits) <= 20
    assert 1.9 - took < max(waits) <= 2.0


def test_all_that_ask_share_the_turns(valkey: redis.Redis, waits: list[float]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Pace(valkey, "images", 100)(), range(300)))

    assert 1.5 < max(waits) <= 2.0


def test_every_bucket_has_its_own(valkey: redis.Redis, waits: list[float]) -> None:
    Pace(valkey, "a", 1)()
    Pace(valkey, "b", 1)()

    assert waits == []


def test_a_rate_of_nothing_is_no_limit_and_asks_nobody() -> None:
    unreachable = redis.Redis.from_url("redis://nowhere.invalid:1")

    Pace(unreachable, "images", 0)()


def test_a_long_wait_gives_signs_of_life(valkey: redis.Redis, waits: list[float]) -> None:
    signs: list[float] = []
    turn = Pace(valkey, "images", 0.04, alive=lambda: signs.append(sum(waits)))

    turn()
    turn()

    assert 24 < sum(waits) <= 25
    assert len(signs) == 2


def test_what_is_kept_of_a_bucket_expires(valkey: redis.Redis, waits: list[float]) -> None:
    Pace(valkey, "images", 10)()

    assert waits == []
    assert 0 < valkey.ttl(keys.rate("images")) <= 61
