"""A handler of messages with a ledger and an outbox of its own."""

from collections import Counter
from collections.abc import Sequence

import redis

from keyhole.intake.dead_letters import DeadLetters
from keyhole.intake.events.deletion import VerdictDeleter
from keyhole.intake.events.handling import Handled, Handler, Rules
from keyhole.intake.events.source import Message
from keyhole.intake.selection import Selection
from keyhole.jobs.entry import Entry
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.publisher import DeliveryUncertainError
from keyhole.results.drop import Drops
from keyhole.sources.allowed import AllowedBuckets

SOURCE = "redis://here/list"
WINDOW = 60


class Outbox:
    """A publisher that keeps what it gets, unless it is set to be away."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.trips = 0
        self.is_away = False

    def publish(self, entries: Sequence[Entry]) -> None:
        if self.is_away:
            raise DeliveryUncertainError("the broker is away")
        self.trips += 1
        self.entries += entries

    @property
    def keys(self) -> list[str]:
        """The keys of the objects that are to be scanned, as they were published."""
        return [job.key for entry in self.entries for job in entry.jobs]


class Intake:
    """A handler with a ledger and an outbox of its own."""

    def __init__(
        self, valkey: redis.Redis, *, dead_after: int = 3, allowed: tuple[str, ...] = (), **selection: object
    ) -> None:
        self.outbox = Outbox()
        self.ledger = Ledger(valkey, done_seconds=3600)
        self.dead = DeadLetters(valkey)
        rules = Rules(
            Selection.model_validate(selection), AllowedBuckets(allowed), "rules", dead_after, WINDOW
        )
        deleter = VerdictDeleter(Drops(valkey), lambda _: True)
        self.handler = Handler(self.ledger, self.outbox, self.dead, deleter, rules)

    def handle(self, *bodies: bytes, receives: int = 1) -> Handled:
        """Handle messages that arrived together."""
        return self.handler.handle([Message(body, None, receives) for body in bodies], SOURCE)

    def counts(self, *bodies: bytes) -> Counter[str]:
        """The counts of messages, except their source."""
        counts = self.handle(*bodies).counts
        return Counter({name: count for name, count in counts.items() if count and "from:" not in name})
