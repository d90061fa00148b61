"""The tasks: unpack a message, work on it, record. And the way jobs get into messages.

    >>> from worker.tasks import scan
    >>> scan.delay("s3://images/debian.qcow2")

Whatever is published through these tasks is noted in the ledger first. `app.send_task` with a task's name
bypasses it; the work is then done all the same, but not found again if the broker loses the message.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import uuid4

import stamina
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from celery import Task
from celery.exceptions import SoftTimeLimitExceeded
from celery.result import AsyncResult
from kombu.exceptions import OperationalError

from worker.api import s3_access, scan_s3
from worker.app import app
from worker.intake.events.counts import OTHER_READING, EventCounts
from worker.jobs.job import ScanJob
from worker.jobs.ledger import ENTRY, Entry, Ledger
from worker.jobs.perform import Performer
from worker.jobs.publisher import DeliveryUncertainError
from worker.jobs.queues import JOBS
from worker.results.connection import connect
from worker.results.redis_store import RedisStore
from worker.results.tags import TagOutcome, TagWriter
from worker.scan.report import Report
from worker.settings import Settings
from worker.sources.s3_uri import parse_s3_uri

log = logging.getLogger(__name__)

#: S3 recovers from SlowDown within seconds; what the tag writer raises is what may pass.
TAG_ATTEMPTS, TAG_SECONDS = 5, 45.0
#: What a job may take in all: a worker lost by accident now and then, or one time limit after the other.
MAX_RETRIES = 3


@dataclass(frozen=True)
class Services:
    """What the tasks of one process need, made on first use and not before a fork."""

    settings: Settings
    pid: int

    @cached_property
    def redis(self) -> Any:  # noqa: ANN401 - redis-py's client is generic over what it decodes
        """The client of the records and of the ledger."""
        if self.settings.redis_url is None:
            raise RuntimeError(
                "KEYHOLE_REDIS_URL is not set; `keyhole worker` starts an embedded Valkey without it"
            )
        return connect(self.settings.redis_url)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of accepted jobs."""
        return Ledger(self.redis, done_seconds=self.settings.done_seconds)

    @cached_property
    def store(self) -> RedisStore:
        """Where verdicts are kept."""
        return RedisStore(
            self.redis,
            expiry_seconds=self.settings.record_seconds or None,
            stream_length=self.settings.stream_length,
        )

    @cached_property
    def event_counts(self) -> EventCounts:
        """The counters of events."""
        return EventCounts(self.redis)

    @cached_property
    def tags(self) -> TagWriter:
        """Writes verdicts as object tags."""
        return TagWriter(s3_access(self.settings).client, locks=self.redis)

    @cached_property
    def performer(self) -> Performer:
        """Works on entries."""
        return Performer(self._scan, self._record, self._finish, self.ledger, self.settings.scan_threads)

    def _scan(self, _entry: Entry, job: ScanJob) -> Report:
        report = self._scan_key(job, job.key)
        if job.other_key is None or report.reasons != ("not_found",):
            return report
        other = self._scan_key(job, job.other_key)
        if other.reasons == ("not_found",):
            return report
        self.event_counts.add({OTHER_READING: 1})
        return other

    def _scan_key(self, job: ScanJob, key: str) -> Report:
        return scan_s3(s3_access(self.settings), job.bucket, key, job.version_id, self.settings.scan)

    def _finish(self, entry: Entry) -> None:
        pass

    def _record(self, _entry: Entry, job: ScanJob, report: Report) -> None:
        # Tags first: whoever hears of the verdict finds them. The verdict stands even if they fail.
        try:
            if "tags" in self.settings.sinks:
                self._tag(report)
        finally:
            if "redis" in self.settings.sinks:
                self.store.write(report, job_id=job.id, sequencer=job.sequencer)

    def _tag(self, report: Report) -> None:
        passing = (ClientError, BotoCoreError, HTTPClientError)
        for attempt in stamina.retry_context(on=passing, attempts=TAG_ATTEMPTS, timeout=TAG_SECONDS):
            with attempt:
                outcome = self.tags.write(report)
        if outcome not in {TagOutcome.WRITTEN, TagOutcome.UNCHANGED, TagOutcome.SKIPPED_NO_IDENTITY}:
            log.warning("the tags of %s: %s", report.target, outcome)


_services: Services | None = None


def services() -> Services:
    """This process's services; a forked child makes its own, with the settings of its parent."""
    global _services  # noqa: PLW0603 - one per process is the point
    if _services is None:
        _services = Services(Settings(), os.getpid())
    elif _services.pid != os.getpid():
        _services = Services(_services.settings, os.getpid())
    return _services


def use_settings(settings: Settings) -> None:
    """Take other settings than the environment's, as with the embedded Valkey."""
    global _services  # noqa: PLW0603 - one per process is the point
    _services = Services(settings, os.getpid())


class LedgerTask(Task):  # type: ignore[misc] # Celery has no types
    """A task whose work is noted in the ledger before it is published, however it is published."""

    abstract = True
    max_retries = MAX_RETRIES
    # A countdown would lie in a worker's memory.
    default_retry_delay = 0

    def entry(self, args: Sequence[Any], task_id: str, queue: str) -> Entry:
        """The ledger's entry for the arguments of a call."""
        raise NotImplementedError

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        task_id: str | None = None,
        **options: Any,  # noqa: ANN401 - whatever Celery takes
    ) -> AsyncResult:
        """Note the work, then publish it. Work that is done already is not published again.

        Raises:
            ValueError: The arguments are no job.
            DeliveryUncertainError: The broker failed; the ledger has the work.
        """
        arguments = [*(args or ()), *(kwargs or {}).values()]
        queue = str(options.pop("queue", None) or JOBS)
        if len(arguments) == 1 and isinstance(arguments[0], dict):
            entry: Entry = ENTRY.validate_python(arguments[0])  # its own message, as Celery sends it again
        else:
            entry = self.entry(arguments, task_id or uuid4().hex, queue)
        if not services().ledger.note(entry):
            return self.AsyncResult(entry.id)
        return self.publish(entry, **options)

    def publish(self, entry: Entry, **options: Any) -> AsyncResult:  # noqa: ANN401 - whatever Celery takes
        """Publish an entry that is noted already."""
        message = ENTRY.dump_python(entry, mode="json", exclude_none=True)
        try:
            return super().apply_async([message], {}, task_id=entry.id, **{"queue": entry.queue, **options})
        except OperationalError as error:
            raise DeliveryUncertainError(f"the broker did not take the job: {error}") from error

    def work_on(self, message: dict[str, Any]) -> None:
        """Work on what a message says.

        Raises:
            ValueError: The message is no job of this version's.
        """
        entry: Entry = ENTRY.validate_python(message)
        again = self.request.retries > 0 or bool((self.request.delivery_info or {}).get("redelivered"))
        try:
            services().performer.perform(entry, alone=again)
        except SoftTimeLimitExceeded:
            # What has its verdict is marked; the rest is for the next delivery.
            raise self.retry(args=[message], kwargs={}, countdown=0) from None
        except Exception as error:
            log.exception("a verdict of entry %s was not recorded", entry.id)
            raise self.retry(args=[message], kwargs={}, countdown=0, exc=error) from error


class ScanTask(LedgerTask):
    """`keyhole.scan`: one object."""

    def entry(self, args: Sequence[Any], task_id: str, queue: str) -> Entry:
        """From `(uri)`, `(uri, version_id)` or a `ScanJob`."""
        if isinstance(args[0], ScanJob):
            return Entry(args[0].id, (args[0],), queue)
        bucket, key = parse_s3_uri(args[0])
        version_id = args[1] if len(args) > 1 else None
        return Entry(task_id, (ScanJob(id=task_id, bucket=bucket, key=key, version_id=version_id),), queue)


class ScanBatchTask(LedgerTask):
    """`keyhole.scan_batch`: many objects."""

    def entry(self, args: Sequence[Any], task_id: str, queue: str) -> Entry:
        """From a sequence of `ScanJob`s or URIs."""
        jobs = []
        for number, job in enumerate(args[0]):
            if isinstance(job, str):
                bucket, key = parse_s3_uri(job)
                jobs.append(ScanJob(id=f"{task_id}-{number}", bucket=bucket, key=key))
            else:
                jobs.append(ScanJob.model_validate(job))
        return Entry(task_id, tuple(jobs), queue)


@app.task(bind=True, base=ScanTask, name="keyhole.scan", typing=False)  # type: ignore[untyped-decorator] # Celery's
def scan(self: ScanTask, message: dict[str, Any]) -> None:
    """Scan one object and record its verdict."""
    self.work_on(message)


@app.task(bind=True, base=ScanBatchTask, name="keyhole.scan_batch", typing=False)  # type: ignore[untyped-decorator] # as above
def scan_batch(self: ScanBatchTask, message: dict[str, Any]) -> None:
    """Scan many objects, several at once, and record each verdict as it comes."""
    self.work_on(message)


class CeleryPublisher:
    """Publishes entries of the ledger to their queues, many in a round trip; a `jobs.publisher.Publisher`."""

    def publish(self, entries: Sequence[Entry]) -> None:
        """Send entries that are noted in the ledger.

        Raises:
            DeliveryUncertainError: The broker failed; the ledger has them all.
        """
        try:
            with app.producer_pool.acquire(block=True) as producer, producer.batch():
                for entry in entries:
                    task = scan if len(entry.jobs) == 1 else scan_batch
                    task.publish(entry, producer=producer)
        except OperationalError as error:
            raise DeliveryUncertainError(
                f"the broker failed while jobs were on their way: {error}"
            ) from error


def submit(jobs: Sequence[ScanJob], *, batch_size: int, queue: str = JOBS) -> list[Entry]:
    """Note jobs in the ledger and publish them, in messages of up to `batch_size` jobs.

    Returns:
        The entries, one a message. An entry's id is that of its only job, or one of its own.

    Raises:
        DeliveryUncertainError: The broker failed; the ledger has them all.
    """
    entries = []
    for start in range(0, len(jobs), batch_size):
        batch = tuple(jobs[start : start + batch_size])
        entries.append(Entry(batch[0].id if len(batch) == 1 else uuid4().hex, batch, queue))
    CeleryPublisher().publish(services().ledger.note_many(entries))
    return entries
