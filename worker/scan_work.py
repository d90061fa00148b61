"""The work on one job with all that belongs to it: scan, tags, record, and the account of the audit."""

import logging
from collections.abc import Callable

import stamina
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from worker.api import scan_s3
from worker.app import SOFT_LIMIT
from worker.intake.audits.store import NANO, Result
from worker.intake.dead_letters import Dead
from worker.intake.events.counts import OTHER_READING
from worker.jobs.job import ScanJob
from worker.jobs.ledger import Entry
from worker.jobs.pace import Pace
from worker.jobs.perform import Performer
from worker.results import keys
from worker.results.tags import TagOutcome, TagRequest
from worker.scan.report import Report, Status
from worker.scan.scanner import FULL_SECONDS
from worker.services import Services
from worker.sources.allowed import BucketNotAllowedError

log = logging.getLogger(__name__)

#: S3 recovers from SlowDown within seconds; what the tag writer raises is what may pass.
TAG_ATTEMPTS, TAG_SECONDS = 5, 45.0
#: How long a batch begins with objects, in seconds: the longest scan still ends within the time limit, and so
#: do its tags. What is left is sent again.
BEGIN_SECONDS = SOFT_LIMIT - FULL_SECONDS - TAG_SECONDS - 5


class ScanWork:
    """Scans jobs and records their verdicts, with a process's services."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def performer(self) -> Performer:
        """Whoever works on entries by this."""
        services = self._services
        return Performer(
            scan=self.scan,
            record=self.record,
            give_up=self.give_up,
            finish=self.finish,
            ledger=services.ledger,
            heartbeat=services.heartbeat,
            breaker=services.breaker,
            liveness=services.liveness,
            threads=services.settings.scan_threads,
            begin_seconds=BEGIN_SECONDS,
            patience_seconds=services.settings.undecided_seconds,
        )

    def scan(self, entry: Entry, job: ScanJob) -> Report:
        """Scan one object; under its other key, if it is there and not under the first."""
        report = self._scan_key(entry, job, job.key)
        if job.other_key is None or report.reasons != ("not_found",):
            return report
        other = self._scan_key(entry, job, job.other_key)
        if other.reasons == ("not_found",):
            return report
        self._services.event_counts.add({OTHER_READING: 1})
        return other

    def record(self, entry: Entry, job: ScanJob, report: Report) -> None:
        """Put a verdict where verdicts go.

        Tags first: whoever hears of the verdict finds them. The verdict stands even if they fail.
        """
        sinks = self._services.settings.sinks
        asked: list[TagRequest] = []
        try:
            if "tags" in sinks:
                self._tag(entry, job, report, asked)
        finally:
            if "redis" in sinks:
                self._services.store.write(report, job_id=job.id, sequencer=job.sequencer)
            if entry.audit is not None:
                self._account(entry.audit, entry.part_of or entry.id, job, report, asked)

    def refuse_other_buckets(self, entry: Entry) -> None:
        """Turn an entry's jobs in buckets that Keyhole may not touch into a dead letter; they count as done.

        Such jobs come from a message that somebody forged, or from a program with other settings.
        """
        services = self._services
        refused = tuple(job for job in entry.jobs if not services.buckets.allow(job.bucket))
        if not refused or services.ledger.is_done(entry.id):
            return
        reason = str(BucketNotAllowedError(refused[0].bucket))
        log.error("%d jobs of entry %s are a dead letter: %s", len(refused), entry.id, reason)
        services.dead_letters.add(Dead.entry(Entry(entry.id, refused, entry.queue), reason))
        for job in refused:
            services.ledger.mark_done(job.id)

    def give_up(self, entry: Entry, job: ScanJob, report: Report, history: str) -> None:
        """Keep a job that nobody will try again as a dead letter, with the history of its attempts."""
        alone = Entry(job.id, (job,), entry.queue)
        self._services.dead_letters.add(Dead.entry(alone, f"{', '.join(report.reasons)}: {history}"))

    def finish(self, entry: Entry) -> None:
        """Count a batch of an audit."""
        if entry.audit is not None:
            self._services.audits.finish(entry.audit, entry.id)

    def _scan_key(self, entry: Entry, job: ScanJob, key: str) -> Report:
        pace = self._pace(entry, job)
        settings = self._services.settings.scan
        return scan_s3(self._services.s3, job.bucket, key, job.version_id, settings, pace)

    def _pace(self, entry: Entry, job: ScanJob) -> Pace | None:
        """Whose turn it is at the bucket; only audits wait for that."""
        spec = None if entry.audit is None else self._services.audits.spec(entry.audit)
        if spec is None or not spec.rate:
            return None
        services = self._services
        return Pace(services.redis, job.bucket, spec.rate)

    def _tag(self, entry: Entry, job: ScanJob, report: Report, asked: list[TagRequest]) -> None:
        pace = self._pace(entry, job)

        def ask(request: TagRequest) -> None:
            asked.append(request)
            if pace is not None:
                pace()

        passing = (ClientError, BotoCoreError, HTTPClientError)
        for attempt in stamina.retry_context(on=passing, attempts=TAG_ATTEMPTS, timeout=TAG_SECONDS):
            with attempt:
                outcome = self._write_tags(report, ask)
        if outcome not in {TagOutcome.WRITTEN, TagOutcome.UNCHANGED, TagOutcome.SKIPPED_NO_IDENTITY}:
            log.warning("the tags of %s: %s", report.target, outcome)

    def _write_tags(self, report: Report, ask: Callable[[TagRequest], object]) -> TagOutcome:
        """Write a verdict's tags. Where there is none, remove what does not speak of the verdict that stands.

        Whoever uploads an object may upload tags with it, so that an object that cannot be read would be
        `safe` by its own word.
        """
        tags = self._services.tags
        if report.etag or report.bucket is None or report.key is None:
            return tags.write(report, ask)
        kept = self._services.store.get(report.bucket, report.key, report.version_id)
        if kept is not None and kept.etag and kept.status not in {Status.FAILED, Status.UNREADABLE}:
            return tags.write(kept, ask)
        return tags.clear(report, ask)

    def _account(
        self, audit_id: str, batch_id: str, job: ScanJob, report: Report, asked: list[TagRequest]
    ) -> None:
        prices = self._services.prices
        storage_class = job.storage_class or "STANDARD"
        dollars = report.requests * prices.get(storage_class, 0)
        dollars += prices.retrieval(storage_class, report.bytes_read)
        for request in asked:
            match request:
                case TagRequest.WRITE:
                    dollars += prices.put_tagging()
                case TagRequest.READ:
                    dollars += prices.get_tagging()
                case TagRequest.LOOK:
                    dollars += prices.get(storage_class, 0)
        self._services.audits.note_result(
            audit_id,
            batch_id,
            job.id,
            Result(
                keys.object_id(job.bucket, str(report.key), report.version_id),
                report.status,
                report.requests + len(asked),
                report.bytes_read,
                round(dollars * NANO),
            ),
        )
