"""A limit for the requests to a bucket per second, shared by all workers: a token bucket in Redis.

Redis assigns each request a time slot, in the order in which requests ask for one: `rate` slots per second,
and after a quiet time up to a second's worth at once. Callers with different rates share the bucket; each one
takes slots of the length that its own rate gives. (This is the generic cell rate algorithm, ITU-T I.371.)

Waiting does not count against a scan's budget, but the message of its batch has a time limit. A scan that
cannot have a slot in time takes none. Its object is tried again later, when fewer requests compete.
"""

import time
from collections.abc import Callable
from typing import Final

import redis

from keyhole.reasons import Reason
from keyhole.sources.errors import TransientError
from keyhole.store import keys

_TAKE_SLOT: Final = """
-- KEYS[1]  string: when the next slot of this bucket begins, a space, when that was written (microseconds
--          since 1970), so that a clock that is set back is noticed
-- ARGV[1]  the length of a slot in microseconds
-- ARGV[2]  microseconds by which slots may begin early after a quiet time
-- ARGV[3]  microseconds that the caller can wait, at most; no slot is taken that begins later
-- returns the microseconds until the slot begins; -1 if none is taken
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local begins, said = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
begins = (begins or 0) - math.max(0, (said or now) - now)
begins = math.max(begins, now - ARGV[2])
if begins - now > tonumber(ARGV[3]) then
    return -1
end
local ends = begins + ARGV[1]
local kept = string.format('%.0f %.0f', ends, now)
redis.call('SET', KEYS[1], kept, 'PX', math.ceil((ends - now) / 1000) + 60000)
return math.max(0, math.ceil(begins - now))
"""
#: The longest wait, in microseconds: a year, which means no limit.
_LONGEST: Final = 365 * 86400 * 1_000_000
#: Seconds between two heartbeats. A longer wait is split into steps.
_STEP: Final = 10.0


class RateLimiter:
    """Waits before each request to one bucket.

    Args:
        client: A client of `keyhole.store.connection.connect`.
        bucket: The bucket.
        rate: Requests per second; 0 for no limit.
        heartbeat: Called every ten seconds while it waits.
        until: When waiting must end, by `time.monotonic`.
    """

    def __init__(
        self,
        client: redis.Redis,
        bucket: str,
        rate: float,
        heartbeat: Callable[[], object] = lambda: None,
        until: float = float("inf"),
    ) -> None:
        self._until = until
        self._take_slot = client.register_script(_TAKE_SLOT)
        self._key = keys.rate(bucket)
        self._rate = rate
        self._heartbeat = heartbeat
        self._beat_at = time.monotonic()

    def __call__(self) -> None:
        """Wait for the next slot.

        Raises:
            TransientError: The next slot would begin too late; no slot is taken.
        """
        if not self._rate:
            return
        length = round(1_000_000 / self._rate)
        longest = round(min(_LONGEST, (self._until - time.monotonic()) * 1_000_000))
        args = [length, max(0, 1_000_000 - length), longest]
        left = int(self._take_slot(keys=[self._key], args=args)) / 1_000_000
        if left < 0:
            raise TransientError(
                Reason.RATE,
                f"too many requests compete for {self._rate:g} per second; none was possible in time",
            )
        while left > 0:
            time.sleep(min(left, _STEP))
            left -= _STEP
            if time.monotonic() - self._beat_at >= _STEP:
                self._beat_at = time.monotonic()
                self._heartbeat()
