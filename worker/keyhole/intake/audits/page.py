"""Processes one page of an audit: lists objects, finds those that need a scan, and divides them into batches.

This module computes the result of a page, but does not change the audit in Redis. `AuditStore.commit` stores
the result in Redis.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from keyhole.intake.audits.audit import Audit, AuditSpec, AuditState, BucketFinding, How
from keyhole.intake.audits.batches import batch_size, in_batches
from keyhole.intake.audits.costs import (
    BYTES_PER_OBJECT,
    NOTHING,
    Cost,
    cost_of_comparisons,
    cost_of_listing,
    cost_of_tags,
    expected_cost,
)
from keyhole.intake.audits.decision import Decision, decide
from keyhole.intake.audits.orphans import KeyRange, Orphans, find_orphans
from keyhole.intake.audits.prices import Prices
from keyhole.intake.audits.records import NANO, PageResult, Place, Row, counted_status
from keyhole.intake.listing import Listed, Lister
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import AUDITS
from keyhole.reasons import Reason, Status, not_an_image
from keyhole.results.lookup import Lookup, Stored
from keyhole.results.owner import Owner
from keyhole.results.tag_check import TagFinding, TagQuestion
from keyhole.results.tags import TagDebt
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target, build_report
from keyhole.store import keys


@dataclass(frozen=True, slots=True)
class Auditor:
    """Processes the pages of audits.

    Args:
        lookup: The stored verdicts.
        prices: The prices of requests.
        check_tags: Reads the tags of several objects, compares them with verdicts, and finds owners.
        ruleset: The id of the current rules.
        tags: Whether workers also write verdicts as tags.
    """

    lookup: Lookup
    prices: Prices
    check_tags: Callable[[Sequence[TagQuestion]], Sequence[TagFinding]]
    ruleset: str
    tags: bool

    def process(self, audit: Audit, place: Place, lister: Lister) -> tuple[PageResult, tuple[Report, ...]]:
        """Return the result of a page, and new verdicts on archived objects, which cannot be scanned.

        Raises:
            KeyholeError: The page cannot be listed.
        """
        work = _Page(audit, place.page, self._expected_cost(audit.spec, "STANDARD", BYTES_PER_OBJECT))
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
        for listed, object_id, verdict in zip(page.objects, ids, stored, strict=True):
            ending = self._sort_object(work, listed, object_id, verdict)
            if ending is not None:
                self._read_tags(work)
                return work.result(None, None, *ending), tuple(work.reports)
        work.findings += orphans.findings
        self._read_tags(work)
        return work.result(page.cursor, last), tuple(work.reports)

    def _sort_object(
        self, work: "_Page", listed: Listed, object_id: str, stored: Stored | None
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
        takes, reads = self._costs(work.audit.spec, listed, decision)
        ending = work.limit_of_objects_reached() or work.limit_reached(takes.plus(reads))
        if ending is not None and ending[0] is AuditState.STOPPED and work.readings:
            # Most tags are right and need no correction. So look at the tags of the objects so far, and try
            # again with the actual costs.
            self._read_tags(work)
            ending = work.limit_reached(takes.plus(reads))
        if ending is not None:
            return ending
        work.counts["listed"] += 1
        work.counts["listed_bytes"] += listed.size
        work.reserved = work.reserved.plus(takes)
        if decision.reads_tags:
            question = TagQuestion(work.audit.spec.bucket, listed.key, listed.version_id)
            if decision.compares_tags and stored is not None and stored.report is not None:
                question = TagQuestion.about(stored.report)
            work.readings.append(_Reading(question, listed, decision))
            work.reserved_for_readings = work.reserved_for_readings.plus(reads)
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

    def _read_tags(self, work: "_Page") -> None:
        """Read the tags of the objects in `work.readings`, and empty this list."""
        readings, work.readings, work.reserved_for_readings = work.readings, [], NOTHING
        findings = self.check_tags([reading.question for reading in readings])
        for (question, listed, decision), finding in zip(readings, findings, strict=True):
            work.spend(cost_of_comparisons(self.prices, finding.requests))
            if decision.finds_owner:
                work.owners.append(finding.owner or Owner())
            report = question.report
            if report is None:
                continue
            if finding.message is None:
                work.counts["tags_agree"] += 1
                continue
            if finding.unreadable or not work.audit.spec.fix_tags:
                work.find("tag_mismatch", report, finding.message)
                continue
            work.find("tag_mismatch", report, f"{finding.message}; the tags will be corrected")
            work.counts["tag_fixes"] += 1
            if decision.how is not How.SCANNED:  # the scan itself writes the tags
                work.fix(report, cost_of_tags(self.prices, listed.storage_class))

    def _costs(self, spec: AuditSpec, listed: Listed, decision: Decision) -> tuple[Cost, Cost]:
        """Return the expected cost of scanning an object, and that of reading and correcting its tags."""
        takes, reads = NOTHING, NOTHING
        if decision.how is How.SCANNED:
            takes = self._expected_cost(spec, listed.storage_class, listed.size)
        elif spec.fix_tags and decision.compares_tags:
            reads = cost_of_tags(self.prices, listed.storage_class)
        if decision.reads_tags:
            reads = reads.plus(cost_of_comparisons(self.prices, 1))
        return takes, reads

    def _expected_cost(self, spec: AuditSpec, storage_class: str, size: int) -> Cost:
        owner = spec.owner_tag is not None
        return expected_cost(self.prices, storage_class, size, tags=self.tags, owner=owner)


class _Reading(NamedTuple):
    """An object whose tags are read, to compare them with its verdict or to find its owner."""

    question: TagQuestion
    listed: Listed
    decision: Decision


@dataclass(slots=True)
class _Page:
    """A page that is being processed."""

    audit: Audit
    number: int
    #: The assumed cost of one queued object from an earlier page.
    usual: Cost
    #: The expected cost of this page's scans.
    reserved: Cost = NOTHING
    #: The objects whose tags are still to be read, and the highest usual cost of reading and writing these
    #: tags.
    readings: list[_Reading] = field(default_factory=list)
    reserved_for_readings: Cost = NOTHING
    #: The tags that workers must write, and the expected cost of writing them.
    tag_debts: list[TagDebt] = field(default_factory=list)
    cost_of_debts: Cost = NOTHING
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    jobs: list[ScanJob] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    #: The owners of the rows, if the audit has an owner tag.
    owners: list[Owner] = field(default_factory=list)
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

    def fix(self, report: Report, takes: Cost) -> None:
        """Add an object whose tags must be written; `takes` is the expected cost."""
        self.spend(takes)
        self.tag_debts.append(TagDebt.of(report, rate=self.audit.spec.rate))
        self.cost_of_debts = self.cost_of_debts.plus(takes)

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
        reserved = self.reserved.plus(self.reserved_for_readings)
        coming = totals.queued - totals.scanned
        requests = totals.requests + self.counts.get("requests", 0) + coming * self.usual.requests
        if (
            spec.max_requests is not None
            and requests + reserved.requests + takes.requests > spec.max_requests
        ):
            return (
                AuditState.STOPPED,
                f"continuing could exceed the limit of {spec.max_requests} requests",
            )
        dollars = totals.dollars + self.counts.get("nanodollars", 0) / NANO
        dollars += coming * max(self.usual.dollars, takes.dollars)
        if spec.max_dollars is not None and dollars + reserved.dollars + takes.dollars > spec.max_dollars:
            return AuditState.STOPPED, f"continuing could exceed the limit of ${spec.max_dollars:g}"
        return None

    def result(
        self,
        cursor: str | None,
        after: str | None,
        ends_as: AuditState = AuditState.DONE,
        reason: str = "",
    ) -> PageResult:
        spec = self.audit.spec
        batches = tuple(
            Entry(
                f"{self.audit.id}-{self.number}-b{number}",
                tuple(jobs),
                AUDITS,
                self.audit.id,
                version=spec.version,
            )
            for number, jobs in enumerate(in_batches(self.jobs, batch_size(self.audit)))
        )
        for finding in self.findings:
            self.counts["gone" if finding.kind == "gone" else "tag_mismatches"] += 1
        if spec.owner_tag is not None:
            self.counts["owners_unknown"] = sum(owner.unknown is not None for owner in self.owners)
        return PageResult(
            self.counts,
            batches,
            rows=tuple(self.rows),
            owners=None if spec.owner_tag is None else tuple(self.owners),
            findings=tuple(self.findings),
            tag_debts=tuple(self.tag_debts),
            cost_of_debts=self.cost_of_debts,
            cursor=cursor,
            after=after,
            ends_as=ends_as,
            reason=reason,
        )


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
