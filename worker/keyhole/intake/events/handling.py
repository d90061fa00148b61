"""From messages to jobs: read, choose, pass over what is known, note, publish, forget; then they are ours.

    message ──► its events ──► created, restored ──► chosen? ──► known? ──► noted ──► published ──► marked
                          ├──► removed ──► its verdict is dropped
                          └──► ignored ──► counted

- A message is taken over when all that it asks for is on the broker, and may be acknowledged then. If
  anything fails on the way none is, and all is done again: the jobs have the same ids (but where an event
  says too little to tell it from others), so the ledger knows them.
- What is known: a job that is done, or that was published within the window and may still be on its way.
- A message that is not understood is not understood as a whole: no record of it is scanned. It is given back
  until it was received so many times; then it is a dead letter, which can be retried.
- A message with an event of a bucket that Keyhole may not touch is a dead letter at once. Its other events
  are worked on. Events of buckets that the selection leaves out are passed over silently.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from keyhole.intake.dead_letters import Dead, DeadLetters
from keyhole.intake.events.deletion import VerdictDeleter
from keyhole.intake.events.event import EventKind, ObjectEvent
from keyhole.intake.events.notifications import NotUnderstoodError, parse, scan_job
from keyhole.intake.events.source import Message
from keyhole.intake.selection import Selection
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.publisher import Publisher
from keyhole.jobs.queues import EVENTS
from keyhole.sources.allowed import AllowedBuckets, BucketNotAllowedError

log = logging.getLogger(__name__)

#: Jobs that are noted and published in one round trip.
CHUNK: Final = 1000
#: The names of what is counted, beside those of the kinds of events, `ignored:<name>` and `from:<dialect>`.
RECEIVED: Final = "received"
NOT_UNDERSTOOD: Final = "not_understood"
DEAD: Final = "dead"
#: Messages that are understood and have no event.
EMPTY: Final = "empty"
NOT_SELECTED: Final = "not_selected"
NOT_ALLOWED: Final = "not_allowed"
DUPLICATES: Final = "duplicates"
PUBLISHED: Final = "published"
FORGOTTEN: Final = "forgotten"
KEPT: Final = "kept"
#: Events that ask for a scan.
SCANNED: Final = {EventKind.CREATED, EventKind.RESTORED}


@dataclass(frozen=True, slots=True)
class Rules:
    """What is scanned, by which rules, and how patient the listener is.

    Args:
        selection: Which objects are scanned.
        buckets: Those that Keyhole may touch.
        ruleset: By what they will be judged.
        dead_after: Receives of a message that is not understood until it is a dead letter.
        window_seconds: How long a job counts as on its way once it is published.
    """

    selection: Selection
    buckets: AllowedBuckets
    ruleset: str
    dead_after: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of messages: those that are taken over, those to give back, and counts by name."""

    taken: Sequence[Message]
    back: Sequence[Message]
    counts: Counter[str]


class _Read(NamedTuple):
    """An event, and the job that it asks for, if it does."""

    event: ObjectEvent
    job: ScanJob | None


class Handler:
    """Works on messages. Threads may share it.

    Args:
        ledger: Where jobs are noted before they are published.
        publisher: By which they are.
        dead: Where messages go that are not understood.
        deleter: What drops verdicts.
        rules: What is scanned.
    """

    def __init__(
        self, ledger: Ledger, publisher: Publisher, dead: DeadLetters, deleter: VerdictDeleter, rules: Rules
    ) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._dead = dead
        self._deleter = deleter
        self._rules = rules

    def handle(self, messages: Sequence[Message], source: str) -> Handled:
        """Take over messages of a source; its name is for dead letters.

        Raises:
            redis.RedisError: Redis is away, or its disk is too slow; none is taken over.
            DeliveryUncertainError: The broker is away; none is taken over.
        """
        taken, back, read, poison = [], [], [], []
        empty = 0
        refused: list[tuple[Message, str]] = []
        for message in messages:
            try:
                events = self._read(message.body)
                empty += not events
                read += events
                reason = self._not_allowed(events)
                if reason is None:
                    taken.append(message)
                else:
                    refused.append((message, reason))
            except NotUnderstoodError as error:
                poison.append((message, error.reason))
        counts = Counter({RECEIVED: len(messages), EMPTY: empty}) + self._work_on(read)
        letters = [Dead.message(message.body, source, reason) for message, reason in refused]
        taken += [message for message, _ in refused]
        for message, reason in poison:
            receives = self._receives(message, source, reason)
            if receives < self._rules.dead_after:
                back.append(message)
            else:
                letters.append(Dead.message(message.body, source, reason, receives))
                taken.append(message)
        self._dead.add_durably(letters)
        for letter in letters:
            log.warning(
                "a message is a dead letter (receives: %d): %s; see `keyhole dead`",
                letter.times,
                letter.reason,
            )
        counts += Counter({NOT_UNDERSTOOD: len(poison), DEAD: len(letters)})
        return Handled(taken, back, counts)

    def take_over(self, body: bytes) -> Counter[str]:
        """Work on one message as if it had just come, and return the counts.

        Raises:
            NotUnderstoodError: It is not understood, or has an event of a bucket that is not allowed.
            redis.RedisError: Redis is away.
            DeliveryUncertainError: The broker is.
        """
        read = self._read(body)
        counts = self._work_on(read)
        reason = self._not_allowed(read)
        if reason is not None:
            raise NotUnderstoodError(reason)
        return counts

    def _not_allowed(self, read: Sequence[_Read]) -> str | None:
        """Why a message must be kept though it is understood; `None` if it need not be."""
        for event, _ in read:
            if not self._may_touch(event) and self._rules.selection.matches_bucket(str(event.bucket)):
                return str(BucketNotAllowedError(str(event.bucket)))
        return None

    def _may_touch(self, event: ObjectEvent) -> bool:
        """Whether the event asks for nothing in a bucket that Keyhole may not touch."""
        asks = event.kind is not EventKind.IGNORED and event.bucket is not None
        return not asks or self._rules.buckets.allow(str(event.bucket))

    def _read(self, body: bytes) -> list[_Read]:
        try:
            return [_Read(event, self._job(event)) for event in parse(body)]
        except NotUnderstoodError:
            raise
        except Exception as error:
            # A bug of ours: one message must not end the listener again and again.
            log.exception("a message of %d bytes could not be read", len(body))
            raise NotUnderstoodError(f"Keyhole failed to read it ({error!r}); its log says how") from error

    def _job(self, event: ObjectEvent) -> ScanJob | None:
        return scan_job(event, self._rules.ruleset) if event.kind in SCANNED else None

    def _work_on(self, read: Sequence[_Read]) -> Counter[str]:
        counts = Counter[str]()
        jobs = {}
        for event, job in read:
            counts[event.kind.value] += 1
            counts[f"from:{event.dialect}"] += 1
            if event.kind is EventKind.IGNORED:
                counts[f"{event.kind.value}:{event.name}"] += 1
            if not self._may_touch(event):
                counts[NOT_ALLOWED] += 1
            elif job is None:
                continue
            elif not self._takes(event):
                counts[NOT_SELECTED] += 1
            elif job.id in jobs:
                counts[DUPLICATES] += 1
            else:
                jobs[job.id] = job
        published = self._publish(list(jobs.values()))
        counts[PUBLISHED] += published
        counts[DUPLICATES] += len(jobs) - published
        removed = [event for event, _ in read if event.kind is EventKind.REMOVED and self._may_touch(event)]
        counts[FORGOTTEN], counts[KEPT] = self._deleter.delete(removed)
        return counts

    def _takes(self, event: ObjectEvent) -> bool:
        """Whether an object is wanted, under either reading of its key."""
        return any(
            self._rules.selection.matches(event.bucket or "", key, event.size)
            for key in (event.key, event.other_key)
            if key is not None
        )

    def _publish(self, jobs: Sequence[ScanJob]) -> int:
        """Publish jobs that are not known, and return how many there were."""
        on_their_way = self._ledger.published_among([job.id for job in jobs])
        entries = [Entry(job.id, (job,), EVENTS) for job in jobs if job.id not in on_their_way]
        published = 0
        for start in range(0, len(entries), CHUNK):
            # What is open and was not published for certain is published again.
            not_done = self._ledger.record_many(entries[start : start + CHUNK])
            self._publisher.publish(not_done)
            self._ledger.mark_published([entry.id for entry in not_done], self._rules.window_seconds)
            published += len(not_done)
        return published

    def _receives(self, message: Message, source: str, reason: str) -> int:
        """Count a receive of a message that is not understood, and return how many there were."""
        return max(message.receives, self._dead.count_receive(Dead.message(message.body, source, reason)))
