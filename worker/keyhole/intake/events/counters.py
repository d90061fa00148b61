"""Counters of events and messages in Redis, which all listeners and workers share."""

from collections.abc import Mapping
from typing import cast

import redis

from keyhole.store import keys

#: The name of the counter for events whose `key` belongs to no object, so that a worker scanned the object
#: with the key `other_key` instead (see `ObjectEvent`).
OTHER_READING = "other_reading"


class EventCounters:
    """Counters in Redis.

    Each counter has a name. If a response of Redis is lost, an event can be counted twice.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def add(self, counts: Mapping[str, int]) -> None:
        """Add these numbers to the counters."""
        with self._client.pipeline(transaction=False) as pipe:
            for name, count in counts.items():
                if count:
                    pipe.hincrby(keys.EVENT_COUNTS, name, count)
            pipe.execute()

    def read(self) -> dict[str, int]:
        """Return all counters."""
        # clients from `connect` return bytes
        found = cast("dict[bytes, bytes]", self._client.hgetall(keys.EVENT_COUNTS))
        return {name.decode(): int(count) for name, count in found.items()}
