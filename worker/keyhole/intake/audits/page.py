"""Processes one page of an audit: lists objects, finds those that need a scan, and divides them into batches.

This module computes the result of a page, but does not change the audit in Redis. `AuditStore.commit` stores
the result in Redis.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from keyhole.intake.audits.audit import Audit, AuditSpec, AuditState, BucketFinding, How
from keyhole.intake.audits.costs import (
    BYTES_PER_OBJECT,
    GETS_PER_OBJECT,
    NOTHING,
    Cost,
    cost_of_comparisons,
    cost_of_listing,
    expected_cost,
)
from keyhole.intake.audits.decision import decide
from keyhole.intake.audits.orphans import KeyRange, Orphans, find_orphans
from keyhole.intake.audits.prices import Prices
from keyhole.intake.audits.records import NANO, PageResult, Place, Row, counted_status
from keyhole.intake.listing import PAGE_KEYS, Listed, Lister
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import AUDITS
from keyhole.reasons import Reason, Status, not_an_image
from keyhole.results.lookup import Lookup, Stored
from keyhole.results.tag_check import TagFinding
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target, build_report
from keyhole.store import keys

#: The longest message of a batch, in bytes. Every broker allows at least 256 KiB; SQS has the smallest limit.
#: A job rarely has more than 300 bytes, so a message has room for more than 600 jobs.
MESSAGE_BYTES: Final = 200_000
#: If an audit has a rate limit, its pages and batches are so small that the requests of one page or one batch
#: take at most about this many seconds. This time is much shorter than the time limit of a task.
RATE_LIMITED_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Auditor:
    """Processes the pages of audits.

    Args:
        lookup: The stored verdicts.
        prices: The prices of requests.
        check_tags: Compares the tags of several objects with their verdicts.
        ruleset: The id of the current rules.
        tags: Whether workers also write verdicts as tags.
    """

    lookup: Lookup
    prices: Prices
    check_tags: Callable[[Sequence[Report]], Sequence[TagFinding]]
    ruleset: str
    tags: bool

    def process(self, audit: Audit, place: Place, lister: Lister) -> tuple[PageResult, tuple[Report, ...]]:
        """Return the result of a page, and new verdicts on archived objects, which cannot be scanned.

        Raises:
            KeyholeError: The page cannot be listed.
        """
        work = _Page(
            audit, place.page, expected_cost(self.prices, "STANDARD", BYTES_PER_OBJECT, tags=self.tags)
        )
        ending = work.limit_reached(cost_of_listing(self.prices, 1, by_gets=lister.by_gets))
        if ending is not None:
            return work.result(None, None, *ending), ()
        began = datetime.now(UTC)
        page = lister.page(place.cursor)
        work.counts["lists"] += page.requests
        work.spend(cost_of_listing(self.prices, page.requests, by_gets=lister.by_gets))
        ids = [keys.object_id(audit.spec.bucket, listed.key, listed.version_id) for listed in page.objects]
        stored = self.lookup.stored_by_id(ids)
        last = page.objects[-1].key if page.objects else None
        orphans = Orphans([], None)
        if lister.ordered and not audit.spec.versions and (last is not None or page.cursor is None):
            until = last if page.cursor is not None else None
            listed_keys = frozenset(listed.key for listed in page.objects)
            # Do not count keys that are before the range. If the page had too many orphans for one result, it
            # is listed again, and its first keys are then before the range.
            verdicts = sum(
                verdict is not None and (place.after is None or listed.key > place.after)
                for listed, verdict in zip(page.objects, stored, strict=True)
            )
            key_range = KeyRange(audit.spec, place.after, until, listed_keys, verdicts)
            orphans = find_orphans(self.lookup, key_range, began)
            if orphans.until is not None:
                work.findings += orphans.findings
                return work.result(place.cursor or "", orphans.until), ()
        checked: list[Report] = []
        for listed, object_id, verdict in zip(page.objects, ids, stored, strict=True):
            ending = self._sort_object(work, listed, object_id, verdict, checked)
            if ending is not None:
                self._compare_tags(work, checked)
                return work.result(None, None, *ending), tuple(work.reports)
        work.findings += orphans.findings
        self._compare_tags(work, checked)
        return work.result(page.cursor, last), tuple(work.reports)

    def _sort_object(
        self, work: "_Page", listed: Listed, object_id: str, stored: Stored | None, checked: list[Report]
    ) -> tuple[AuditState, str] | None:
        """Add an object to the page: as left out, unchanged, archived, or queued for a scan.

        If the object would exceed a limit of the audit, do not count the object. In this case, return the
        state in which the audit ends, and the reason.
        """
        decision = decide(work.audit.spec, listed, stored, self.ruleset)
        if decision.how is None:
            work.counts["listed"] += 1
            work.counts["left_out"] += 1
            return None
        takes = cost_of_comparisons(self.prices, 1) if decision.compares_tags else NOTHING
        if decision.how is How.SCANNED:
            takes = takes.plus(expected_cost(self.prices, listed.storage_class, listed.size, tags=self.tags))
        ending = work.limit_of_objects_reached() or work.limit_reached(takes)
        if ending is not None:
            return ending
        work.counts["listed"] += 1
        work.counts["listed_bytes"] += listed.size
        if takes.requests:
            work.reserved = work.reserved.plus(takes)
        if decision.compares_tags and stored is not None and stored.report is not None:
            checked.append(stored.report)
        if decision.how is How.SCANNED:
            work.queue(listed)
            return None
        if stored is not None and decision.stands:
            work.take(stored.object_id, stored.status, decision.how, not_an_image=_not_an_image(stored))
        else:  # only an archived object can lack a valid verdict here
            report = _archived(work.audit, listed, self.ruleset)
            work.reports.append(report)
            work.take(object_id, report.status, decision.how)
        return None

    def _compare_tags(self, work: "_Page", checked: Sequence[Report]) -> None:
        for report, finding in zip(checked, self.check_tags(checked), strict=True):
            work.spend(cost_of_comparisons(self.prices, finding.requests))
            if finding.message is not None:
                work.find("tag_mismatch", report, finding.message)


@dataclass(slots=True)
class _Page:
    """A page that is being processed."""

    audit: Audit
    number: int
    #: The assumed cost of one queued object from an earlier page.
    usual: Cost
    #: The expected cost of this page's objects.
    reserved: Cost = NOTHING
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    jobs: list[ScanJob] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    findings: list[BucketFinding] = field(default_factory=list)

    def spend(self, cost: Cost) -> None:
        self.counts["requests"] += cost.requests
        self.counts["nanodollars"] += round(cost.dollars * NANO)

    def take(self, object_id: str, status: Status, how: How, *, not_an_image: bool = False) -> None:
        """Add an object whose verdict is already known."""
        self.counts[how] += 1
        self.counts[f"status:{counted_status(status, not_an_image=not_an_image)}"] += 1
        self.rows.append(Row(object_id, status, how))

    def queue(self, listed: Listed) -> None:
        """Add an object that needs a scan."""
        self.counts["queued"] += 1
        self.jobs.append(
            ScanJob(
                id=f"{self.audit.id}-{self.number}-{len(self.jobs)}",
                bucket=self.audit.spec.bucket,
                key=listed.key,
                version_id=listed.version_id,
                storage_class=None if listed.storage_class == "STANDARD" else listed.storage_class,
            )
        )

    def find(self, kind: str, report: Report, message: str) -> None:
        self.findings.append(BucketFinding.of(kind, report, message))

    def limit_of_objects_reached(self) -> tuple[AuditState, str] | None:
        """Return a state and a reason if the audit has reached its limit of objects.

        The audit then ends in this state. If the audit can continue, return `None`.
        """
        limit, totals = self.audit.spec.limit, self.audit.totals
        if limit is None:
            return None
        taken = sum(
            getattr(totals, how) + self.counts.get(how, 0) for how in ("queued", How.UNCHANGED, How.ARCHIVED)
        )
        return (AuditState.DONE, f"it reached its limit of {limit} objects") if taken >= limit else None

    def limit_reached(self, takes: Cost) -> tuple[AuditState, str] | None:
        """Return a state and a reason if spending `takes` could exceed the limits of the audit.

        The audit then ends in this state. If the audit can continue, return `None`.

        The totals contain the actual costs of scanned objects. For queued objects, this method adds their
        expected costs. For queued objects from earlier pages, Redis stores only their number, not their
        storage classes. So this method assumes that each of these objects needs as many requests as `usual`,
        and costs as many dollars as `usual` or `takes`, whichever is more expensive.
        """
        if not takes.requests:
            return None
        spec, totals = self.audit.spec, self.audit.totals
        coming = totals.queued - totals.scanned
        requests = totals.requests + self.counts.get("requests", 0) + coming * self.usual.requests
        if (
            spec.max_requests is not None
            and requests + self.reserved.requests + takes.requests > spec.max_requests
        ):
            return (
                AuditState.STOPPED,
                f"continuing could exceed the limit of {spec.max_requests} requests",
            )
        dollars = totals.dollars + self.counts.get("nanodollars", 0) / NANO
        dollars += coming * max(self.usual.dollars, takes.dollars)
        if (
            spec.max_dollars is not None
            and dollars + self.reserved.dollars + takes.dollars > spec.max_dollars
        ):
            return AuditState.STOPPED, f"continuing could exceed the limit of ${spec.max_dollars:g}"
        return None

    def result(
        self,
        cursor: str | None,
        after: str | None,
        ends_as: AuditState = AuditState.DONE,
        reason: str = "",
    ) -> PageResult:
        batches = tuple(
            Entry(f"{self.audit.id}-{self.number}-b{number}", tuple(jobs), AUDITS, self.audit.id)
            for number, jobs in enumerate(_batches(self.jobs, batch_size(self.audit)))
        )
        for finding in self.findings:
            self.counts["gone" if finding.kind == "gone" else "tag_mismatches"] += 1
        return PageResult(
            self.counts, batches, tuple(self.rows), tuple(self.findings), cursor, after, ends_as, reason
        )


def page_size(spec: AuditSpec) -> int:
    """Return the maximum number of objects on a page.

    This is 1,000, or less if the audit checks tags and has a low rate limit.
    """
    if not spec.rate or not spec.check_tags:
        return PAGE_KEYS
    return max(1, min(PAGE_KEYS, int(spec.rate * RATE_LIMITED_SECONDS)))


def batch_size(audit: Audit) -> int:
    """Return the maximum number of objects in a batch of an audit."""
    spec = audit.spec
    return jobs_in_batch(spec.batch_size, rate=spec.rate, outstanding=spec.outstanding)


def jobs_in_batch(batch_size: int, *, rate: float, outstanding: int) -> int:
    """Return the maximum number of objects in a batch.

    This is `batch_size`, or less if the audit has a low rate limit.
    """
    if not rate:
        return batch_size
    return max(1, min(batch_size, int(rate * RATE_LIMITED_SECONDS / (GETS_PER_OBJECT * outstanding))))


def _batches(jobs: Sequence[ScanJob], most: int) -> Iterator[list[ScanJob]]:
    """Yield the jobs in their order, in batches.

    A batch has at most `most` jobs and fits into one message.
    """
    batch: list[ScanJob] = []
    size = 0
    for job in jobs:
        length = len(job.model_dump_json(exclude_none=True, ensure_ascii=True))
        if batch and (len(batch) >= most or size + length > MESSAGE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(job)
        size += length
    if batch:
        yield batch


def _not_an_image(stored: Stored) -> bool:
    """Return whether a stored verdict means that the object is certainly not an image."""
    if stored.status is not Status.UNRECOGNIZED:  # the status needs no unpacking of the report
        return False
    report = stored.report
    return report is not None and not_an_image(report.status, report.reasons)


def _archived(audit: Audit, listed: Listed, ruleset: str) -> Report:
    """Return the verdict on an archived object, which must be restored before it can be read."""
    bucket = audit.spec.bucket
    return build_report(
        Target(f"s3://{bucket}/{listed.key}", bucket, listed.key, listed.version_id),
        ruleset,
        etag=listed.etag,
        size=listed.size,
        last_modified=listed.last_modified,
        status=Status.UNREADABLE,
        reasons=(Reason.ARCHIVED,),
        details={"storage_class": listed.storage_class},
    )
