"""Turns messages into jobs, and deletes the verdicts of deleted objects.

    message ──► events ──► created, restored ──► selected? ──► known? ──► recorded ──► published ──► marked
                      ├──► removed ──► its verdict is deleted
                      └──► ignored ──► counted

- A message may be acknowledged when all its jobs are on the broker. If anything fails before that, no
  message of the batch is acknowledged, and all are handled again. Then the jobs have the same ids, so the
  ledger recognises them, unless an event has too few fields to distinguish it from others.
- A job is known if it is done, or if it was published within the window and may still be queued.
- If one record of a message is not understood, the whole message is not understood, and none of its objects
  is scanned. The message is given back until it was received `dead_after` times; then it becomes a dead
  letter.
- A message with an event of a bucket that Keyhole may not touch becomes a dead letter at once. Its other
  events are handled. Events of buckets that are not selected are ignored silently.
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

#: Jobs that are recorded and published in one round trip.
CHUNK: Final = 1000
#: The names of counters. Others are the kinds of events, `ignored:<name>` and `from:<dialect>`.
RECEIVED: Final = "received"
NOT_UNDERSTOOD: Final = "not_understood"
DEAD: Final = "dead"
#: Messages without an event.
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
    """The rules of a handler.

    Args:
        selection: Which objects are scanned.
        buckets: The buckets that Keyhole may touch.
        ruleset: The rules of the verdicts.
        dead_after: The number of receives after which a message that is not understood becomes a dead letter.
        window_seconds: How long a published job counts as queued.
    """

    selection: Selection
    buckets: AllowedBuckets
    ruleset: str
    dead_after: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Handled:
    """The outcome for messages: those to acknowledge (`taken`), those to give back, and counts by name."""

    taken: Sequence[Message]
    back: Sequence[Message]
    counts: Counter[str]


class _Read(NamedTuple):
    """An event, and its job if it asks for one."""

    event: ObjectEvent
    job: ScanJob | None


class Handler:
    """Handles messages. Threads may share it.

    Args:
        ledger: The ledger, in which jobs are recorded before they are published.
        publisher: Publishes jobs.
        dead: The dead letters, for messages that are not understood.
        deleter: Deletes verdicts.
        rules: The rules of this handler.
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
        """Handle messages of a source. Dead letters contain the name of the source.

        Raises:
            redis.RedisError: Redis does not answer, or its disk is too slow; no message may be acknowledged.
            DeliveryUncertainError: The broker does not answer; no message may be acknowledged.
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
        """Handle one message as if it had just been received, and return the counts.

        Raises:
            NotUnderstoodError: It is not understood, or has an event of a bucket that is not allowed.
            redis.RedisError: Redis does not answer.
            DeliveryUncertainError: The broker does not answer.
        """
        read = self._read(body)
        counts = self._work_on(read)
        reason = self._not_allowed(read)
        if reason is not None:
            raise NotUnderstoodError(reason)
        return counts

    def _not_allowed(self, read: Sequence[_Read]) -> str | None:
        """Return why an understood message must become a dead letter; `None` if it need not become one."""
        for event, _ in read:
            if not self._may_touch(event) and self._rules.selection.matches_bucket(str(event.bucket)):
                return str(BucketNotAllowedError(str(event.bucket)))
        return None

    def _may_touch(self, event: ObjectEvent) -> bool:
        """Return false if the event asks for an action in a bucket that Keyhole may not touch."""
        asks = event.kind is not EventKind.IGNORED and event.bucket is not None
        return not asks or self._rules.buckets.allow(str(event.bucket))

    def _read(self, body: bytes) -> list[_Read]:
        try:
            return [_Read(event, self._job(event)) for event in parse(body)]
        except NotUnderstoodError:
            raise
        except Exception as error:
            # This is a bug in Keyhole. It must not end the listener each time that the message is received.
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
        """Whether an object is selected, in either reading of its key."""
        return any(
            self._rules.selection.matches(event.bucket or "", key, event.size)
            for key in (event.key, event.other_key)
            if key is not None
        )

    def _publish(self, jobs: Sequence[ScanJob]) -> int:
        """Publish the jobs that are not known, and return their number."""
        on_their_way = self._ledger.published_among([job.id for job in jobs])
        entries = [Entry(job.id, (job,), EVENTS) for job in jobs if job.id not in on_their_way]
        published = 0
        for start in range(0, len(entries), CHUNK):
            # Jobs that are open but perhaps not published are published again.
            not_done = self._ledger.record_many(entries[start : start + CHUNK])
            self._publisher.publish(not_done)
            self._ledger.mark_published([entry.id for entry in not_done], self._rules.window_seconds)
            published += len(not_done)
        return published

    def _receives(self, message: Message, source: str, reason: str) -> int:
        """Count a receive of a message that is not understood, and return the count."""
        return max(message.receives, self._dead.count_receive(Dead.message(message.body, source, reason)))
