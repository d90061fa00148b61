"""Records which workers take work, which means that they receive messages from queues.

Each worker renews its record every few seconds.

A worker whose connection to the broker is broken, or that cannot use S3, does not renew its record.
"""

from typing import Final

import redis

from keyhole.store import keys

#: Seconds between two renewals, and seconds after which a record expires.
BEAT_SECONDS: Final = 10.0
PRESENT_SECONDS: Final = 30.0

_BEAT: Final = """
-- KEYS[1]  zset: names of workers, scored by the time of their last record
-- ARGV[1]  the worker's name
-- ARGV[2]  seconds after which records expire
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])) do
    redis.call('ZREM', KEYS[1], name)
end
redis.call('ZADD', KEYS[1], string.format('%.3f', now), ARGV[1])
"""


class Presence:
    """The records of the workers that take work."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._beat = client.register_script(_BEAT)

    def beat(self, worker: str) -> None:
        """Record that a worker takes work."""
        self._beat(keys=[keys.WORKERS], args=[worker, PRESENT_SECONDS])

    def leave(self, worker: str) -> None:
        """Record that a worker takes no more work."""
        self._client.zrem(keys.WORKERS, worker)

    def names(self) -> list[str]:
        """Return the names of the workers that take work, sorted."""
        seconds, microseconds = self._client.time()
        since = seconds + microseconds / 1e6 - PRESENT_SECONDS
        found: list[bytes] = self._client.zrangebyscore(keys.WORKERS, since, "+inf")  # type: ignore[assignment] # as above
        return sorted(name.decode(errors="replace") for name in found)
