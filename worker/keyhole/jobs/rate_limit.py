"""Requests to a bucket, so many a second, of all workers together: a token bucket in Redis.

Whoever asks is told how long to wait, and that turn is theirs: turns are given in the order of asking,
`rate` a second, with a second's worth at once after a silence. Askers with different rates share the bucket;
each takes the time that its own rate says. (This is the generic cell rate algorithm, ITU-T I.371.)

A wait is not in a scan's budget, but the message of its batch has a time limit. A scan that cannot have a
turn in time takes none, and the object is tried again later, when fewer ask at once.
"""

import time
from collections.abc import Callable
from typing import Final

import redis

from keyhole.sources.errors import TransientError
from keyhole.store import keys

_TURN: Final = """
-- KEYS[1]  string: when the next turn of this bucket begins, a space, when that was said (microseconds since
--          1970), so that a clock that is set back is noticed
-- ARGV[1]  microseconds that a turn takes
-- ARGV[2]  microseconds by which turns may be early after a silence
-- ARGV[3]  microseconds that the caller can wait, at most; no turn is taken that begins later
-- returns the microseconds until the turn begins; -1 if none is taken
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
#: A wait that nobody has, in microseconds: a year.
_LONGEST: Final = 365 * 86400 * 1_000_000
#: Seconds between two signs of life: a longer wait is taken in parts.
_PART: Final = 10.0


class RateLimiter:
    """Waits for a turn at one bucket.

    Args:
        client: As `keyhole.store.connection.connect` makes it.
        bucket: Whose turn it is.
        rate: Turns a second; 0 for no waiting at all.
        alive: Called every ten seconds while there is waiting to do.
        until: When waiting must end, by `time.monotonic`.
    """

    def __init__(
        self,
        client: redis.Redis,
        bucket: str,
        rate: float,
        alive: Callable[[], object] = lambda: None,
        until: float = float("inf"),
    ) -> None:
        self._until = until
        self._turn = client.register_script(_TURN)
        self._key = keys.rate(bucket)
        self._rate = rate
        self._alive = alive
        self._alive_at = time.monotonic()

    def __call__(self) -> None:
        """Wait for the next turn.

        Raises:
            TransientError: It would begin too late; it is not taken.
        """
        if not self._rate:
            return
        step = round(1_000_000 / self._rate)
        most = round(min(_LONGEST, (self._until - time.monotonic()) * 1_000_000))
        left = int(self._turn(keys=[self._key], args=[step, max(0, 1_000_000 - step), most])) / 1_000_000
        if left < 0:
            raise TransientError(
                "rate", f"so many ask for {self._rate:g} requests a second that no turn was to be had in time"
            )
        while left > 0:
            time.sleep(min(left, _PART))
            left -= _PART
            if time.monotonic() - self._alive_at >= _PART:
                self._alive_at = time.monotonic()
                self._alive()
