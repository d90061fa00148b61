"""Bounds the time for which worker processes wait for rate limits to write owed tags.

A process that waits for the rate limit of a bucket scans nothing in this time. So of all processes, only the
one that has the *turn* may wait. After it has written tags, nobody has the turn for as long as this took. So
owed tags at low rates occupy at most one process, and this process for about half of the time.

The other processes put a debt back whose slots do not begin nearly at once. It is due again after a random
delay, which is longer if more tags are owed.
"""

import random
import threading
import time
from contextlib import suppress
from typing import Final

import redis
from redis.exceptions import LockError

from keyhole.jobs.debts import LOST_SECONDS
from keyhole.jobs.rate_limit import RateLimiter
from keyhole.sources.errors import TransientError
from keyhole.store import keys

#: The usual number of requests that write an object's tags.
REQUESTS: Final = 5
#: If the process does not have the turn, all requests for an object's tags must begin within AT_ONCE seconds.
#: If it has the turn, only the first of them must begin within WAIT_SECONDS.
AT_ONCE, WAIT_SECONDS = 2.0, 10.0
#: The shortest and the longest time after which a debt that was put back is due, in seconds. The limit for
#: a few debts lies in between.
_LEAST, _FEW, _MOST = 5.0, 10.0, 3600.0


class NoTurn:
    """Takes no slots in advance, so that the caller waits for each slot when it needs it."""

    def reserve(self, rate_limiter: RateLimiter) -> None:
        """Do nothing."""

    def renew(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


class TagTurn(NoTurn):
    """The turn to wait for rate limits, which one task can have. All threads of the task share this object.

    Args:
        client: A Redis client that `keyhole.store.connection.connect` returned.
    """

    def __init__(self, client: redis.Redis) -> None:
        name = keys.debts("tags", "turn")
        self._lock = client.lock(name, timeout=LOST_SECONDS, blocking=False, thread_local=False)
        self._asking = threading.Lock()
        self._is_mine: bool | None = None
        self._since = 0.0

    def reserve(self, rate_limiter: RateLimiter) -> None:
        """Take the slots for the requests that write an object's tags.

        Raises:
            TransientError: The slots begin too late. No slot was taken.
        """
        try:
            rate_limiter.reserve(REQUESTS, first_within=AT_ONCE, all_within=AT_ONCE)
        except TransientError:
            if not self._take():
                raise
            rate_limiter.reserve(REQUESTS, first_within=WAIT_SECONDS)

    def renew(self) -> None:
        """Keep the turn if this task has it, because it still waits."""
        if self._is_mine:
            with suppress(LockError):
                self._lock.reacquire()

    def end(self) -> None:
        """Give the turn to nobody for as long as this task had it, and then to the next process."""
        if self._is_mine:
            with suppress(LockError):
                self._lock.extend(max(0.001, time.monotonic() - self._since), replace_ttl=True)

    def _take(self) -> bool:
        """Return whether this task has the turn. It tries once to get the turn."""
        with self._asking:
            if self._is_mine is None:
                self._since = time.monotonic()
                self._is_mine = bool(self._lock.acquire())
            return self._is_mine


def put_back_seconds(owed: int, rate: float) -> float:
    """Return the seconds after which a debt is due again for which the rate left no slot.

    The debts that are owed are distributed over the time that it takes to write all their tags. So about as
    many debts become due as the rate allows, and workers do not look at most debts in vain.

    Args:
        owed: The number of debts that are owed.
        rate: The limit of requests per second to the debt's bucket.
    """
    longest = min(max(owed * REQUESTS / rate, _FEW), _MOST)
    return random.uniform(_LEAST, longest)  # noqa: S311 - no secret
