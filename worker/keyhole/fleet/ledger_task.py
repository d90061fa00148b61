"""The base classes of Keyhole's Celery tasks.

The ledger is the record in Redis of all accepted work that is not done yet (see `keyhole.jobs.ledger`, which
also has a glossary). `LedgerTask` records work in the ledger before it publishes a message. If the broker
then loses the message, the sweep, which runs every few seconds, sends it again. `KeptTask` stores invalid
messages as dead letters.
"""

import inspect
import json
import logging
import os
import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

import redis
from amqp import AMQPError  # type: ignore[import-untyped] # kombu's driver; it has no types
from celery import Task
from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from keyhole import versions
from keyhole.fleet import wiring
from keyhole.fleet.attempt_pool import HungError
from keyhole.fleet.queued_scan import QueuedScan
from keyhole.fleet.scanning import ScanWork
from keyhole.fleet.services import services
from keyhole.intake.audits.audit import AuditState
from keyhole.intake.refused import Refused, keep
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.message_age import age_of
from keyhole.jobs.newer import NewerWork
from keyhole.jobs.publisher import DeliveryUncertainError
from keyhole.jobs.queues import JOBS
from keyhole.metrics.recorder import recorder
from keyhole.sources.allowed import BucketNotAllowedError
from keyhole.sources.s3_uri import parse_object_uri
from keyhole.store.connection import is_outage
from keyhole.tracing.tracer import tracer

log = logging.getLogger(__name__)

#: After this many workers were lost while they worked on a message, Celery gives up the message. If a job
#: kills its workers, Keyhole usually gives up the job earlier (`keyhole.fleet.entry_runner.MAX_LOST`). This
#: limit is for messages whose workers die before they record an attempt in the ledger.
MAX_RETRIES: Final = 10
#: The exit code of a process that ends itself because scans hang, or because memory ran out.
HUNG_EXIT: Final = 70
#: Seconds that a task waits after Redis failed, before it returns its message to the queue.
REDIS_PAUSE: Final = 5.0


class KeptTask(Task):  # type: ignore[misc] # Celery has no types
    """A task that stores its message as a dead letter if the arguments are invalid."""

    abstract = True
    Request = "keyhole.fleet.worker_lost:Request"

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:  # noqa: ANN401, ARG002 - Celery's signature
        """Store a message with invalid arguments as a dead letter.

        After other failures, the sweep sends the work again.

        Raises:
            Reject: Redis did not store the dead letter, so the broker must deliver the message again.
        """
        if not isinstance(exc, TypeError | ValueError | BucketNotAllowedError):
            return
        try:
            if not self.is_elsewhere(args):
                keep(services().dead_letters, self._refused(task_id, args, kwargs), self._why(exc))
        except redis.RedisError as error:
            log.warning(
                "a message for %s is returned to its queue, because Redis failed: %s", self.name, error
            )
            time.sleep(REDIS_PAUSE)
            raise Reject(str(error), requeue=True) from error

    def _refused(self, task_id: str, args: Any, kwargs: Any) -> Refused:  # noqa: ANN401 - as above
        queue = str((self.request.delivery_info or {}).get("routing_key", ""))
        body = json.dumps([args, kwargs, {}], default=repr).encode()
        headers = {"lang": "py", "task": self.name, "id": task_id, "root_id": task_id}
        properties = {"content_type": "application/json", "content_encoding": "utf-8"}
        return Refused(queue, body, headers, properties)

    def _why(self, exc: Exception) -> str:
        if isinstance(exc, ValueError):
            return f"{self.name} cannot be called with its arguments: {versions.why_unreadable(exc)}"
        return f"{self.name} cannot be called with its arguments: {str(exc).splitlines()[0]}"

    def is_elsewhere(self, args: Any) -> bool:  # noqa: ANN401, ARG002 - as above
        """Return whether the ledger contains the work that these arguments describe.

        If the ledger contains the work, the message needs no dead letter. This class uses no ledger, so this
        method returns false.
        """
        return False


class LedgerTask(KeptTask):
    """A task that records its work in the ledger before it publishes a message.

    `delay`, signatures and Celery's retries all call `apply_async`, which records the work. `app.send_task`
    does not call `apply_async`, and bypasses the ledger.
    """

    abstract = True
    max_retries = MAX_RETRIES
    # A retry is published without a delay: a worker would hold a delayed message in its memory.
    default_retry_delay = 0

    def entry(self, args: Sequence[Any], task_id: str, queue: str) -> Entry:
        """Return the ledger entry for the arguments of a call."""
        raise NotImplementedError

    def is_elsewhere(self, args: Any) -> bool:  # noqa: ANN401 - as above
        """Return whether the ledger contains the entry, and the entry is open.

        If so, the message needs no dead letter: the sweep sends the entry again.
        """
        try:
            return services().ledger.is_open(ENTRY.validate_python(args[0]).id)
        except (ValueError, TypeError, IndexError, KeyError):
            return False

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        task_id: str | None = None,
        **options: Any,  # noqa: ANN401 - Celery's options have many types
    ) -> QueuedScan:
        """Record the work in the ledger, then publish it. Work that is done already is not published again.

        Raises:
            TypeError: The task has no such arguments.
            ValueError: The arguments do not describe a job.
            BucketNotAllowedError: The settings do not allow the bucket of an object.
            DeliveryUncertainError: The broker failed. The ledger contains the work, and the sweep publishes
                it again.
        """
        queue = str(options.pop("queue", None) or JOBS)
        if args and isinstance(args[0], dict):
            # Celery is sending an earlier message again. The argument of that message is an entry.
            entry: Entry = ENTRY.validate_python(args[0])
        else:
            call = inspect.signature(self.delay).bind(*(args or ()), **(kwargs or {}))
            entry = self.entry(call.args, task_id or uuid4().hex, queue)
        check_buckets(entry.jobs)
        if not services().ledger.record(entry):
            return QueuedScan(entry, self.app)
        return self.publish(entry, **options)

    def publish(self, entry: Entry, **options: Any) -> QueuedScan:  # noqa: ANN401 - as above
        """Publish an entry that the ledger contains already.

        Raises:
            DeliveryUncertainError: The broker failed. The sweep publishes the entry again.
        """
        message = ENTRY.dump_python(entry, mode="json", exclude_none=True)
        try:
            super().apply_async([message], {}, task_id=entry.id, **{"queue": entry.queue, **options})
        except (OperationalError, AMQPError) as error:
            raise DeliveryUncertainError(f"the broker did not accept the job: {error}") from error
        return QueuedScan(entry, self.app)

    def _left_to_newer(self, version: int) -> bool:
        """Leave this task's message, which is of a later version, to newer workers.

        Returns:
            False if the ledger does not know the work, so that it must become a dead letter.
        """
        queue = str((self.request.delivery_info or {}).get("routing_key", ""))
        if not NewerWork(services().redis).leave(self.request.id, queue):
            return False
        why = versions.later(version, versions.ENTRY)
        log.warning("entry %s is left to newer workers: %s", self.request.id, why)
        return True

    def work_on(self, message: dict[str, Any]) -> None:
        """Work on the entry that a message contains.

        Raises:
            ValueError: The message contains no entry, or this version cannot read the entry.
            Reject: Redis failed, so the broker must deliver the message again.
        """
        if versions.stated(message) > versions.ENTRY and self._left_to_newer(versions.stated(message)):
            return
        entry: Entry = ENTRY.validate_python(message)
        waited = age_of(self.request.__dict__, time.time())
        if waited is not None:
            recorder().waited(waited)
        if entry.audit is not None and services().audits.state(entry.audit) is AuditState.CANCELLED:
            services().audits.finish(entry.audit, entry.part_of or entry.id)
            # This entry can be a part of a split batch. No message contains the batch itself, so complete the
            # batch together with the first of its parts.
            whole = None if entry.part_of is None else services().ledger.get(entry.part_of)
            if whole is not None:
                services().ledger.complete(whole)
            services().ledger.complete(entry)
            return
        try:
            work = ScanWork(services())
            work.refuse_other_buckets(entry)
            wiring.CeleryPublisher(self.app).publish(self._run(work, entry))
        except (HungError, MemoryError) as error:
            # Python cannot end a thread, so end the process. Celery then publishes the message again. The
            # attempts that did not end are still recorded as started in the ledger. So each of their jobs
            # becomes a separate entry.
            log.critical("%s: this process ends itself", str(error) or "memory ran out")
            os._exit(HUNG_EXIT)
        except redis.RedisError as error:
            if not is_outage(error):
                raise
            log.warning("entry %s is returned to its queue, because Redis failed: %s", entry.id, error)
            time.sleep(REDIS_PAUSE)
            raise Reject(str(error), requeue=True) from error
        except DeliveryUncertainError as error:
            log.warning("the next sweep will send the rest of entry %s: %s", entry.id, error)
        if entry.audit is not None:
            wiring.audit_work(self.app).advance(entry.audit)

    def _run(self, work: ScanWork, entry: Entry) -> list[Entry]:
        """Work on an entry, and return the entries to publish."""
        if not tracer().traces:
            return work.runner().run(entry)
        with tracer().message(entry.id, self.request.__dict__):
            return work.runner().run(entry)


class ScanTask(LedgerTask):
    """The task `keyhole.scan`, which scans one object."""

    abstract = True

    def delay(self, uri: str | ScanJob, version_id: str | None = None) -> QueuedScan:
        """Queue the scan of one object in S3, and return its job.

        >>> from keyhole.tasks import scan
        >>> job = scan.delay("s3://images/debian.qcow2")
        >>> job.ready()
        False

        `job.get()` waits for the verdict and returns its status, and `job.report()` the report. To wait for
        many jobs, use `keyhole.wait`. To choose a queue or an id, use `apply_async((uri,), queue=…)`.

        Args:
            uri: `s3://bucket/key`, or a job.
            version_id: The version of the object; by default the current version.

        Raises:
            ValueError: The URI does not name an object.
            BucketNotAllowedError: The settings do not allow the bucket.
            DeliveryUncertainError: The broker failed. The ledger contains the job, and the sweep publishes
                it.
            redis.RedisError: Redis failed, so the job may not be recorded.
        """
        return self.apply_async((uri,) if version_id is None else (uri, version_id))

    def entry(self, args: Sequence[Any], task_id: str, queue: str) -> Entry:
        """Return an entry with one job. The arguments are a URI, a URI and a version id, or a `ScanJob`."""
        if isinstance(args[0], ScanJob):
            if len(args) > 1 and args[1] is not None:
                raise ValueError("a ScanJob names its version itself; pass ScanJob(…, version_id=…)")
            return Entry(args[0].id, (args[0],), queue)
        bucket, key = parse_object_uri(args[0])
        version_id = args[1] if len(args) > 1 else None
        return Entry(task_id, (ScanJob(id=task_id, bucket=bucket, key=key, version_id=version_id),), queue)


class ScanBatchTask(LedgerTask):
    """The task `keyhole.scan_batch`, which scans many objects."""

    abstract = True

    def delay(self, objects: Sequence[str | ScanJob]) -> QueuedScan:
        """Queue the scan of many objects as one message, and return the batch.

        >>> from keyhole.tasks import scan_batch
        >>> batch = scan_batch.delay(["s3://images/a.vmdk", "s3://images/b.vmdk"])
        >>> batch.ready()
        False

        To wait for the verdicts, use `keyhole.wait([batch])`. The errors are those of `ScanTask.delay`.

        Args:
            objects: The URIs of the objects, or jobs.
        """
        return self.apply_async((objects,))

    def entry(self, args: Sequence[Any], task_id: str, queue: str) -> Entry:
        """Return an entry with many jobs. The argument is a sequence of `ScanJob`s or URIs."""
        if isinstance(args[0], str):
            raise TypeError("str is one object; pass a list of URIs, or use keyhole.tasks.scan")
        jobs = []
        for number, job in enumerate(args[0]):
            if isinstance(job, str):
                bucket, key = parse_object_uri(job)
                jobs.append(ScanJob(id=f"{task_id}-{number}", bucket=bucket, key=key))
            else:
                jobs.append(ScanJob.model_validate(job))
        return Entry(task_id, tuple(jobs), queue)


def check_buckets(jobs: Sequence[ScanJob]) -> None:
    """Check that the settings allow the buckets of all jobs.

    Raises:
        BucketNotAllowedError: The settings do not allow the bucket of a job.
    """
    for bucket in {job.bucket for job in jobs}:
        services().buckets.check(bucket)
