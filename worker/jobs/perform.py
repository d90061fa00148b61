"""The work on one entry: count the start, scan, record the verdict, mark it, strike the entry.

Done twice it changes nothing: a struck entry is passed over, and so is each of its jobs whose verdict stands.
A job is given up after `MAX_ATTEMPTS` starts without a verdict, for it seems to kill whoever works on it; its
verdict says so.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from celery.exceptions import SoftTimeLimitExceeded

from worker.jobs.job import ScanJob
from worker.jobs.ledger import Entry, Ledger
from worker.scan.report import Report
from worker.scan.scanner import Target, failure

log = logging.getLogger(__name__)

#: A worker may be lost by accident once or twice while it holds a job; more often it is the job.
MAX_ATTEMPTS = 3


class NotBegunError(Exception):
    """Some jobs of an entry were not begun, for want of time. The others have their verdicts."""


@dataclass(frozen=True, slots=True)
class Performer:
    """Works on entries.

    Args:
        scan: Scans one object of an entry; what is wrong with the object is in the report.
        record: Puts a verdict where verdicts go.
        finish: What is to follow when all verdicts of an entry stand, before it is struck; done again if
        whoever did it is lost in between.
        ledger: Where entries are noted.
        threads: How many objects of an entry are scanned at once.
        begin_seconds: How long after the first job another one is begun.
    """

    scan: Callable[[Entry, ScanJob], Report]
    record: Callable[[Entry, ScanJob, Report], None]
    finish: Callable[[Entry], None]
    ledger: Ledger
    threads: int
    begin_seconds: float

    def perform(self, entry: Entry, *, alone: bool) -> None:
        """Work on an entry until all its verdicts stand.

        Args:
            entry: What to do.
            alone: Scan one object at a time. For an entry that has lost a worker, so that the object that did
            it is alone when it does it again, and no other is counted down with it.

        Raises:
            NotBegunError: Time is up, and the entry is open. At least one job has its verdict that had none.
            Exception: What went wrong with recording; the entry stays open, the verdicts that stand are
            marked.
        """
        until = time.monotonic() + self.begin_seconds
        if self.ledger.is_done(entry.id):
            log.info("entry %s is done already", entry.id)
            return
        self.ledger.begin(entry)
        done = self.ledger.jobs_done(entry)
        jobs = [job for job in entry.jobs if job.id not in done]
        if alone or len(jobs) <= 1:
            for number, job in enumerate(jobs):
                self._perform_one(entry, job, until if number else None)
        else:
            self._perform_at_once(entry, jobs, until)
        self.finish(entry)
        self.ledger.strike(entry)

    def _perform_at_once(self, entry: Entry, jobs: list[ScanJob], until: float) -> None:
        with ThreadPoolExecutor(self.threads, thread_name_prefix="scan") as pool:
            futures: list[Future[None]] = [
                pool.submit(self._perform_one, entry, job, until if number else None)
                for number, job in enumerate(jobs)
            ]
            try:
                errors = [error for future in futures if (error := future.exception())]
            except BaseException:
                # A time limit or a shutdown: what has not begun is left to the next delivery.
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if errors:
            # What is merely left matters less than what went wrong.
            raise min(errors, key=lambda error: isinstance(error, NotBegunError))

    def _perform_one(self, entry: Entry, job: ScanJob, until: float | None) -> None:
        """Scan one object and record its verdict, if it can still be begun."""
        if until is not None and time.monotonic() > until:
            raise NotBegunError(f"{job.id} of {entry.id} is left for another delivery")
        self.record(entry, job, self._verdict(entry, job))
        self.ledger.mark_done(job.id)

    def _verdict(self, entry: Entry, job: ScanJob) -> Report:
        target = Target(f"s3://{job.bucket}/{job.key}", job.bucket, job.key, job.version_id)
        if self.ledger.attempt(entry, job.id) > MAX_ATTEMPTS:
            log.error("job %s is given up after %d attempts: %s", job.id, MAX_ATTEMPTS, target.name)
            return failure(target, "worker_lost", f"{MAX_ATTEMPTS} workers were lost while they scanned it")
        try:
            return self.scan(entry, job)
        except SoftTimeLimitExceeded:
            raise  # it is the task's time that is up: nothing is known of the object
        except Exception:
            # A bug of ours must not leave an object without a verdict.
            log.exception("scanning %s failed", target.name)
            return failure(target, "internal_error", "the scanner failed; its log says how")
