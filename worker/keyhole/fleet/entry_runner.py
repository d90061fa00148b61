"""Works on one entry: acquires its lease, scans its objects, records their verdicts, and completes the entry.

The glossary in `keyhole.jobs.ledger` defines the terms. An attempt at a job can end in these ways:

| attempt | consequence |
|---|---|
| it reached a verdict | the worker records the verdict, and the job is done |
| undecided, for example because S3, the network or the credentials failed | the entry is postponed, with a growing delay; after the first such attempt, `on_undecided` is called |
| undecided for longer than `retry_seconds`, or `MAX_INTERNAL_ERRORS` times because of an error in Keyhole | the job gets the verdict `failed`, and becomes a dead letter |
| its worker was lost | the entry is split: this job gets its own entry; the jobs that were not begun are distributed to up to `PARTS` new entries |
| it used more CPU time than the largest budget allows, or memory ran out | this process ends itself, and the ledger counts it as a lost worker |
| `MAX_LOST` workers were lost during attempts at the job | the job gets the verdict `failed` with the reason `poison`, and becomes a dead letter |
| not begun, because the time for the entry was over | the entry is sent again, for the remaining jobs |
| it reached a verdict, but then Redis was restarted | the entry is sent again, because Redis may have lost the verdict |

Working on an entry again is safe: the worker skips a complete entry, and each job that has a verdict.
"""  # noqa: E501 - each row of the table is one line

import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from keyhole.fleet.attempt_pool import Attempt, AttemptPool, Ending, HungError, tail
from keyhole.jobs.breaker import Breaker
from keyhole.jobs.delays import delay_after, jittered
from keyhole.jobs.entry import Entry
from keyhole.jobs.heartbeat import Heartbeat
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.liveness import Liveness
from keyhole.metrics.recorder import Phase, recorder
from keyhole.reasons import Reason
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target, failure
from keyhole.scan.undecided import is_undecided
from keyhole.store.round_trips import Chain, RoundTrips
from keyhole.tracing.tracer import tracer

log = logging.getLogger(__name__)

#: After this many workers were lost during attempts at a job, Keyhole gives up the job. One or two workers
#: can also be lost by accident. If more are lost, the job probably kills them.
MAX_LOST: Final = 3
#: An undecided attempt with one of these reasons does not show a problem of the bucket, so it does not open
#: the bucket's circuit breaker.
OURS: Final = frozenset({Reason.INTERNAL_ERROR, Reason.MEMORY, Reason.RATE})
#: The maximum number of attempts at a job that end with an internal error. Another attempt does not help
#: against a bug, but it can help if memory was short.
MAX_INTERNAL_ERRORS: Final = 3
#: The name of the step that writes a verdict, for traces.
RECORD: Final = "record verdict"
#: If an entry is split, the jobs that the lost worker had not begun are distributed to at most this many new
#: entries. Some of these jobs can also kill their workers. Then the new entries that contain such jobs are
#: split, too, until each job has its own entry. A harmless job gets its own entry after at most two workers
#: were lost while they scanned its entry. This is less than `MAX_LOST`, so Keyhole does not give up the
#: harmless job.
PARTS: Final = 10


@dataclass(frozen=True, slots=True)
class EntryRunner:
    """Works on entries.

    Args:
        scan: Scans one object of an entry and returns its report.
        record: Writes a verdict to the sinks other than Redis, and returns the steps that write the verdict
            to Redis.
        on_undecided: Called with the report of an object's first undecided attempt. This function must send
            no request to S3, because S3 may not answer.
        dead_letter: Called with a job that is not tried again, its report, and the history of its attempts.
        on_complete: Called when all verdicts of an entry are written, before the ledger completes the entry.
            If the worker is lost after this call and before the entry is complete, another worker calls this
            function again for the entry.
        on_verdict: Called with each verdict that is recorded.
        ledger: The ledger.
        round_trips: Sends steps to Redis (`keyhole.store.round_trips`).
        heartbeat: Renews the leases of this process.
        breaker: The circuit breakers of the buckets.
        liveness: Gives this process a name, and reports which other processes are alive.
        threads: The number of objects of an entry that are scanned in parallel.
        begin_seconds: Attempts at an entry's jobs begin only during this many seconds after the first attempt
            began.
        retry_seconds: Seconds for which an object may stay undecided. After that, Keyhole gives up the job.
        cpu_seconds: A CPU time in seconds that is longer than every attempt's budget. An attempt that uses
            more CPU time is treated as hanging.
    """

    scan: Callable[[Entry, ScanJob], Report]
    record: Callable[[Entry, ScanJob, Report], Chain]
    on_undecided: Callable[[Entry, ScanJob, Report], None]
    dead_letter: Callable[[Entry, ScanJob, Report, str], None]
    on_complete: Callable[[Entry], None]
    on_verdict: Callable[[Entry, ScanJob, Report], None]
    ledger: Ledger
    round_trips: RoundTrips
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
            The entries to publish: the parts of the entry if it was split; the entry itself if jobs are left.

        Raises:
            HungError: Scans hang. The ledger still records the hanging attempts as started.
            MemoryError: Memory ran out. The ledger still records all running attempts as started.
            Exception: A verdict could not be written, and this failure could not be recorded in the ledger.
        """
        if self.ledger.is_done_or_split(entry.id):
            log.info("entry %s is done already, or was split", entry.id)
            return []
        worker = self.liveness.name
        self.heartbeat.release_before(entry)
        before = self.ledger.leases.acquire(entry, worker)
        lost = before is not None and not self.liveness.is_alive(before.name)
        if before is not None and before.beats:
            if not lost:
                log.info("entry %s was delivered twice; worker %s works on it", entry.id, before.name)
                return []
            self.ledger.leases.acquire(entry, worker, force=True)
        done = self.ledger.jobs_done(entry)
        jobs = [job for job in entry.jobs if job.id not in done]
        if lost and len(jobs) > 1:
            parts = self._parts(entry, jobs)
            if parts:
                log.warning("the worker of entry %s was lost; it is split into %d", entry.id, len(parts))
                return self.ledger.split(entry, parts)
        with self.heartbeat.beating(entry):
            attempts = _Attempts(self, entry)
            try:
                endings = attempts.pool.run(jobs)
            except (HungError, MemoryError):
                raise
            except BaseException:
                # The worker is being stopped, or Redis does not answer. Release the running attempts.
                # Otherwise the ledger would count this worker as lost during each of them.
                self.heartbeat.release(entry, worker, attempts.pool.unfinished)
                raise
            return self._conclude(entry, endings, attempts.delay)

    def close(self, entry: Entry) -> bool:
        """Complete an entry if all its jobs are done.

        If the entry is the last part of a split entry, complete the split entry, too.

        Returns:
            Whether the entry is complete. The entry stays open if Redis was restarted and lost the markers of
            some jobs.
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
            # This call also postpones the jobs that were not begun, because attempts at them would probably
            # be undecided, too.
            self.ledger.leases.release(entry, self.liveness.name, postponed=delay)
            return []
        left = len(endings) - endings.count(Ending.DONE)
        if left or not self.close(entry):
            log.info("entry %s is sent again, because %d jobs are left", entry.id, left or len(entry.jobs))
            self.ledger.leases.release(entry, self.liveness.name)
            return [entry]
        return []

    def _parts(self, entry: Entry, jobs: Sequence[ScanJob]) -> list[Entry]:
        """Return the parts into which to split an entry whose worker was lost.

        Each job that the lost worker was scanning becomes a part. The other jobs become up to `PARTS` parts.
        Return an empty list if the lost worker was not scanning a job.
        """
        suspects = self.ledger.attempts.unfinished_among([job.id for job in jobs])
        if not suspects:
            return []
        others = [job for job in jobs if job.id not in suspects]
        length = max(1, -(-len(others) // PARTS))
        parts = [others[start : start + length] for start in range(0, len(others), length)]
        parts += [[job] for job in jobs if job.id in suspects]
        return [self._part(entry, part) for part in parts]

    def _part(self, entry: Entry, jobs: Sequence[ScanJob]) -> Entry:
        """Return the part of an entry that contains these jobs.

        The id of the part contains the id of its first job and the number of its other jobs. The id is unique
        even if the part is split again, because the new part that begins with the same job has fewer jobs.
        """
        whole = entry.part_of or entry.id
        more = f"+{len(jobs) - 1}" if len(jobs) > 1 else ""
        return Entry(
            f"{whole}/{jobs[0].id}{more}", tuple(jobs), entry.queue, entry.audit, whole, entry.version
        )


class _Attempts:
    """The attempts at an entry's jobs. `delay` is the number of seconds to postpone undecided jobs."""

    def __init__(self, runner: EntryRunner, entry: Entry) -> None:
        self._runner = runner
        self._entry = entry
        self._lock = threading.Lock()
        self.delay = 0.0
        self.pool = AttemptPool(
            self._attempt,
            runner.ledger.attempts,
            runner.round_trips,
            worker=runner.liveness.name,
            threads=runner.threads,
            begin_seconds=runner.begin_seconds,
            cpu_seconds=runner.cpu_seconds,
        )

    def _attempt(self, job: ScanJob) -> Attempt:
        runner = self._runner
        if runner.breaker.allows(job.bucket):
            if not tracer().traces:
                return (yield from self._scan(job))
            entry = self._entry
            with tracer().attempt(entry.id, job, queue=entry.queue, audit=entry.audit):
                return (yield from self._scan(job))
        self._postpone(runner.breaker.retry_after(job.bucket))
        return Ending.UNDECIDED

    def _scan(self, job: ScanJob) -> Attempt:
        runner, entry = self._runner, self._entry
        target = Target(f"s3://{job.bucket}/{job.key}", job.bucket, job.key, job.version_id)
        attempts, liveness = runner.ledger.attempts, runner.liveness
        (answer,) = yield [attempts.starting(job.id, liveness.name)]
        start = attempts.started(job.id, liveness.name, liveness.is_alive, answer)
        if start.lost >= MAX_LOST:
            log.error(
                "Keyhole gives up job %s, because %d workers were lost with it: %s",
                job.id,
                MAX_LOST,
                target.name,
            )
            message = f"{MAX_LOST} workers were lost while they scanned the object"
            return (yield from self._give_up(job, failure(target, Reason.POISON, message), start.run))
        try:
            report = runner.scan(entry, job)
            error = str(report.details.get("error", ""))
        except MemoryError:
            raise
        except Exception:
            log.exception("scanning %s failed", target.name)
            report = failure(target, Reason.INTERNAL_ERROR, "the scanner failed; see the worker's log")
            error = tail(traceback.format_exc())
        undecided = is_undecided(report)
        tracer().scanned(job.id, report, undecided=undecided)
        runner.breaker.record(
            job.bucket, decided=not undecided or not OURS.isdisjoint(report.reasons), reason=error
        )
        if not undecided:
            return (yield from self._record(job, report, start.run))
        return (yield from self._left_undecided(job, report, error, start.run))

    def _left_undecided(self, job: ScanJob, report: Report, error: str, run: str) -> Attempt:
        runner = self._runner
        (reason,) = report.reasons
        known = runner.ledger.attempts.undecided(job.id, reason, error, bucket=job.bucket)
        if known.seconds >= runner.retry_seconds or (
            reason == Reason.INTERNAL_ERROR and known.alike >= MAX_INTERNAL_ERRORS
        ):
            return (yield from self._give_up(job, report, run))
        if known.times == 1:
            runner.on_undecided(self._entry, job, report)
        log.info("attempt %d at %s is undecided: %s", known.times, report.target, reason)
        self._postpone(delay_after(known.times))
        return Ending.UNDECIDED

    def _give_up(self, job: ScanJob, report: Report, run: str) -> Attempt:
        history = str(self._runner.ledger.attempts.history(job.id))
        self._runner.dead_letter(self._entry, job, report, history)
        return (yield from self._record(job, report, run))

    def _record(self, job: ScanJob, report: Report, run: str) -> Attempt:
        """Write a verdict, and mark the job as done.

        Do not mark the job if Redis was restarted since the attempt began, because Redis may have lost the
        verdict. The step that marks the job is the last one of its chain, so Redis does not run it if another
        step fails.
        """
        runner = self._runner
        mark = runner.ledger.marking(job.id, run)
        began = time.monotonic()
        try:
            *_, marked = yield [*runner.record(self._entry, job, report), mark]
        except MemoryError:
            raise
        except Exception as error:
            log.exception("the verdict on %s could not be recorded", report.target)
            tracer().took(job.id, RECORD, time.monotonic() - began, type(error).__name__)
            text = f"{type(error).__name__}: {error}"
            known = runner.ledger.attempts.undecided(job.id, "not_recorded", text)
            if known.seconds < runner.retry_seconds:
                self._postpone(delay_after(known.times))
                return Ending.UNDECIDED
            history = str(runner.ledger.attempts.history(job.id))
            runner.dead_letter(self._entry, job, report, history)
            (marked,) = yield [mark]
        if not marked:
            return Ending.UNCERTAIN
        seconds = time.monotonic() - began
        recorder().took(Phase.RECORDING, seconds)
        tracer().took(job.id, RECORD, seconds)
        runner.on_verdict(self._entry, job, report)
        return Ending.DONE

    def _postpone(self, seconds: float) -> None:
        """Postpone the entry by this delay with jitter.

        If another job already requires a longer delay, that longer delay remains.
        """
        with self._lock:
            self.delay = max(self.delay, jittered(seconds))
