"""Works on one entry: acquires its lease, scans its objects, records their verdicts, completes it.

How an attempt at a job can end:

| attempt | consequence |
|---|---|
| decided | the verdict is recorded, and the job is done |
| undecided: S3, the network or credentials failed | the entry is postponed, with a growing delay; the first time, `on_undecided` is called |
| undecided for `retry_seconds`, or for a fault of Keyhole `MAX_INTERNAL_ERRORS` times | a verdict `failed`, and a dead letter |
| its worker was lost | the job goes on as an entry of its own; the jobs that were not begun go on in `PARTS` entries |
| it uses more CPU time than any scan may, or memory runs out | this process must end itself, and counts as lost |
| workers were lost `MAX_LOST` times | a verdict `failed` with the reason `poison`, and a dead letter |
| not begun, because there was no time | the entry is sent again with the remaining jobs |
| decided, but Redis was restarted in the meantime | the same: Redis may have lost the verdict |

Working on an entry twice changes nothing: a complete entry is skipped, and so is each job that has a verdict.
"""  # noqa: E501 - the rows of the table are one line each

import logging
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from keyhole.fleet.attempt_pool import AttemptPool, Ending, HungError, tail
from keyhole.jobs.breaker import Breaker
from keyhole.jobs.delays import delay_after, jittered
from keyhole.jobs.entry import Entry
from keyhole.jobs.heartbeat import Heartbeat
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.liveness import Liveness
from keyhole.reasons import Reason
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target, failure
from keyhole.scan.undecided import is_undecided

log = logging.getLogger(__name__)

#: How many workers may be lost with a job. One or two may be lost by accident; if more are lost, the job
#: kills them.
MAX_LOST: Final = 3
#: Reasons that say nothing about the bucket.
OURS: Final = frozenset({Reason.INTERNAL_ERROR, Reason.MEMORY, Reason.RATE})
#: The most attempts at a job after faults of Keyhole. A bug does not go away, but a lack of memory may.
MAX_INTERNAL_ERRORS: Final = 3
#: The number of parts for the jobs that a lost worker had not begun. If many of them are poison, most parts
#: lose their workers as well and are split into single jobs, so an innocent job loses at most two workers.
PARTS: Final = 10


@dataclass(frozen=True, slots=True)
class EntryRunner:
    """Works on entries.

    Args:
        scan: Scans one object of an entry. The report says what is wrong with the object.
        record: Writes a verdict to the sinks.
        on_undecided: Called with the first undecided report of an object. It must not ask S3, which may
            not answer.
        dead_letter: Called with a job that is not tried again, its report, and the history of its attempts.
        on_complete: Called when all verdicts of an entry are written, before the entry is completed. It is
            called again if the worker is lost in between.
        ledger: The ledger.
        heartbeat: Renews the leases of this process.
        breaker: The circuit breakers of the buckets.
        liveness: The name of this process, and whether others are alive.
        threads: How many objects of an entry are scanned at once.
        begin_seconds: How many seconds after the first job the last one may begin.
        retry_seconds: How long an object may stay undecided.
        cpu_seconds: More CPU time than any attempt may use by its budget.
    """

    scan: Callable[[Entry, ScanJob], Report]
    record: Callable[[Entry, ScanJob, Report], None]
    on_undecided: Callable[[Entry, ScanJob, Report], None]
    dead_letter: Callable[[Entry, ScanJob, Report, str], None]
    on_complete: Callable[[Entry], None]
    ledger: Ledger
    heartbeat: Heartbeat
    breaker: Breaker
    liveness: Liveness
    threads: int
    begin_seconds: float
    retry_seconds: float
    cpu_seconds: float

    def run(self, entry: Entry) -> list[Entry]:
        """Work on an entry.

        Returns:
            The entries to publish: its parts if it was split, the entry itself if jobs are left.

        Raises:
            HungError: Scans hang; their attempts stay recorded as started.
            MemoryError: Memory ran out; all running attempts stay recorded as started.
            Exception: A verdict could not be recorded, and neither could that failure.
        """
        if self.ledger.is_done_or_split(entry.id):
            log.info("entry %s is done already, or goes on in parts", entry.id)
            return []
        worker = self.liveness.name
        self.heartbeat.release_before(entry)
        before = self.ledger.leases.acquire(entry, worker)
        lost = before is not None and not self.liveness.is_alive(before.name)
        if before is not None and before.beats:
            if not lost:
                log.info("entry %s was delivered twice, and %s is busy with it", entry.id, before.name)
                return []
            self.ledger.leases.acquire(entry, worker, force=True)
        done = self.ledger.jobs_done(entry)
        jobs = [job for job in entry.jobs if job.id not in done]
        if lost and len(jobs) > 1:
            parts = self._parts(entry, jobs)
            if parts:
                log.warning("entry %s lost its worker; it goes on in %d parts", entry.id, len(parts))
                return self.ledger.split(entry, parts)
        with self.heartbeat.beating(entry):
            attempts = _Attempts(self, entry)
            try:
                endings = attempts.pool.run(jobs)
            except (HungError, MemoryError):
                raise
            except BaseException:
                # The worker was told to stop, or Redis does not answer: the running attempts have no outcome.
                self.heartbeat.release(entry, worker, attempts.pool.unfinished)
                raise
            return self._conclude(entry, endings, attempts.delay)

    def close(self, entry: Entry) -> bool:
        """Complete an entry whose jobs are all done. The last part of an entry completes the entry, too.

        Returns:
            Whether it is complete. It is not if Redis was restarted and has lost markers of jobs.
        """
        if len(self.ledger.jobs_done(entry)) < len(entry.jobs):
            return False
        if entry.part_of is not None:
            whole = self.ledger.get(entry.part_of)
            if whole is not None:
                self.close(whole)
        else:
            self.on_complete(entry)
        return self.ledger.complete(entry, if_done=True)

    def _conclude(self, entry: Entry, endings: Sequence[Ending], delay: float) -> list[Entry]:
        if Ending.UNDECIDED in endings:
            # Jobs that were not begun wait with the others: they would be undecided as well.
            self.ledger.leases.release(entry, self.liveness.name, postponed=delay)
            return []
        left = len(endings) - endings.count(Ending.DONE)
        if left or not self.close(entry):
            log.info("entry %s is sent again: %d jobs are left", entry.id, left or len(entry.jobs))
            self.ledger.leases.release(entry, self.liveness.name)
            return [entry]
        return []

    def _parts(self, entry: Entry, jobs: Sequence[ScanJob]) -> list[Entry]:
        """One part for each job that a lost worker was scanning, and a few for the others; or nothing."""
        suspects = self.ledger.attempts.unfinished_among([job.id for job in jobs])
        if not suspects:
            return []
        others = [job for job in jobs if job.id not in suspects]
        length = max(1, -(-len(others) // PARTS))
        parts = [others[start : start + length] for start in range(0, len(others), length)]
        parts += [[job] for job in jobs if job.id in suspects]
        return [self._part(entry, part) for part in parts]

    def _part(self, entry: Entry, jobs: Sequence[ScanJob]) -> Entry:
        """A part of an entry. Parts of parts are shorter, so no two parts of an entry have the same id."""
        whole = entry.part_of or entry.id
        more = f"+{len(jobs) - 1}" if len(jobs) > 1 else ""
        return Entry(f"{whole}/{jobs[0].id}{more}", tuple(jobs), entry.queue, entry.audit, whole)


class _Attempts:
    """The attempts at an entry's jobs. `delay` is how long to postpone the undecided ones."""

    def __init__(self, runner: EntryRunner, entry: Entry) -> None:
        self._runner = runner
        self._entry = entry
        self._lock = threading.Lock()
        self.delay = 0.0
        self.pool = AttemptPool(
            self._attempt,
            runner.ledger.attempts,
            worker=runner.liveness.name,
            threads=runner.threads,
            begin_seconds=runner.begin_seconds,
            cpu_seconds=runner.cpu_seconds,
        )

    def _attempt(self, job: ScanJob) -> Ending:
        runner = self._runner
        if runner.breaker.allows(job.bucket):
            return self._scan(job)
        self._postpone(runner.breaker.retry_after(job.bucket))
        return Ending.UNDECIDED

    def _scan(self, job: ScanJob) -> Ending:
        runner, entry = self._runner, self._entry
        target = Target(f"s3://{job.bucket}/{job.key}", job.bucket, job.key, job.version_id)
        liveness = runner.liveness
        start = runner.ledger.attempts.start(job.id, liveness.name, liveness.is_alive)
        if start.lost >= MAX_LOST:
            log.error("job %s is given up, %d workers were lost with it: %s", job.id, MAX_LOST, target.name)
            message = f"{MAX_LOST} workers were lost while they scanned it"
            return self._give_up(job, failure(target, Reason.POISON, message), start.run)
        try:
            report = runner.scan(entry, job)
            error = str(report.details.get("error", ""))
        except MemoryError:
            raise
        except Exception:
            log.exception("scanning %s failed", target.name)
            report = failure(target, Reason.INTERNAL_ERROR, "the scanner failed; its log says how")
            error = tail(traceback.format_exc())
        undecided = is_undecided(report)
        runner.breaker.record(
            job.bucket, decided=not undecided or not OURS.isdisjoint(report.reasons), reason=error
        )
        if not undecided:
            return self._record(job, report, start.run)
        return self._left_undecided(job, report, error, start.run)

    def _left_undecided(self, job: ScanJob, report: Report, error: str, run: str) -> Ending:
        runner = self._runner
        (reason,) = report.reasons
        known = runner.ledger.attempts.undecided(job.id, reason, error, bucket=job.bucket)
        if known.seconds >= runner.retry_seconds or (
            reason == Reason.INTERNAL_ERROR and known.alike >= MAX_INTERNAL_ERRORS
        ):
            return self._give_up(job, report, run)
        if known.times == 1:
            runner.on_undecided(self._entry, job, report)
        log.info("%s is undecided for the %d. time: %s", report.target, known.times, reason)
        self._postpone(delay_after(known.times))
        return Ending.UNDECIDED

    def _give_up(self, job: ScanJob, report: Report, run: str) -> Ending:
        history = str(self._runner.ledger.attempts.history(job.id))
        self._runner.dead_letter(self._entry, job, report, history)
        return self._record(job, report, run)

    def _record(self, job: ScanJob, report: Report, run: str) -> Ending:
        """Record a verdict, and mark the job if Redis was not restarted since the attempt began."""
        runner = self._runner
        try:
            runner.record(self._entry, job, report)
        except MemoryError:
            raise
        except Exception as error:
            log.exception("the verdict on %s was not recorded", report.target)
            text = f"{type(error).__name__}: {error}"
            known = runner.ledger.attempts.undecided(job.id, "not_recorded", text)
            if known.seconds < runner.retry_seconds:
                self._postpone(delay_after(known.times))
                return Ending.UNDECIDED
            history = str(runner.ledger.attempts.history(job.id))
            runner.dead_letter(self._entry, job, report, history)
        return Ending.DONE if runner.ledger.mark_done(job.id, run=run) else Ending.UNCERTAIN

    def _postpone(self, seconds: float) -> None:
        """Postpone the entry by about this time, or longer."""
        with self._lock:
            self.delay = max(self.delay, jittered(seconds))
