"""The steps of one job: scan the object, write its tags, and record the verdict.

An entry contains the jobs of one message (see the glossary in `keyhole.jobs.ledger`). The sinks are the
places to which Keyhole writes verdicts: Redis, the tags of the object, and receivers of events. This module
only records the events; `keyhole.fleet.delivering` sends them.
"""

import logging
import time
from functools import partial

from keyhole.api import scan_s3
from keyhole.fleet.entry_runner import EntryRunner
from keyhole.fleet.observing import scan_ended, tags_requested, verdict_recorded
from keyhole.fleet.owning import found_owner
from keyhole.fleet.services import Services
from keyhole.fleet.tagging import TagWork
from keyhole.intake.audits.audit import AuditSpec
from keyhole.intake.audits.costs import cost_of_scan
from keyhole.intake.audits.records import NANO, Result
from keyhole.intake.dead_letters import Dead
from keyhole.intake.events.counters import OTHER_READING
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.rate_limit import RateLimiter
from keyhole.limits import TAG_SECONDS
from keyhole.metrics.recorder import recorder
from keyhole.reasons import Reason, not_an_image
from keyhole.results.owner import Owner
from keyhole.results.owner_reading import OwnerReading
from keyhole.results.tag_writer import TagRequest, ignore
from keyhole.scan.report import Report
from keyhole.sources.allowed import BucketNotAllowedError
from keyhole.store import keys
from keyhole.store.round_trips import Step
from keyhole.tracing.tracer import tracer

log = logging.getLogger(__name__)


class ScanWork:
    """Does the steps of jobs, with the services of this process.

    Create it when the work on a message begins, because its time limit for tags begins then.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._began = time.monotonic()
        self._tags = TagWork(services)

    def runner(self) -> EntryRunner:
        """Return a runner that does the steps of all jobs of an entry, by calling this object's methods."""
        services = self._services
        limits = services.settings.limits
        return EntryRunner(
            scan=self.scan,
            record=self.recording,
            on_undecided=self.on_undecided,
            dead_letter=self.dead_letter,
            on_complete=self.on_complete,
            on_verdict=self.on_verdict,
            ledger=services.ledger,
            round_trips=services.round_trips,
            heartbeat=services.heartbeat,
            breaker=services.breaker,
            liveness=services.liveness,
            threads=services.settings.scan_threads,
            begin_seconds=limits.begin,
            retry_seconds=services.settings.undecided_seconds,
            cpu_seconds=limits.cpu,
        )

    def scan(self, entry: Entry, job: ScanJob) -> Report:
        """Scan one object. If there is no object with the job's key, try the job's other key.

        A job has two keys if it is unclear whether the key in its event is URL-encoded.
        """
        report = self._scan_key(entry, job, job.key)
        if job.other_key is None or report.reasons != (Reason.NOT_FOUND,):
            return report
        other = self._scan_key(entry, job, job.other_key)
        if other.reasons == (Reason.NOT_FOUND,):
            return report
        self._services.event_counters.add({OTHER_READING: 1})
        return other

    def record(self, entry: Entry, job: ScanJob, report: Report) -> None:
        """Write a verdict to the sinks.

        If the job belongs to an audit, also store the result for the audit.
        """
        self._run(self.recording(entry, job, report))

    def recording(self, entry: Entry, job: ScanJob, report: Report) -> list[Step]:
        """Write a verdict to the sinks other than Redis, and return steps that write it to Redis.

        The caller sends these steps to Redis (`keyhole.store.round_trips`).

        If the job belongs to an audit, the last step stores the result for the audit.

        If verdicts are also written as tags, this method itself writes the verdict to Redis, and returns no
        step for the verdict. The reason is that the tags depend on whether Redis accepts the verdict: Redis
        refuses it if a newer verdict on the object is recorded.
        """
        services = self._services
        to_redis = "redis" in services.settings.sinks
        asked: list[TagRequest] = []
        steps: list[Step] = []
        spec = self._spec(entry)
        reading = OwnerReading(spec.owner_tag) if spec is not None and spec.owner_tag is not None else None
        owner: Owner | None = None

        def record() -> bool:
            if to_redis:
                return services.store.write(report, job_id=job.id, sequencer=job.sequencer)
            self._run(services.notifier.recording(report, job_id=job.id))
            return True

        if "tags" in services.settings.sinks:
            began = time.monotonic()
            learned = reading.learn if reading is not None else ignore
            self._tags.tag(
                report,
                record,
                rate=self._rate(entry),
                asked=asked.append,
                learned=learned,
                until=self._began + services.settings.limits.soft - TAG_SECONDS,
            )
            tracer().took(job.id, "write tags", time.monotonic() - began)
        elif to_redis:
            steps.append(services.store.writing(report, job_id=job.id, sequencer=job.sequencer))
        else:
            steps += services.notifier.recording(report, job_id=job.id)
        if reading is not None:
            key, rate = str(report.key), self._rate(entry)
            owner = found_owner(services, reading, job, key, rate=rate, asked=asked.append)
        if asked:
            tags_requested(services, job.storage_class, asked)
        if entry.audit is not None:
            steps.append(self._accounting(entry.audit, entry.part_of or entry.id, job, report, asked, owner))
        return steps

    def record_unscanned(self, report: Report, job_id: str) -> None:
        """Write a verdict to Redis, if Redis is a sink, and record the verdict's event.

        The object gets no tags.
        """
        services = self._services
        if "redis" in services.settings.sinks:
            services.store.write(report, job_id=job_id, sequencer=None)
        else:
            self._run(services.notifier.recording(report, job_id=job_id))

    def _run(self, steps: list[Step]) -> None:
        """Send steps to Redis, if there are any."""
        if steps:
            (answer,) = self._services.round_trips.run(steps)
            if isinstance(answer, BaseException):
                raise answer

    def on_undecided(self, entry: Entry, _: ScanJob, report: Report) -> None:
        """Record a tag debt, so that a worker corrects tags that contradict the object's recorded verdict.

        The object gets no tags for the undecided report, because this report contains no verdict.
        """
        if {"redis", "tags"} <= set(self._services.settings.sinks):
            self._tags.owe(report, rate=self._rate(entry))

    def refuse_other_buckets(self, entry: Entry) -> None:
        """Make a dead letter of the jobs whose buckets the settings do not allow, and mark them as done.

        Such jobs come from forged messages, or from programs with other settings.
        """
        services = self._services
        refused = tuple(job for job in entry.jobs if not services.buckets.allow(job.bucket))
        if not refused or services.ledger.is_done(entry.id):
            return
        reason = str(BucketNotAllowedError(refused[0].bucket))
        log.error("%d jobs of entry %s become a dead letter: %s", len(refused), entry.id, reason)
        services.dead_letters.add(Dead.entry(Entry(entry.id, refused, entry.queue), reason))
        for job in refused:
            services.ledger.mark_done(job.id)

    def dead_letter(self, entry: Entry, job: ScanJob, report: Report, history: str) -> None:
        """Store a job that Keyhole gives up as a dead letter, with the history of all attempts."""
        alone = Entry(job.id, (job,), entry.queue)
        self._services.dead_letters.add(Dead.entry(alone, f"{', '.join(report.reasons)}: {history}"))

    def on_complete(self, entry: Entry) -> None:
        """Add the results of a completed batch to its audit."""
        if entry.audit is not None:
            self._services.audits.finish(entry.audit, entry.id)

    def on_verdict(self, entry: Entry, job: ScanJob, report: Report) -> None:
        """Log and count a verdict that is recorded."""
        verdict_recorded(self._services, report, job_id=job.id, audit_id=entry.audit)

    def _scan_key(self, entry: Entry, job: ScanJob, key: str) -> Report:
        services = self._services
        with recorder().scanning():
            return scan_s3(
                services.s3,
                job.bucket,
                key,
                job.version_id,
                services.settings.scan,
                self._rate_limiter(entry, job),
                services.memory,
                partial(scan_ended, services, job) if recorder().counts else None,
                tracer().on_get(job),
            )

    def _rate_limiter(self, entry: Entry, job: ScanJob) -> RateLimiter | None:
        """Return the rate limit for the requests of a job; `None` if its entry's audit sets no limit.

        The requests of jobs without an audit are not limited.
        """
        rate = self._rate(entry)
        until = time.monotonic() + self._services.settings.limits.scan
        return RateLimiter(self._services.redis, job.bucket, rate, until=until) if rate else None

    def _rate(self, entry: Entry) -> float:
        """Return the limit of requests per second for an entry of an audit; 0 for no limit."""
        spec = self._spec(entry)
        return 0 if spec is None else spec.rate

    def _spec(self, entry: Entry) -> AuditSpec | None:
        return None if entry.audit is None else self._services.audits.spec(entry.audit)

    def _accounting(
        self,
        audit_id: str,
        batch_id: str,
        job: ScanJob,
        report: Report,
        asked: list[TagRequest],
        owner: Owner | None,
    ) -> Step:
        cost = cost_of_scan(
            self._services.prices, job.storage_class or "STANDARD", report.requests, report.bytes_read, asked
        )
        return self._services.audits.recording_result(
            audit_id,
            batch_id,
            job.id,
            Result(
                keys.object_id(job.bucket, str(report.key), report.version_id),
                report.status,
                cost.requests,
                report.bytes_read,
                round(cost.dollars * NANO),
                not_an_image(report.status, report.reasons),
                owner,
            ),
        )
