"""The Celery tasks, and the functions that submit jobs.

    >>> from keyhole.tasks import scan
    >>> job = scan.delay("s3://images/debian.qcow2")
    >>> job.get(timeout=60)

`delay` and `apply_async` of the scan tasks record the work in the ledger (`keyhole.jobs.ledger`) before they
publish the message. Do not use `app.send_task`, because it bypasses the ledger. A worker refuses a message
whose argument is the URI of an object. And if the broker loses the message, the work is lost.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

import redis
from celery import Task

from keyhole.app import app
from keyhole.fleet import wiring
from keyhole.fleet.auditing import AuditWork
from keyhole.fleet.ledger_task import MAX_RETRIES, KeptTask, ScanBatchTask, ScanTask, check_buckets
from keyhole.fleet.loop_watch import LoopWatchStep
from keyhole.fleet.presence import PresenceStep
from keyhole.fleet.s3_watch import S3WatchStep
from keyhole.fleet.scanning import ScanWork
from keyhole.fleet.services import services
from keyhole.fleet.sweeping import EXPIRES, SweepStep
from keyhole.fleet.tagging import TagWork
from keyhole.intake.audits.audit import AuditSpec
from keyhole.intake.audits.records import Claim
from keyhole.intake.dead_letters import Dead
from keyhole.intake.schedule_runs import ScheduleRuns
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.publisher import Publisher
from keyhole.jobs.queues import HOUSEKEEPING, JOBS
from keyhole.jobs.sweep import Sweeper
from keyhole.scan.report import SCANNER
from keyhole.tracing.tracer import tracer

log = logging.getLogger(__name__)


@app.task(bind=True, base=ScanTask, name="keyhole.scan", typing=False)  # type: ignore[untyped-decorator] # Celery's
def _scan(self: ScanTask, message: dict[str, Any]) -> None:
    """Scan one object and record its verdict. To queue a scan, call `scan.delay("s3://bucket/key")`."""
    self.work_on(message)


@app.task(bind=True, base=ScanBatchTask, name="keyhole.scan_batch", typing=False)  # type: ignore[untyped-decorator] # as above
def _scan_batch(self: ScanBatchTask, message: dict[str, Any]) -> None:
    """Scan many objects, several at the same time, and record each verdict as soon as it is known."""
    self.work_on(message)


#: The tasks with their types: Celery has none, and to a type checker all that its decorator returns is `Any`.
scan: Final[ScanTask] = _scan
scan_batch: Final[ScanBatchTask] = _scan_batch


@app.task(base=KeptTask, name="keyhole.audit_page", default_retry_delay=0)  # type: ignore[untyped-decorator] # as above
def audit_page(audit_id: str, page: int, token: str) -> None:
    """List the next pages of an audit, until one has batches, and publish these."""
    audit_work().list_pages(Claim(audit_id, page, token))


@app.task(  # type: ignore[untyped-decorator] # as above
    bind=True,
    base=KeptTask,
    name="keyhole.audit_due",
    autoretry_for=(redis.RedisError,),
    max_retries=MAX_RETRIES,
    default_retry_delay=0,
)
def audit_due(self: Task, name: str, spec: dict[str, Any]) -> None:
    """Start the audit of a schedule that is due, unless the schedule's last audit is still running."""
    # The audit's id is derived from the message's id, so a message that is delivered twice starts one audit.
    audit_id = self.request.id.replace("-", "")[:12]
    audit = AuditSpec.model_validate(spec)
    services().buckets.check(audit.bucket)
    if ScheduleRuns(services().redis).begin(
        name, audit_id, audit, ruleset=services().ruleset, scanner=SCANNER
    ):
        audit_work().begin(audit, audit_id)
    else:
        log.info("schedule %s is due, but its last audit is still running, so this run is skipped", name)


@app.task(name="keyhole.sweep", default_retry_delay=0)  # type: ignore[untyped-decorator] # as above
def sweep() -> None:
    """Send lost and due entries again, resume audits, and publish tasks that write the missing tags."""
    sweeper = Sweeper(
        services().ledger,
        publisher(),
        lambda queue: wiring.queue_length(app, queue),
        give_up,
        services().settings.resend_seconds,
    )
    wiring.restore_overdue(app)
    log.debug("the sweep sent %d entries", sweeper.sweep())
    for audit_id in services().audits.running():
        try:
            audit_work().resume(audit_id)
        except Exception:
            # If one audit fails here, for example because a later version recorded it, still resume the other
            # audits.
            log.exception("audit %s cannot be resumed", audit_id)
    for _ in range(TagWork(services()).tasks_to_send(lambda: wiring.queue_length(app, HOUSEKEEPING))):
        owed_tags.apply_async(queue=HOUSEKEEPING, expires=EXPIRES)


@app.task(name="keyhole.owed_tags", default_retry_delay=0)  # type: ignore[untyped-decorator] # as above
def owed_tags() -> None:
    """Write tags that could not be written earlier, if it is time to try again."""
    TagWork(services()).write_due()


def give_up(entry: Entry, reason: str) -> None:
    """Stop retrying an entry of the ledger, and store it as a dead letter.

    If the entry is a batch of an audit, its jobs get the verdict `failed` instead.
    """
    log.error("entry %s: %s", entry.id, reason)
    if entry.audit is not None:
        audit_work().give_up(entry)
        return
    ledger = services().ledger
    left = tuple(job for job in entry.jobs if not ledger.job_done(job.id))
    if left:
        services().dead_letters.add(Dead.entry(replace(entry, jobs=left, part_of=None), reason))
    if entry.part_of is not None:
        # This entry is a part of a split entry. Mark its remaining jobs as done. Otherwise the split entry
        # would stay open after the other parts are complete.
        for job in left:
            ledger.mark_done(job.id)
        ScanWork(services()).runner().close(entry)


def publisher() -> Publisher:
    """Return a publisher for entries of the ledger."""
    return wiring.CeleryPublisher(app)


def audit_work() -> AuditWork:
    """Return an `AuditWork` that uses the services and the broker of this process."""
    return wiring.audit_work(app)


def submit(jobs: Sequence[ScanJob], *, batch_size: int, queue: str = JOBS) -> list[Entry]:
    """Record jobs in the ledger and publish them, in messages of up to `batch_size` jobs.

    Returns:
        The entries, one for each message. An entry with one job has the job's id.

    Raises:
        BucketNotAllowedError: An object is in a bucket that Keyhole may not access; no job was recorded.
        DeliveryUncertainError: The broker failed. All jobs are in the ledger.
    """
    check_buckets(jobs)
    began = time.time_ns()
    entries = []
    for start in range(0, len(jobs), batch_size):
        batch = tuple(jobs[start : start + batch_size])
        entries.append(Entry(batch[0].id if len(batch) == 1 else uuid4().hex, batch, queue))
    publisher().publish(services().ledger.record_many(entries))
    tracer().published(jobs, queue, began)
    return entries


app.steps["worker"].add(LoopWatchStep)
app.steps["consumer"].add(SweepStep)
app.steps["consumer"].add(S3WatchStep)
app.steps["consumer"].add(PresenceStep)
