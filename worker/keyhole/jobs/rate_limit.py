"""A limit on the requests per second to one bucket, which all workers share through Redis.

Redis assigns a time slot to each request, first come, first served. There are `rate` slots per second. If
there were no requests for a while, the unused slots of the last second can be used at once. Callers can use
different rates for the same bucket: the length of a request's slot is `1 / rate` seconds, where `rate` is the
rate of the request's caller. This is the generic cell rate algorithm (ITU-T I.371).

The time that a scan waits for slots does not count against the scan's budget. But the message that contains
the scan's job has a time limit. If the next slot begins after this limit, the scan takes no slot and ends
without a verdict. Keyhole scans the object again later.

A caller that must not stop halfway takes all its slots at once (`RateLimiter.reserve`). Otherwise, many
callers could take slots for their first requests, and none of them would get the slots for the rest in time.
If these slots take longer than `LONGEST_SPREAD` seconds, the caller sends all its requests when the first
slot begins. The other callers still wait until the last slot ends, so the average rate is kept.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import redis

from keyhole.reasons import Reason
from keyhole.sources.errors import TransientError
from keyhole.store import keys

_TAKE_SLOT: Final = """
-- KEYS[1]  string: the start of the bucket's next free slot, a space, and the time when this value was
--          written. Both times are microseconds since 1970. The second time shows if the server's clock was
--          set back.
-- ARGV[1]  the length of a slot in microseconds
-- ARGV[2]  microseconds by which slots can begin early after a quiet time
-- ARGV[3]  the longest time that the caller can wait for the first slot, in microseconds
-- ARGV[4]  the number of slots, one after the other
-- returns the microseconds until the first slot begins; -1 if it begins too late, and then no slot is taken
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local begins, said = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
begins = (begins or 0) - math.max(0, (said or now) - now)
begins = math.max(begins, now - ARGV[2])
if begins - now > tonumber(ARGV[3]) then
    return -1
end
local ends = begins + ARGV[1] * ARGV[4]
local kept = string.format('%.0f %.0f', ends, now)
redis.call('SET', KEYS[1], kept, 'PX', math.ceil((ends - now) / 1000) + 60000)
return math.max(0, math.ceil(begins - now))
"""
#: One year in microseconds: the longest slot, and the longest wait of a caller that sets no limit.
_LONGEST: Final = 365 * 86400 * 1_000_000
#: If reserved slots take longer than this many seconds, the caller does not wait for each of them.
LONGEST_SPREAD: Final = 20.0
#: Seconds between two calls of `heartbeat`. A longer wait is split into steps of this length.
_STEP: Final = 10.0


class RateLimiter:
    """Waits before each request to one bucket.

    Args:
        client: A Redis client that `keyhole.store.connection.connect` returned.
        bucket: The bucket.
        rate: Requests per second; 0 means no limit.
        heartbeat: Called every ten seconds during a wait.
        until: The latest time at which a slot can begin, on the clock `time.monotonic`.
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
        #: The length of a slot in microseconds.
        self._length = round(min(_LONGEST, 1_000_000 / rate)) if rate else 0
        self._heartbeat = heartbeat
        self._beat_at = time.monotonic()
        self._reserved: deque[float] = deque()

    def __call__(self) -> None:
        """Wait for the next slot: the next reserved slot, if there is one.

        Raises:
            TransientError: The next slot begins too late. No slot was taken.
        """
        if not self._rate:
            return
        if self._reserved:
            left = self._reserved.popleft() - time.monotonic()
        else:
            left = self._take(1, self._until - time.monotonic())
        while left > 0:
            time.sleep(min(left, _STEP))
            left -= _STEP
            if time.monotonic() - self._beat_at >= _STEP:
                self._beat_at = time.monotonic()
                self._heartbeat()

    def reserve(self, slots: int, *, first_within: float, all_within: float = float("inf")) -> None:
        """Take several slots, one after the other, for the next calls. This method does not wait.

        Args:
            slots: The number of slots.
            first_within: Seconds within which the first request must be possible.
            all_within: Seconds within which the last request must be possible.

        Raises:
            TransientError: The requests would be too late. No slot was taken.
        """
        if not self._rate:
            return
        now, pause = time.monotonic(), self._length / 1_000_000
        if (slots - 1) * pause > LONGEST_SPREAD:
            pause = 0.0
        left = self._take(slots, min(first_within, all_within - (slots - 1) * pause))
        self._reserved.extend(now + left + number * pause for number in range(slots))

    def _take(self, slots: int, longest: float) -> float:
        """Take slots, the first of them within `longest` seconds; return the seconds until it begins."""
        early = max(0, 1_000_000 - self._length)
        args = [self._length, early, round(min(_LONGEST, longest * 1_000_000)), slots]
        left = int(self._take_slot(keys=[self._key], args=args)) / 1_000_000
        if left < 0:
            raise TransientError(
                Reason.RATE,
                f"too many requests share the limit of {self._rate:g} per second; no time slot was free",
            )
        return left
