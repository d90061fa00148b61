"""A message handler with its own ledger and outbox."""

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
    """A publisher that stores what it should publish. A test can let it fail."""

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
        """The published keys of the objects to scan."""
        return [job.key for entry in self.entries for job in entry.jobs]


class Intake:
    """A handler with its own ledger and outbox."""

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
        """Handle messages that arrived at the same time."""
        return self.handler.handle([Message(body, None, receives) for body in bodies], SOURCE)

    def counts(self, *bodies: bytes) -> Counter[str]:
        """The counts of messages that are not 0."""
        return +self.handle(*bodies).counts
