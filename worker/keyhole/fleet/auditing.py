"""Does the work on audits: starts an audit, lists its pages, publishes its batches and resumes it.

An audit lists its bucket in pages of objects, and publishes the objects to scan in batches. No task waits for
other tasks, because a waiting task would occupy a worker. The task that lists a page ends as soon as it has
published the page's batches. If the page has no batches, because its objects are unchanged, the task
continues with the next page. Whenever a worker finishes a batch, it publishes the task for the next page if
few batches are left. If the worker is lost before that, nobody publishes the next page. So the sweep, which
runs every few seconds, calls `resume` for every running audit.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from keyhole.errors import KeyholeError
from keyhole.fleet.inventory_folder import INVENTORIES, forget_inventories
from keyhole.fleet.observing import page_committed, request_failed, verdict_recorded
from keyhole.fleet.scanning import ScanWork
from keyhole.fleet.services import Services
from keyhole.intake.audits.audit import Audit, AuditSpec, AuditState
from keyhole.intake.audits.batches import page_size
from keyhole.intake.audits.page import Auditor
from keyhole.intake.audits.records import Claim, PageResult, Place
from keyhole.intake.listing import Lister, lister_for
from keyhole.jobs.entry import Entry
from keyhole.jobs.publisher import DeliveryUncertainError, Publisher
from keyhole.jobs.rate_limit import RateLimiter
from keyhole.reasons import Reason
from keyhole.results.tag_check import TagCheck
from keyhole.scan.report import SCANNER, Report
from keyhole.scan.reporter import Target, failure
from keyhole.sources.allowed import BucketNotAllowedError
from keyhole.sources.errors import SourceError, TransientError
from keyhole.sources.s3_uri import parse_s3_uri
from keyhole.tracing.tracer import tracer

log = logging.getLogger(__name__)

#: The maximum number of times that workers begin to list the same page. If that many workers were lost while
#: they listed the page, the page itself is probably the cause, and the audit fails.
MAX_STARTS = 10
#: A task begins no further page after this many seconds, so that it does not delay other tasks of its queue.
TASK_SECONDS = 5.0
#: While a task reads tags, it renews its claim to the page after this many seconds.
HOLD_SECONDS = 10.0


class AuditWork:
    """Does the steps of audits.

    Args:
        services: The services of this process.
        scan_work: Records verdicts.
        publisher: Publishes batches.
        publish_page: Publishes the task that lists a page.
    """

    def __init__(
        self,
        services: Services,
        scan_work: ScanWork,
        publisher: Publisher,
        publish_page: Callable[[Claim], None],
    ) -> None:
        self._services = services
        self._scan_work = scan_work
        self._publisher = publisher
        self._publish_page = publish_page

    def begin(self, spec: AuditSpec, audit_id: str | None = None) -> str:
        """Start an audit and return its id. If an audit with this id exists already, continue that audit.

        Raises:
            BucketNotAllowedError: The settings do not allow the bucket of the audit or of its inventory.
        """
        audit_id = audit_id or uuid4().hex[:12]
        services = self._services
        services.buckets.check(spec.bucket)
        if spec.inventory is not None:
            services.buckets.check(parse_s3_uri(spec.inventory).bucket)
        services.audits.create(audit_id, spec, ruleset=services.ruleset, scanner=SCANNER)
        self.advance(audit_id)
        return audit_id

    def advance(self, audit_id: str) -> None:
        """Publish the batches that are not published yet.

        If few batches are left, also publish the task for the next page.
        """
        began = time.time_ns()
        batches = self._services.audits.take(audit_id)
        self._publish(batches)
        for batch in batches:
            tracer().published(batch.jobs, batch.queue, began)
        claim = self._services.audits.claim(audit_id, uuid4().hex)
        if claim is not None:
            self._publish_page(claim)

    def list_pages(self, claim: Claim) -> None:
        """List the page of a claim, and publish its batches. If it has no batches, list the next page.

        A claim is the right of one task to list pages, one after the other. It expires if the task does not
        renew it.
        """
        until = time.monotonic() + TASK_SECONDS
        while (held := self._services.audits.hold(claim)) is not None:
            if held.page != claim.page:
                # A lost worker had committed the page, and the broker delivered its message again. `advance`
                # publishes the page's batches, and claims the next page if it can be listed now.
                self._services.audits.release(held)
                self.advance(held.audit_id)
                return
            if not self._list_page(claim, until):
                return
            claim = claim._replace(page=claim.page + 1)

    def _list_page(self, claim: Claim, until: float) -> bool:
        """List a page, and publish its batches; return whether the task must list the next page.

        If not, the claim is released, or the sweep resumes the audit when the claim has expired.
        """
        services = self._services
        audit = services.audits.get(claim.audit_id)
        place = services.audits.place(claim.audit_id)
        if audit is None or audit.state is not AuditState.RUNNING or place.page != claim.page:
            services.audits.release(claim)
            return False
        if services.audits.count_start(audit.id) > MAX_STARTS:
            reason = f"page {claim.page} was started {MAX_STARTS} times, and its worker was lost each time"
            self._fail(claim, reason)
            return False
        services.audits.record_rules(audit.id, ruleset=services.ruleset, scanner=SCANNER)
        processed = self._processed(claim, audit, place)
        if processed is None:
            return False
        result, reports = processed
        committed = self._commit(claim, result, reports)
        if committed and not result.batches and result.cursor is not None and time.monotonic() < until:
            return True
        if audit.spec.inventory is not None and result.cursor is None:
            forget_inventories(INVENTORIES, services.audits.get)
        services.audits.release(claim)
        self.advance(audit.id)
        return False

    def _processed(
        self, claim: Claim, audit: Audit, place: Place
    ) -> tuple[PageResult, tuple[Report, ...]] | None:
        """Return the result of a page, as `Auditor.process` does; `None` if the page cannot be listed now."""
        services = self._services
        if not services.buckets.allow(audit.spec.bucket):
            self._fail(claim, str(BucketNotAllowedError(audit.spec.bucket)))
            return None
        if audit.spec.fix_tags and "tags" not in services.settings.sinks:
            reason = "the audit must correct tags, but KEYHOLE_SINKS of the workers does not include tags"
            self._fail(claim, reason)
            return None
        rate_limiter = RateLimiter(
            services.redis, audit.spec.bucket, audit.spec.rate, heartbeat=lambda: services.audits.hold(claim)
        )
        try:
            lister = lister_of(services, audit.spec, INVENTORIES / audit.id)
            rate_limiter()
            with _failures_counted():
                return self._auditor(claim, audit.spec, rate_limiter).process(audit, place, lister)
        except TransientError as error:
            log.warning("audit %s does not advance: %s", audit.id, error)
            services.audits.record_trouble(audit.id, f"{error}; Keyhole will try again")
            # The claim is not released. When it has expired, the sweep resumes the audit.
        except (KeyholeError, ValueError) as error:
            self._fail(claim, str(error))
        return None

    def _commit(self, claim: Claim, result: PageResult, reports: Sequence[Report]) -> bool:
        """Write the verdicts on the archived objects of a page, and commit the page.

        Return false if the page was already committed, or if the audit has ended.
        """
        services = self._services
        job_id = f"{claim.audit_id}-{claim.page}-archived"
        to_redis = reports if "redis" in services.settings.sinks else ()
        for report in reports:
            self._scan_work.record_unscanned(report, job_id)
        if not services.audits.commit(claim, result):
            return False
        page_committed(result)
        for report in to_redis:
            verdict_recorded(services, report, job_id=job_id, audit_id=claim.audit_id)
        return True

    def resume(self, audit_id: str) -> None:
        """Do the steps of an audit that a lost worker has left undone."""
        services = self._services
        for batch in services.audits.outstanding(audit_id):
            # Call `is_open` before `is_done`. In the reverse order, both would return false if a worker
            # completed the entry between the two calls. Keyhole would then conclude that the ledger has lost
            # the entry.
            if not services.ledger.is_open(batch.id):
                if services.ledger.is_done(batch.id):
                    services.audits.finish(audit_id, batch.id)
                else:
                    self._publish(services.ledger.record_many([batch]))
        self.advance(audit_id)

    def give_up(self, batch: Entry) -> None:
        """Record the verdict `failed` for each job of a batch that has no verdict yet; advance the audit."""
        services = self._services
        audit_id = str(batch.audit)
        for job in batch.jobs:
            if not services.ledger.job_done(job.id):
                target = Target(f"s3://{job.bucket}/{job.key}", job.bucket, job.key, job.version_id)
                message = "its batch was sent again several times, and no worker finished it"
                report = failure(target, Reason.WORKER_LOST, message)
                self._scan_work.record(batch, job, report)
                services.ledger.mark_done(job.id)
                self._scan_work.on_verdict(batch, job, report)
        # All verdicts of the batch are written now, so close it. If the broker delivers the batch's message
        # later, the worker then finds nothing to do.
        self._scan_work.runner().close(batch)
        self.advance(audit_id)

    def _fail(self, claim: Claim, reason: str) -> None:
        log.warning("audit %s fails: %s", claim.audit_id, reason)
        self._services.audits.set_state(claim.audit_id, AuditState.FAILED, reason)
        self._services.audits.release(claim)

    def _publish(self, batches: Sequence[Entry]) -> None:
        if not batches:
            return
        try:
            self._publisher.publish(batches)
        except DeliveryUncertainError as error:
            # The ledger contains the batches. The sweep sends them again if the broker lost them.
            log.warning("batches may not have reached the broker: %s", error)

    def _auditor(self, claim: Claim, spec: AuditSpec, rate_limiter: RateLimiter) -> Auditor:
        services = self._services
        held_at = time.monotonic()

        def turn() -> None:
            """Wait for the rate limit. Renew the claim, because S3 can answer slowly."""
            nonlocal held_at
            rate_limiter()
            if time.monotonic() > held_at + HOLD_SECONDS:
                held_at = time.monotonic()
                services.audits.hold(claim)

        tags = "tags" in services.settings.sinks
        check = TagCheck(
            services.s3.client,
            expected=tags,
            threads=services.settings.scan_threads,
            owner_tag=spec.owner_tag,
            rate_limiter=turn,
            failed=request_failed,
        )
        return Auditor(services.lookup, services.prices, check, services.ruleset, tags)


@contextmanager
def _failures_counted() -> Iterator[None]:
    """Count the failed request to S3 because of which the page in the `with` block cannot be listed."""
    try:
        yield
    except SourceError as error:
        request_failed(error.reason)
        raise


def lister_of(services: Services, spec: AuditSpec, folder: Path) -> Lister:
    """Return the lister of an audit's objects. It stores downloaded parts of an inventory in `folder`.

    Raises:
        KeyholeError: The objects cannot be listed.
    """
    client = services.s3.client
    if spec.inventory is None:
        return lister_for(client, spec.bucket, spec.prefix, versions=spec.versions, page_size=page_size(spec))
    from keyhole.intake.inventory.lister import InventoryLister  # noqa: PLC0415 - few audits use an inventory

    return InventoryLister(
        client,
        parse_s3_uri(spec.inventory),
        folder,
        bucket=spec.bucket,
        prefix=spec.prefix,
        versions=spec.versions,
        page_size=page_size(spec),
    )
