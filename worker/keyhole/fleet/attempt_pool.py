"""Runs attempts at jobs, several at once, and deals with those that do not end.

A thread cannot be ended. So if an attempt does not end, its process must. Before that, the other attempts get
a moment to end, and the one that hangs is recorded.
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
#: Seconds that attempts have to end at the time limit, or if another one hangs.
LAST_SECONDS: Final = 5.0
#: How many lines of a traceback are kept, from its end.
TRACEBACK_LINES: Final = 12


class HungError(Exception):
    """Attempts do not end in spite of their budgets. The process must end itself."""


class Ending(Enum):
    """How an attempt at a job ended."""

    DONE = auto()
    UNDECIDED = auto()
    NOT_BEGUN = auto()
    #: Redis was restarted, and may have lost the verdict.
    UNCERTAIN = auto()


class AttemptPool:
    """Runs the attempts at the jobs of one entry.

    Args:
        attempt: Makes one attempt.
        attempts: The attempts in the ledger.
        worker: The name of this process.
        threads: How many attempts run at once.
        begin_seconds: How many seconds from now the last attempt may begin.
        cpu_seconds: More CPU time than any attempt may use by its budget.
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
        """The jobs whose attempts have raised or have not ended."""
        return self._watch.unfinished

    def run(self, jobs: Sequence[ScanJob]) -> list[Ending]:
        """Attempt all jobs. The first one is always begun.

        Raises:
            HungError: Attempts do not end.
            MemoryError: Memory ran out. It is unknown which attempt caused that.
            Exception: The error of an attempt.
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
            # Do not wait: an attempt may hang.
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
            known = True  # and the attempt stays recorded as started
            with suppress(redis.RedisError):
                self._attempts.record_error(job.id, tail(traceback.format_exc()))
            raise
        finally:
            self._watch.end(job.id, known=known)
        return ending

    def _await(self, futures: Sequence[Future[Ending]]) -> None:
        """Wait until all attempts have ended; raises as `run` does."""
        left = set(futures)
        while left:
            ended, left = wait(left, timeout=LOOK_SECONDS, return_when=FIRST_EXCEPTION)
            for future in ended:
                if isinstance(error := future.exception(), MemoryError):
                    raise error
            if overdue := self._watch.overdue():
                self._end(futures, overdue)

    def _end(self, futures: Sequence[Future[Ending]], overdue: Collection[str] = ()) -> None:
        """Begin no more attempts, and wait a moment for the running ones.

        Args:
            futures: The futures of all attempts.
            overdue: The jobs that are recorded as hanging if they do not end; by default, all that run.

        Raises:
            HungError: An attempt does not end.
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
            # The other attempts have raised, or end because this process ends: they must not count as lost.
            self._attempts.release([job_id for job_id in self.unfinished if job_id not in hung], self._worker)
        except redis.RedisError as error:
            log.warning("the stacks of hanging scans cannot be recorded: %s", error)
        raise HungError(f"{len(hung)} scans did not end")


def tail(text: str) -> str:
    """The end of a traceback, with secrets masked."""
    return masked("\n".join(text.strip().splitlines()[-TRACEBACK_LINES:]))


def _stack(thread: int) -> str:
    """The stack of a thread."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to another thread's stack
    return "" if frame is None else tail("".join(traceback.format_stack(frame)))
