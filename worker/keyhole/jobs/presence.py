"""Records which workers take work, which means that they receive messages from queues.

Each worker renews its record every few seconds. The record also states the ruleset that the worker applies
(the version of Keyhole's rules, and the name of the policy), its sinks, which receive the verdicts, and the
queues whose messages it takes. Workers of earlier versions do not state all of this.

A worker whose connection to the broker is broken, or that cannot use S3, does not renew its record.
"""

from collections.abc import Iterable
from typing import Final

import redis

from keyhole.store import keys

#: Seconds between two renewals, and seconds after which a record expires.
BEAT_SECONDS: Final = 10.0
PRESENT_SECONDS: Final = 30.0

_BEAT: Final = """
-- KEYS[1]  zset: names of workers, scored by the time of their last record
-- KEYS[2]  hash: for each name, the time of the record that stated the worker's ruleset, a space, the ruleset
-- KEYS[3]  hash: the same with the worker's sinks
-- KEYS[4]  hash: the same with the worker's queues
-- ARGV[1]  the worker's name
-- ARGV[2]  seconds after which records expire
-- ARGV[3]  the worker's ruleset; may be empty
-- ARGV[4]  the worker's sinks; may be empty
-- ARGV[5]  the worker's queues; may be empty
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])) do
    redis.call('ZREM', KEYS[1], name)
end
local at = string.format('%.3f', now)
redis.call('ZADD', KEYS[1], at, ARGV[1])
for number = 2, 4 do
    local hash = KEYS[number]
    redis.call('HSET', hash, ARGV[1], at .. ' ' .. ARGV[number + 1])
    -- A worker of an earlier version leaves the hash as it is when it removes the name of a lost worker.
    if redis.call('HLEN', hash) > redis.call('ZCARD', KEYS[1]) then
        local stated = redis.call('HGETALL', hash)
        for i = 1, #stated, 2 do
            if not redis.call('ZSCORE', KEYS[1], stated[i]) then redis.call('HDEL', hash, stated[i]) end
        end
    end
end
"""


class Presence:
    """The records of the workers that take work."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._beat = client.register_script(_BEAT)

    def beat(
        self, worker: str, ruleset: str = "", sinks: Iterable[str] = (), queues: Iterable[str] = ()
    ) -> None:
        """Record that a worker takes work, which ruleset it applies, and which sinks and queues it has."""
        self._beat(
            keys=[keys.WORKERS, keys.WORKER_RULES, keys.WORKER_SINKS, keys.WORKER_QUEUES],
            args=[worker, PRESENT_SECONDS, ruleset, ",".join(sorted(sinks)), ",".join(sorted(queues))],
        )

    def leave(self, worker: str) -> None:
        """Record that a worker takes no more work."""
        self._client.zrem(keys.WORKERS, worker)
        self._client.hdel(keys.WORKER_RULES, worker)
        self._client.hdel(keys.WORKER_SINKS, worker)
        self._client.hdel(keys.WORKER_QUEUES, worker)

    def names(self) -> list[str]:
        """Return the names of the workers that take work, sorted."""
        return sorted(self.rulesets())

    def rulesets(self) -> dict[str, str | None]:
        """Return the ruleset of each worker that takes work; `None` if the worker does not state it."""
        return self._stated(keys.WORKER_RULES)

    def sinks(self) -> dict[str, frozenset[str] | None]:
        """Return the sinks of each worker that takes work; `None` if the worker does not state them."""
        return self._stated_sets(keys.WORKER_SINKS)

    def queues(self) -> dict[str, frozenset[str] | None]:
        """Return the queues of each worker that takes work; `None` if the worker does not state them."""
        return self._stated_sets(keys.WORKER_QUEUES)

    def _stated_sets(self, key: str) -> dict[str, frozenset[str] | None]:
        return {
            name: None if stated is None else frozenset(stated.split(","))
            for name, stated in self._stated(key).items()
        }

    def _stated(self, key: str) -> dict[str, str | None]:
        """Return what each worker that takes work states in a hash; `None` if it states nothing there."""
        seconds, microseconds = self._client.time()
        since = seconds + microseconds / 1e6 - PRESENT_SECONDS
        with self._client.pipeline(transaction=True) as pipe:
            pipe.zrangebyscore(keys.WORKERS, since, "+inf", withscores=True)
            pipe.hgetall(key)
            present, stated = pipe.execute()
        found: dict[str, str | None] = {}
        for name, score in present:
            at, _, text = stated.get(name, b"").decode(errors="replace").partition(" ")
            # If the time differs, a worker of an earlier version now has this name.
            is_current = at == f"{score:.3f}"
            found[name.decode(errors="replace")] = text or None if is_current else None
        return found
