"""The events that Keyhole still has to send to a sink (see `jobs.debts`).

The script that records a verdict also records the verdict's events (`results.sinks.notifier`). A worker sends
the events (`fleet.delivering`). A worker can be killed after it has sent an event and before it settles the
debt. Another worker then sends the event again, with the same id.
"""

from typing import Final

import redis

from keyhole.jobs.debts import Debts, Kind
from keyhole.results.sinks.event import Event
from keyhole.results.sinks.notifier import kind_of

#: The longest delay between two attempts to send an event, in seconds.
LONGEST_DELAY: Final = 600.0


class Deliveries(Debts[Event]):
    """The events that are owed to one sink. The client comes from `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis, sink: str) -> None:
        kind = Kind(
            kind_of(sink), lambda event: event.id, lambda event: event.body, Event.from_json, 0, LONGEST_DELAY
        )
        super().__init__(client, kind)
