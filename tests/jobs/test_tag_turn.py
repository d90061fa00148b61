"""The turn to wait for rate limits: one task at a time, and not all the time."""

import math
from types import SimpleNamespace

import pytest
import redis

from keyhole.jobs import tag_turn
from keyhole.jobs.rate_limit import RateLimiter
from keyhole.jobs.tag_turn import TagTurn, put_back_seconds
from keyhole.sources.errors import TransientError
from keyhole.store import keys

TURN = keys.debts("tags", "turn")
#: Requests per second. The requests for one object take 18 seconds, and their slots end after 23 seconds.
RATE = 0.22


def limiter(valkey: redis.Redis, bucket: str = "images", rate: float = RATE) -> RateLimiter:
    """A rate limiter, as one debt uses it."""
    return RateLimiter(valkey, bucket, rate)


def test_only_one_task_may_wait(valkey: redis.Redis) -> None:
    """It does not matter whether another bucket has free slots."""
    first, second = TagTurn(valkey), TagTurn(valkey)

    first.reserve(limiter(valkey))
    with pytest.raises(TransientError):
        second.reserve(limiter(valkey, "other"))
    first.reserve(limiter(valkey, "other"))


def test_a_task_with_the_turn_does_not_wait_for_a_slot_that_begins_late(valkey: redis.Redis) -> None:
    turn = TagTurn(valkey)
    turn.reserve(limiter(valkey))

    with pytest.raises(TransientError):
        turn.reserve(limiter(valkey))


def test_what_takes_a_moment_needs_no_turn(valkey: redis.Redis) -> None:
    TagTurn(valkey).reserve(limiter(valkey))

    TagTurn(valkey).reserve(limiter(valkey, "other", 1000))


def test_after_a_turn_nobody_has_it_for_as_long(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(tag_turn, "time", SimpleNamespace(monotonic=lambda: now))
    turn = TagTurn(valkey)
    turn.reserve(limiter(valkey))
    now += 500

    turn.end()

    assert 480_000 < valkey.pttl(TURN) <= 500_000
    with pytest.raises(TransientError):
        TagTurn(valkey).reserve(limiter(valkey, "other"))
    valkey.delete(TURN)
    TagTurn(valkey).reserve(limiter(valkey, "other"))


def test_a_task_that_still_waits_keeps_the_turn(valkey: redis.Redis) -> None:
    turn = TagTurn(valkey)
    turn.reserve(limiter(valkey))
    valkey.pexpire(TURN, 1000)

    turn.renew()

    assert valkey.pttl(TURN) > 10_000


def test_a_lost_turn_is_no_error(valkey: redis.Redis) -> None:
    """Redis was restarted, or the task was stopped for a minute."""
    turn = TagTurn(valkey)
    turn.reserve(limiter(valkey))
    valkey.delete(TURN)

    turn.renew()
    turn.end()

    assert not valkey.exists(TURN)


@pytest.mark.parametrize(
    ("owed", "rate", "longest"), [(1, 100, 10), (1_000, 10, 500), (1_000_000, 1, 3600), (1, 1e-300, 3600)]
)
def test_debts_are_due_again_over_the_time_that_all_of_them_take(
    owed: int, rate: float, longest: float
) -> None:
    found = [put_back_seconds(owed, rate) for _ in range(1000)]

    assert min(found) >= 5
    assert max(found) <= longest
    assert math.isclose(max(found), longest, rel_tol=0.1)
