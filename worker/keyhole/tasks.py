"""The tasks: unpack a message, work on it, record. And the way jobs get into messages.

    >>> from keyhole.tasks import scan
    >>> scan.delay("s3://images/debian.qcow2")

Whatever is published through these tasks is noted in the ledger first. `app.send_task` with a task's name
bypasses it; the work is then done all the same, but not found again if the broker loses the message.
"""

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import redis
from amqp import AMQPError  # type: ignore[import-untyped] # kombu's driver; it has no types
from celery import Task
from celery.exceptions import Reject
from celery.result import AsyncResult
from kombu.exceptions import BatchPublishError, OperationalError

from keyhole.app import app
from keyhole.fleet.attempt_pool import HungError
from keyhole.fleet.auditing import AuditWork
from keyhole.fleet.loop_watch import LoopWatchStep
from keyhole.fleet.redis_transport import Channel
from keyhole.fleet.s3_watch import S3WatchStep
from keyhole.fleet.scanning import ScanWork
from keyhole.fleet.services import services
from keyhole.fleet.sweeping import EXPIRES, SweepStep
from keyhole.fleet.tagging import TagWork
from keyhole.intake.audits.audit import AuditSpec, AuditState
from keyhole.intake.audits.store import Claim
from keyhole.intake.dead_letters import Dead
from keyhole.intake.refused import Refused, keep
from keyhole.intake.schedule_runs import ScheduleRuns
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.publisher import DeliveryUncertainError
from keyhole.jobs.queues import HOUSEKEEPING, JOBS
from keyhole.jobs.sweep import Sweeper
from keyhole.scan.report import SCANNER
from keyhole.sources.allowed import BucketNotAllowedError
from keyhole.sources.s3_uri import parse_s3_uri
from keyhole.store.connection import is_outage

log = logging.getLogger(__name__)

#: Workers that Celery lets a message cost. Which job it was, and when it has cost too many, the ledger tells
#: (`keyhole.fleet.entry_runner.MAX_LOST`); this bounds what dies before it comes to that.
MAX_RETRIES = 10
#: The exit code of a process that ends itself because scans hang, or memory ran out.
HUNG_EXIT = 70
#: Seconds until work that Redis failed is tried again.
REDIS_PAUSE = 5.0


class KeptTask(Task):  # type: ignore[misc] # Celery has no types
    """A task whose message is kept as a dead letter if its arguments are none."""

    abstract = True
    Request = "keyhole.fleet.worker_lost:Request"

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:  # noqa: ANN401, ARG002 - Celery's signature
        """Keep the message of a call that was wrong. Other failed work is in the ledger, or is woken.

        Raises:
            Reject: Redis does not take the dead letter; the broker delivers the message again.
        """
        if not isinstance(exc, TypeError | ValueError | BucketNotAllowedError):
            return
        try:
            if not self.is_elsewhere(args):
                keep(services().dead_letters, self._refused(task_id, args, kwargs), self._why(exc))
        except redis.RedisError as error:
            log.warning("a message of %s is put back into its queue, for Redis fails: %s", self.name, error)
            time.sleep(REDIS_PAUSE)
            raise Reject(str(error), requeue=True) from error

    def _refused(self, task_id: str, args: Any, kwargs: Any) -> Refused:  # noqa: ANN401 - as above
        queue = str((self.request.delivery_info or {}).get("routing_key", ""))
        body = json.dumps([args, kwargs, {}], default=repr).encode()
        headers = {"lang": "py", "task": self.name, "id": task_id, "root_id": task_id}
        properties = {"content_type": "application/json", "content_encoding": "utf-8"}
        return Refused(queue, body, headers, properties)

    def _why(self, exc: Exception) -> str:
        return f"{self.name} cannot be called with its arguments: {str(exc).splitlines()[0]}"

    def is_elsewhere(self, args: Any) -> bool:  # noqa: ANN401, ARG002 - as above
        """Whether somebody else looks after the work that these arguments ask for."""
        return False


class LedgerTask(KeptTask):
    """A task whose work is noted in the ledger before it is published, however it is published."""

    abstract = True
    max_retries = MAX_RETRIES
    # A countdown would lie in a worker's memory.
    default_retry_delay = 0

    def entry(self, args: Sequence[Any], task_id: str, queue: str) -> Entry:
        """The ledger's entry for the arguments of a call."""
        raise NotImplementedError

    def is_elsewhere(self, args: Any) -> bool:  # noqa: ANN401 - as above
        """Whether the entry is in the ledger, from where it is sent again."""
        try:
            return services().ledger.is_open(ENTRY.validate_python(args[0]).id)
        except (ValueError, TypeError, IndexError, KeyError):
            return False

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
            BucketNotAllowedError: An object is in a bucket that Keyhole may not touch.
            DeliveryUncertainError: The broker failed; the ledger has the work.
        """
        arguments = [*(args or ()), *(kwargs or {}).values()]
        queue = str(options.pop("queue", None) or JOBS)
        if len(arguments) == 1 and isinstance(arguments[0], dict):
            entry: Entry = ENTRY.validate_python(arguments[0])  # its own message, as Celery sends it again
        else:
            entry = self.entry(arguments, task_id or uuid4().hex, queue)
        check_buckets(entry.jobs)
        if not services().ledger.record(entry):
            return self.AsyncResult(entry.id)
        return self.publish(entry, **options)

    def publish(self, entry: Entry, **options: Any) -> AsyncResult:  # noqa: ANN401 - whatever Celery takes
        """Publish an entry that is noted already."""
        message = ENTRY.dump_python(entry, mode="json", exclude_none=True)
        try:
            return super().apply_async([message], {}, task_id=entry.id, **{"queue": entry.queue, **options})
        except (OperationalError, AMQPError) as error:
            raise DeliveryUncertainError(f"the broker did not take the job: {error}") from error

    def work_on(self, message: dict[str, Any]) -> None:
        """Work on what a message says.

        Raises:
            ValueError: The message is no job of this version's.
        """
        entry: Entry = ENTRY.validate_python(message)
        if entry.audit is not None and services().audits.state(entry.audit) is AuditState.CANCELLED:
            services().audits.finish(entry.audit, entry.part_of or entry.id)
            # A batch that was split has no message of its own: the first of its parts strikes it.
            whole = None if entry.part_of is None else services().ledger.get(entry.part_of)
            if whole is not None:
                services().ledger.complete(whole)
            services().ledger.complete(entry)
            return
        try:
            work = ScanWork(services())
            work.refuse_other_buckets(entry)
            CeleryPublisher().publish(work.runner().run(entry))
        except (HungError, MemoryError) as error:
            # Threads cannot be ended; a process can. Celery delivers the message again, and what did not end
            # is noted as started, so that it goes on alone.
            log.critical("%s: this process ends itself", str(error) or "memory ran out")
            os._exit(HUNG_EXIT)
        except redis.RedisError as error:
            if not is_outage(error):
                raise
            log.warning("entry %s is put back into its queue, for Redis fails: %s", entry.id, error)
            time.sleep(REDIS_PAUSE)
            raise Reject(str(error), requeue=True) from error
        except DeliveryUncertainError as error:
            log.warning("what is left of entry %s is sent by the next sweep: %s", entry.id, error)
        if entry.audit is not None:
            audit_work().advance(entry.audit)


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


@app.task(base=KeptTask, name="keyhole.audit_page", default_retry_delay=0)  # type: ignore[untyped-decorator] # as above
def audit_page(audit_id: str, page: int, token: str) -> None:
    """List the next page of an audit, and publish the batches that are cut from it."""
    audit_work().list_page(Claim(audit_id, page, token))


@app.task(  # type: ignore[untyped-decorator] # as above
    bind=True,
    base=KeptTask,
    name="keyhole.audit_due",
    autoretry_for=(redis.RedisError,),
    max_retries=MAX_RETRIES,
    default_retry_delay=0,
)
def audit_due(self: Task, name: str, spec: dict[str, Any]) -> None:
    """Begin the audit of a schedule that is due, unless the last one that it began still goes on."""
    # The same message has the same id, and so its audit.
    audit_id = self.request.id.replace("-", "")[:12]
    audit = AuditSpec.model_validate(spec)
    services().buckets.check(audit.bucket)
    if ScheduleRuns(services().redis).begin(
        name, audit_id, audit, ruleset=services().ruleset, scanner=SCANNER
    ):
        audit_work().begin(audit, audit_id)
    else:
        log.info("schedule %s is due, and skipped: the last audit that it began still goes on", name)


@app.task(name="keyhole.sweep", default_retry_delay=0)  # type: ignore[untyped-decorator] # as above
def sweep() -> None:
    """Send again what the broker lost, wake audits at rest, and have tags written that are owed."""
    sweeper = Sweeper(
        services().ledger,
        CeleryPublisher(),
        waiting,
        give_up,
        services().settings.resend_seconds,
    )
    restore_overdue()
    sweeper.sweep()
    for audit_id in services().audits.running():
        try:
            audit_work().resume(audit_id)
        except Exception:
            # One that a later version wrote, say, holds up no other.
            log.exception("audit %s cannot be woken", audit_id)
    for _ in range(TagWork(services()).tasks_to_send(lambda: waiting(HOUSEKEEPING))):
        owed_tags.apply_async(queue=HOUSEKEEPING, expires=EXPIRES)


@app.task(name="keyhole.owed_tags", default_retry_delay=0)  # type: ignore[untyped-decorator] # as above
def owed_tags() -> None:
    """Write tags that are owed and due."""
    TagWork(services()).write_due()


class CeleryPublisher:
    """Publishes entries of the ledger to their queues, many in a round trip; a `jobs.publisher.Publisher`."""

    def publish(self, entries: Sequence[Entry]) -> None:
        """Send entries that are noted in the ledger.

        Raises:
            DeliveryUncertainError: The broker failed; the ledger has them all.
        """
        if not entries:
            return
        try:
            with app.producer_pool.acquire(block=True) as producer, producer.batch():
                for entry in entries:
                    task = scan if len(entry.jobs) == 1 else scan_batch
                    task.publish(entry, producer=producer)
        except (OperationalError, BatchPublishError, AMQPError) as error:
            raise DeliveryUncertainError(
                f"the broker failed while jobs were on their way: {error}"
            ) from error


def waiting(queue: str) -> int:
    """How many messages wait in a queue.

    It is declared as it is, and so told of: where keys have a prefix, kombu's Redis finds no queue passively.
    """
    with _channel() as channel:
        return int(app.amqp.queues[queue].bind(channel).queue_declare().message_count)


def restore_overdue() -> None:
    """Have a Redis deliver again what was not acknowledged in time. Other brokers do so by themselves."""
    with _channel() as channel:
        if isinstance(channel, Channel):
            channel.qos.restore_overdue()


@contextmanager
def _channel() -> Iterator[Any]:  # kombu has no types
    """Open a channel. Connect first: a publisher that failed has left a closed connection in the pool."""
    with app.connection_or_acquire() as connection:
        connection.connect()
        with connection.channel() as channel:
            yield channel


def give_up(entry: Entry, reason: str) -> None:
    """What is to follow when an entry is sent again no more."""
    log.error("entry %s: %s", entry.id, reason)
    if entry.audit is not None:
        audit_work().give_up(entry)
        return
    ledger = services().ledger
    left = tuple(job for job in entry.jobs if not ledger.job_done(job.id))
    if left:
        services().dead_letters.add(Dead.entry(replace(entry, jobs=left, part_of=None), reason))
    if entry.part_of is not None:
        # The entry that it is a part of need not wait for it.
        for job in left:
            ledger.mark_done(job.id)
        ScanWork(services()).runner().close(entry)


def audit_work() -> AuditWork:
    """The work on audits, with this process's services and broker."""
    return AuditWork(services(), ScanWork(services()), CeleryPublisher(), _publish_page)


def _publish_page(claim: Claim) -> None:
    try:
        audit_page.apply_async(claim, queue=HOUSEKEEPING)
    except (OperationalError, AMQPError) as error:
        services().audits.release(claim)
        raise DeliveryUncertainError(
            f"the broker did not take a page of audit {claim.audit_id}: {error}"
        ) from error


def check_buckets(jobs: Sequence[ScanJob]) -> None:
    """Refuse jobs in buckets that Keyhole may not touch.

    Raises:
        BucketNotAllowedError: There is one.
    """
    for bucket in {job.bucket for job in jobs}:
        services().buckets.check(bucket)


def submit(jobs: Sequence[ScanJob], *, batch_size: int, queue: str = JOBS) -> list[Entry]:
    """Note jobs in the ledger and publish them, in messages of up to `batch_size` jobs.

    Returns:
        The entries, one a message. An entry's id is that of its only job, or one of its own.

    Raises:
        BucketNotAllowedError: An object is in a bucket that Keyhole may not touch; no job was noted.
        DeliveryUncertainError: The broker failed; the ledger has them all.
    """
    check_buckets(jobs)
    entries = []
    for start in range(0, len(jobs), batch_size):
        batch = tuple(jobs[start : start + batch_size])
        entries.append(Entry(batch[0].id if len(batch) == 1 else uuid4().hex, batch, queue))
    CeleryPublisher().publish(services().ledger.record_many(entries))
    return entries


app.steps["worker"].add(LoopWatchStep)
app.steps["consumer"].add(SweepStep)
app.steps["consumer"].add(S3WatchStep)
