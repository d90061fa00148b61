"""Counters of events and messages in Redis, which all listeners and workers share.

The names of the counters are fixed. A name from a message never becomes the name of a counter. Otherwise,
everyone who can write to the queue could fill Redis, and through the metrics also Prometheus.
"""

from collections.abc import Mapping
from typing import Final, cast

import redis

from keyhole.intake.events.event import EventKind
from keyhole.store import keys

RECEIVED: Final = "received"
NOT_UNDERSTOOD: Final = "not_understood"
DEAD: Final = "dead"
#: The counter of messages that contain no event.
EMPTY: Final = "empty"
NOT_SELECTED: Final = "not_selected"
NOT_ALLOWED: Final = "not_allowed"
DUPLICATES: Final = "duplicates"
PUBLISHED: Final = "published"
FORGOTTEN: Final = "forgotten"
KEPT: Final = "kept"
#: The counter for events whose `key` belongs to no object, so that a worker scanned the object with the key
#: `other_key` instead (see `ObjectEvent`).
OTHER_READING: Final = "other_reading"
#: The names of all counters. Each kind of event has a counter with the name of the kind.
NAMES: Final = (
    *(RECEIVED, NOT_UNDERSTOOD, DEAD, EMPTY, NOT_SELECTED, NOT_ALLOWED, DUPLICATES, PUBLISHED),
    *(FORGOTTEN, KEPT, OTHER_READING),
    *(kind.value for kind in EventKind),
)

#: An earlier version also counted under names from messages. This script removes these counters.
_TIDY = """
-- KEYS[1]  hash: the counters
-- ARGV     the names of the counters to keep
local counts = redis.call('HMGET', KEYS[1], unpack(ARGV))
redis.call('DEL', KEYS[1])
for i, name in ipairs(ARGV) do
    if counts[i] then redis.call('HSET', KEYS[1], name, counts[i]) end
end
"""


class EventCounters:
    """Counters in Redis.

    Each counter has a name of `NAMES`. If a response of Redis is lost, an event can be counted twice.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._tidy = client.register_script(_TIDY)

    def add(self, counts: Mapping[str, int]) -> None:
        """Add these numbers to the counters. Other names than those in `NAMES` are ignored."""
        with self._client.pipeline(transaction=False) as pipe:
            for name in NAMES:
                if count := counts.get(name):
                    pipe.hincrby(keys.EVENT_COUNTS, name, count)
            pipe.hlen(keys.EVENT_COUNTS)
            number = pipe.execute()[-1]
        if number > len(NAMES):
            self._tidy(keys=[keys.EVENT_COUNTS], args=NAMES)

    def read(self) -> dict[str, int]:
        """Return all counters that have been counted."""
        # clients from `connect` return bytes
        found = cast("list[bytes | None]", self._client.hmget(keys.EVENT_COUNTS, NAMES))
        return {name: int(count) for name, count in zip(NAMES, found, strict=True) if count is not None}
