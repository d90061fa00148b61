"""Runs attempts at jobs in threads, and detects attempts that hang.

Python cannot end a thread. So if an attempt hangs, the whole process must end. Before `run` raises
`HungError` for this purpose, it waits a few seconds for the other attempts, and records the stack of each
attempt that hangs.
"""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from enum import Enum, auto
from typing import Final

import redis
from celery.exceptions import SoftTimeLimitExceeded

from keyhole.jobs.attempts import Attempts
from keyhole.jobs.cpu_watch import CpuWatch
from keyhole.jobs.job import ScanJob
from keyhole.masking import masked

log = logging.getLogger(__name__)

#: Seconds between two checks of the running attempts.
LOOK_SECONDS: Final = 1.0
#: Seconds that the running attempts get to finish after the time limit, or after another attempt hung.
LAST_SECONDS: Final = 5.0
#: Only the last lines of a traceback are stored, at most this many.
TRACEBACK_LINES: Final = 12


class HungError(Exception):
    """An attempt hangs: it did not end, although it used up its budget.

    The caller must end this process, because nothing else ends the attempt.
    """


class Ending(Enum):
    """The outcome of an attempt at a job."""

    DONE = auto()
    UNDECIDED = auto()
    NOT_BEGUN = auto()
    #: The verdict was written, but then Redis was restarted, and it may have lost the verdict.
    UNCERTAIN = auto()


class AttemptPool:
    """Runs the attempts at the jobs of one entry.

    Args:
        attempt: Makes one attempt at a job.
        attempts: The ledger's records of attempts.
        worker: The name of this process.
        threads: The number of attempts that run in parallel.
        begin_seconds: Attempts begin only during this many seconds from now. The first attempt always begins.
        cpu_seconds: A CPU time in seconds that is longer than every attempt's budget. An attempt that uses
            more CPU time is treated as hanging.
    """

    def __init__(
        self,
        attempt: Callable[[ScanJob], Ending],
        attempts: Attempts,
        *,
        worker: str,
        threads: int,
        begin_seconds: float,
        cpu_seconds: float,
    ) -> None:
        self._make_one = attempt
        self._attempts = attempts
        self._worker = worker
        self._threads = threads
        self._until = time.monotonic() + begin_seconds
        self._watch = CpuWatch(cpu_seconds)
        self._stopped = threading.Event()

    @property
    def unfinished(self) -> list[str]:
        """The ids of the jobs whose attempts have not ended, or ended with an exception."""
        return self._watch.unfinished

    def run(self, jobs: Sequence[ScanJob]) -> list[Ending]:
        """Make an attempt at each job, and return their outcomes.

        Raises:
            HungError: An attempt hangs.
            MemoryError: Memory ran out during an attempt. Every running attempt can be the cause.
            Exception: An attempt raised it.
        """
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="scan")
        futures = [pool.submit(self._attempt, job, first=not number) for number, job in enumerate(jobs)]
        try:
            self._await(futures)
        except SoftTimeLimitExceeded:
            self._end(futures)
        except BaseException:
            self._stopped.set()
            raise
        finally:
            # Do not wait for the threads: an attempt may hang.
            pool.shutdown(wait=False, cancel_futures=True)
        return [future.result() for future in futures if not future.cancelled()]

    def _attempt(self, job: ScanJob, *, first: bool) -> Ending:
        if self._stopped.is_set() or (not first and time.monotonic() > self._until):
            return Ending.NOT_BEGUN
        self._watch.begin(job.id)
        known = False
        try:
            ending = self._make_one(job)
            known = True
        except MemoryError:
            known = True  # the ledger must continue to record this attempt as started
            with suppress(redis.RedisError):
                self._attempts.record_error(job.id, tail(traceback.format_exc()))
            raise
        finally:
            self._watch.end(job.id, known=known)
        return ending

    def _await(self, futures: Sequence[Future[Ending]]) -> None:
        """Wait until all attempts have ended. Raise the same errors as `run`."""
        left = set(futures)
        while left:
            ended, left = wait(left, timeout=LOOK_SECONDS, return_when=FIRST_EXCEPTION)
            for future in ended:
                if isinstance(error := future.exception(), MemoryError):
                    raise error
            if overdue := self._watch.overdue():
                self._end(futures, overdue)

    def _end(self, futures: Sequence[Future[Ending]], overdue: Collection[str] = ()) -> None:
        """Begin no more attempts, and wait up to `LAST_SECONDS` for the running ones.

        Args:
            futures: The futures of all attempts.
            overdue: The ids of the jobs whose attempts have exceeded their CPU time. Each of these attempts
                is recorded as hanging if it does not end. If `overdue` is empty, every attempt that does not
                end is recorded as hanging.

        Raises:
            HungError: An attempt hangs.
        """
        self._stopped.set()
        wait(futures, timeout=LAST_SECONDS)
        running = self._watch.running
        hung = {job_id: thread for job_id, thread in running.items() if not overdue or job_id in overdue}
        if not hung:
            return
        try:
            for job_id, thread in hung.items():
                self._attempts.record_error(job_id, _stack(thread))
            # The other attempts raised an exception, or will end with this process. Release them, so that the
            # ledger does not count this worker as lost with their jobs.
            self._attempts.release([job_id for job_id in self.unfinished if job_id not in hung], self._worker)
        except redis.RedisError as error:
            log.warning("the stacks of the hanging scans were not recorded, because Redis failed: %s", error)
        raise HungError(f"{len(hung)} scans hang")


def tail(text: str) -> str:
    """Return the last lines of a traceback, with secrets masked."""
    return masked("\n".join(text.strip().splitlines()[-TRACEBACK_LINES:]))


def _stack(thread: int) -> str:
    """Return the last lines of a thread's stack; empty if the thread has ended."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to get another thread's stack
    return "" if frame is None else tail("".join(traceback.format_stack(frame)))
