"""Counters of events and messages in Redis, for all listeners and workers together."""

from collections.abc import Mapping
from typing import cast

import redis

from keyhole.store import keys

#: An event's key was scanned in its other reading, because no object had the first one.
OTHER_READING = "other_reading"


class EventCounters:
    """Counters by name. If an answer is lost, an event may be counted twice."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to counters."""
        with self._client.pipeline(transaction=False) as pipe:
            for name, count in counts.items():
                if count:
                    pipe.hincrby(keys.EVENT_COUNTS, name, count)
            pipe.execute()

    def read(self) -> dict[str, int]:
        """All counters."""
        # `connect` asks for bytes
        found = cast("dict[bytes, bytes]", self._client.hgetall(keys.EVENT_COUNTS))
        return {name.decode(): int(count) for name, count in found.items()}
