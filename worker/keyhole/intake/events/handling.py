"""Turns messages into jobs, and deletes the verdicts of deleted objects.

    message ──► events ──► created, restored ──► selected? ──► new? ──► recorded ──► published ──► marked
                      ├──► removed ──► its verdict is deleted
                      └──► ignored ──► counted

- The listener can acknowledge a message when the broker has received all jobs of the message. If a step fails
  earlier, the listener acknowledges no message of the batch, and later receives all messages of the batch
  again. The jobs that are created then have the same ids as before, so the ledger, which records all jobs,
  recognises them. There is one exception: a job for an event without version, ETag and sequencer gets a
  random id, so its object can be scanned twice.
- A job is not new if it is done. A job is also not new if it was published within the last `window_seconds`,
  because the job may still be in the queue.
- If Keyhole does not understand one record of a message, it treats the whole message as not understood and
  scans none of its objects. The listener returns the message to the queue, and receives it again later. When
  the message has been received `dead_after` times, it becomes a dead letter.
- If an event of a message is about a bucket that is not allowed, the message becomes a dead letter at once.
  But Keyhole still handles the other events of this message. If the selection excludes the bucket of an
  event, the event is skipped, and the message does not become a dead letter.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from keyhole.intake.dead_letters import Dead, DeadLetters
from keyhole.intake.events.counters import (
    DEAD,
    DUPLICATES,
    EMPTY,
    FORGOTTEN,
    KEPT,
    NOT_ALLOWED,
    NOT_SELECTED,
    NOT_UNDERSTOOD,
    PUBLISHED,
    RECEIVED,
)
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
from keyhole.tracing.tracer import tracer

log = logging.getLogger(__name__)

#: The maximum number of jobs that are recorded and published in one round trip.
CHUNK: Final = 1000
#: The kinds of events that lead to a scan.
SCANNED: Final = {EventKind.CREATED, EventKind.RESTORED}


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a handler.

    Args:
        selection: The objects to scan.
        buckets: The buckets that Keyhole is allowed to access.
        ruleset: The `ruleset` of new reports: the version of Keyhole's rules, and the policy's name.
        dead_after: The number of receives after which a message that is not understood becomes a dead letter.
        window_seconds: When a job was published less than this many seconds ago, it is assumed to be still in
            the queue.
    """

    selection: Selection
    buckets: AllowedBuckets
    ruleset: str
    dead_after: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Handled:
    """The result for a batch of messages.

    The listener must acknowledge the messages in `taken`, and give back the messages in `back`. `counts`
    contains the numbers to add to the counters, by their names in `counters.NAMES`.
    """

    taken: Sequence[Message]
    back: Sequence[Message]
    counts: Counter[str]


class _Read(NamedTuple):
    """An event, its job, and the trace context of its message.

    `job` is `None` if the event does not lead to a scan.
    """

    event: ObjectEvent
    job: ScanJob | None
    traceparent: str | None


class Handler:
    """Handles messages. Several threads can share a handler.

    Args:
        ledger: The ledger, in which jobs are recorded before they are published.
        publisher: Publishes jobs.
        dead: The store of dead letters, for messages that are not understood.
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
        """Handle messages from a source. `source` is the name of the source, which is stored in dead letters.

        After an error, the caller must not acknowledge any of the messages.

        Raises:
            redis.RedisError: Redis does not respond, or its disk is too slow.
            DeliveryUncertainError: The broker does not respond.
        """
        taken, back, read, poison = [], [], [], []
        empty = 0
        refused: list[tuple[Message, str]] = []
        for message in messages:
            try:
                events = self._read(message.body, message.traceparent)
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
                "a message became a dead letter (receives: %d): %s; see `keyhole dead`",
                letter.times,
                letter.reason,
            )
        counts += Counter({NOT_UNDERSTOOD: len(poison), DEAD: len(letters)})
        return Handled(taken, back, counts)

    def take_over(self, body: bytes) -> Counter[str]:
        """Handle the message of a dead letter as if the queue had delivered it. Return the counts.

        Raises:
            NotUnderstoodError: The message is not understood, or an event's bucket is not allowed.
            redis.RedisError: Redis does not respond.
            DeliveryUncertainError: The broker does not respond.
        """
        read = self._read(body)
        counts = self._work_on(read)
        reason = self._not_allowed(read)
        if reason is not None:
            raise NotUnderstoodError(reason)
        return counts

    def _not_allowed(self, read: Sequence[_Read]) -> str | None:
        """Return the reason why the message must become a dead letter; `None` if there is no reason."""
        for event, *_ in read:
            if not self._may_touch(event) and self._rules.selection.matches_bucket(str(event.bucket)):
                return str(BucketNotAllowedError(str(event.bucket)))
        return None

    def _may_touch(self, event: ObjectEvent) -> bool:
        """Return false if the event requires an action in a bucket that is not allowed."""
        asks = event.kind is not EventKind.IGNORED and event.bucket is not None
        return not asks or self._rules.buckets.allow(str(event.bucket))

    def _read(self, body: bytes, traceparent: str | None = None) -> list[_Read]:
        try:
            return [_Read(event, self._job(event), traceparent) for event in parse(body)]
        except NotUnderstoodError:
            raise
        except Exception as error:
            # This is a bug in Keyhole. Do not raise the error here: the queue delivers the message again and
            # again, and each time, the error would stop the listener.
            log.exception("a message of %d bytes could not be parsed", len(body))
            raise NotUnderstoodError(
                f"Keyhole failed to parse it ({error!r}); the listener's log has the traceback"
            ) from error

    def _job(self, event: ObjectEvent) -> ScanJob | None:
        return scan_job(event, self._rules.ruleset) if event.kind in SCANNED else None

    def _work_on(self, read: Sequence[_Read]) -> Counter[str]:
        counts = Counter[str]()
        jobs: dict[str, ScanJob] = {}
        causes: dict[str, str] = {}
        for event, job, traceparent in read:
            counts[event.kind.value] += 1
            if event.kind is EventKind.IGNORED:
                # The sender of a message chooses this name, so no counter contains it.
                log.debug("ignored the event %s in the dialect %s", event.name, event.dialect)
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
                if traceparent is not None:
                    causes[job.id] = traceparent
        published = self._publish(list(jobs.values()), causes)
        counts[PUBLISHED] += published
        counts[DUPLICATES] += len(jobs) - published
        removed = [event for event, *_ in read if event.kind is EventKind.REMOVED and self._may_touch(event)]
        counts[FORGOTTEN], counts[KEPT] = self._deleter.delete(removed)
        return counts

    def _takes(self, event: ObjectEvent) -> bool:
        """Return whether the selection matches the object's `key` or its `other_key`."""
        return any(
            self._rules.selection.matches(event.bucket or "", key, event.size)
            for key in (event.key, event.other_key)
            if key is not None
        )

    def _publish(self, jobs: Sequence[ScanJob], causes: Mapping[str, str]) -> int:
        """Publish the jobs that are new, and return their number.

        `causes` contains the trace contexts of the messages of the jobs, by the jobs' ids.
        """
        began = time.time_ns()
        on_their_way = self._ledger.published_among([job.id for job in jobs])
        entries = [Entry(job.id, (job,), EVENTS) for job in jobs if job.id not in on_their_way]
        published = 0
        for start in range(0, len(entries), CHUNK):
            # Also publish entries that an earlier call recorded, because that call may have crashed before it
            # published the entries.
            not_done = self._ledger.record_many(entries[start : start + CHUNK])
            self._publisher.publish(not_done)
            self._ledger.mark_published([entry.id for entry in not_done], self._rules.window_seconds)
            tracer().published(
                [job for entry in not_done for job in entry.jobs], EVENTS, began, causes=causes
            )
            published += len(not_done)
        return published

    def _receives(self, message: Message, source: str, reason: str) -> int:
        """Record one more receive of a message that is not understood.

        Return the number of receives so far.
        """
        return max(message.receives, self._dead.count_receive(Dead.message(message.body, source, reason)))
