"""What became of events and messages, counted in Redis for all listeners and workers together."""

from collections.abc import Mapping
from typing import cast

import redis

from keyhole.store import keys

#: An event's key was taken under its other reading, for under the first there was no object.
OTHER_READING = "other_reading"


class EventCounters:
    """Counters by name, since the keys were made. What a lost answer makes count twice is not corrected."""

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
        found = cast(
            "dict[bytes, bytes]", self._client.hgetall(keys.EVENT_COUNTS)
        )  # bytes, as `connect` asks
        return {name.decode(): int(count) for name, count in found.items()}
