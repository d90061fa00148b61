"""Runs attempts at jobs in threads, and detects attempts that hang.

An attempt is one scan of one job's object. An entry contains the jobs of one message (see the glossary in
`keyhole.jobs.ledger`).

Python cannot end a thread. So if an attempt hangs, the caller of `run` must end the whole process. `run`
first waits a few seconds for the other attempts, and records the stack of each attempt that hangs. Then it
raises `HungError`.
"""

import itertools
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from typing import Any, Final

import redis
from celery.exceptions import SoftTimeLimitExceeded

from keyhole.jobs.attempts import Attempts
from keyhole.jobs.cpu_watch import CpuWatch
from keyhole.jobs.job import ScanJob
from keyhole.masking import masked
from keyhole.store.round_trips import Chain, RoundTrips

log = logging.getLogger(__name__)

#: Seconds between two checks of the running attempts.
LOOK_SECONDS: Final = 1.0
#: After the time limit, or after an attempt hung, the pool waits this many seconds for the running attempts.
LAST_SECONDS: Final = 5.0
#: The maximum number of lines of a traceback that are stored. If a traceback is longer, its last lines are
#: stored.
TRACEBACK_LINES: Final = 12


class HungError(Exception):
    """An attempt used more CPU time than its budget, or did not end within the time limit of its message.

    The caller must end this process, because Python cannot end the attempt's thread.
    """


class Ending(Enum):
    """The outcome of an attempt at a job."""

    DONE = auto()
    UNDECIDED = auto()
    NOT_BEGUN = auto()
    #: The verdict was written, but then Redis was restarted, and it may have lost the verdict.
    UNCERTAIN = auto()


#: An attempt at a job, as a generator. First it yields a chain of steps (`keyhole.store.round_trips`) that
#: records the start of the attempt in Redis. Then it scans the object. Then it yields chains that record the
#: verdict, and returns the outcome of the attempt. The value of each `yield` is the list of the steps'
#: answers. If a step failed, the `yield` raises the step's error.
Attempt = Generator[Chain, list[Any], Ending]


class _Running:
    """An attempt that has yielded a chain and waits for the answer of Redis.

    `future` receives the outcome of the attempt when it ends.
    """

    def __init__(self, job: ScanJob, future: Future[Ending], attempt: Attempt) -> None:
        self.job = job
        self.future = future
        self.attempt = attempt
        self.chain: Chain = ()


class AttemptPool:
    """Runs the attempts at the jobs of one entry.

    When a thread has scanned an object, it takes the next job, and sends a single round trip to Redis. This
    round trip records the verdict on the scanned object and the start of the next attempt. The next scan
    begins only after this round trip, so the verdict is recorded at once.

    Args:
        attempt: Returns an attempt at a job.
        attempts: The ledger's records of attempts.
        round_trips: Sends the chains of the attempts to Redis.
        worker: The name of this process.
        threads: The number of attempts that run in parallel.
        begin_seconds: Attempts begin only during this many seconds after the pool was created. The first
            attempt always begins.
        cpu_seconds: A CPU time in seconds that is longer than every attempt's budget. An attempt that uses
            more CPU time is treated as hanging.
    """

    def __init__(
        self,
        attempt: Callable[[ScanJob], Attempt],
        attempts: Attempts,
        round_trips: RoundTrips,
        *,
        worker: str,
        threads: int,
        begin_seconds: float,
        cpu_seconds: float,
    ) -> None:
        self._make_one = attempt
        self._attempts = attempts
        self._round_trips = round_trips
        self._worker = worker
        self._threads = threads
        self._until = time.monotonic() + begin_seconds
        self._watch = CpuWatch(cpu_seconds)
        self._stopped = threading.Event()
        # The jobs whose attempts have not begun. Each job comes with its index in the entry, counted from 0.
        self._left: deque[tuple[int, ScanJob, Future[Ending]]] = deque()

    @property
    def unfinished(self) -> list[str]:
        """The ids of the jobs whose attempts have not ended, or ended with an exception."""
        return self._watch.unfinished

    def run(self, jobs: Sequence[ScanJob]) -> list[Ending]:
        """Make an attempt at each job, and return their outcomes.

        Raises:
            HungError: An attempt hangs.
            MemoryError: Memory ran out during an attempt. Another running attempt may have used the memory.
            Exception: The error of the first job whose attempt raised an error.
        """
        futures: list[Future[Ending]] = [Future() for _ in jobs]
        self._left.extend(zip(itertools.count(), jobs, futures))
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="scan")
        working = [pool.submit(self._work) for _ in range(min(self._threads, len(jobs)))]
        try:
            self._await(futures, working)
        except SoftTimeLimitExceeded:
            self._end(futures)
        except BaseException:
            self._stopped.set()
            raise
        finally:
            # Do not wait for the threads: an attempt may hang.
            pool.shutdown(wait=False, cancel_futures=True)
        return [future.result() for future in futures]

    def _work(self) -> None:
        """Make one attempt after the other, until no more attempts may begin."""
        scanned, begun = None, self._next()
        while scanned is not None or begun is not None:
            both = [attempt for attempt in (scanned, begun) if attempt is not None]
            answers = self._round_trips.run(*(attempt.chain for attempt in both))
            if scanned is not None:
                self._conclude(scanned, answers.pop(0))
            scanned = None if begun is None else self._advance(begun, answers[0])
            begun = self._next()

    def _next(self) -> _Running | None:
        """Begin the next attempt; return `None` if no attempt may begin."""
        while True:
            try:
                number, job, future = self._left.popleft()
            except IndexError:
                return None
            if self._stopped.is_set() or (number and time.monotonic() > self._until):
                future.set_result(Ending.NOT_BEGUN)
                continue
            self._watch.begin(job.id)
            begun = self._advance(_Running(job, future, self._make_one(job)), None)
            if begun is not None:
                return begun

    def _conclude(self, scanned: _Running, answer: Any) -> None:  # noqa: ANN401 - depends on the scripts
        """Continue an attempt after its scan until it ends.

        If it yields another chain, send that chain in a separate round trip.
        """
        left = self._advance(scanned, answer)
        while left is not None:
            (answer,) = self._round_trips.run(left.chain)
            left = self._advance(left, answer)

    def _advance(self, running: _Running, answer: Any) -> _Running | None:  # noqa: ANN401 - as above
        """Continue an attempt with the answer to its last chain.

        Return the attempt if it yields another chain, and `None` if it ends.
        """
        known = False
        try:
            if isinstance(answer, BaseException):
                running.chain = running.attempt.throw(answer)
            else:
                running.chain = running.attempt.send(answer)
        except StopIteration as end:
            known = True
            outcome = partial(running.future.set_result, end.value)
        except BaseException as error:  # noqa: BLE001 - `run` raises it
            if isinstance(error, MemoryError):
                # If `known` is true, `unfinished` does not contain the job. So the caller does not release
                # the attempt, and the ledger continues to record it as started.
                known = True
                with suppress(redis.RedisError):
                    self._attempts.record_error(running.job.id, tail(traceback.format_exc()))
            outcome = partial(running.future.set_exception, error)
        else:
            return running
        self._watch.end(running.job.id, known=known)
        outcome()
        return None

    def _await(self, futures: Sequence[Future[Ending]], working: Sequence[Future[None]]) -> None:
        """Wait until all attempts have ended. Raise the same errors as `run`.

        Args:
            futures: The futures of all attempts.
            working: The futures of the threads. If a thread fails outside an attempt, raise its error.
                Otherwise this method would wait forever, because a thread that failed does not finish its
                attempts.
        """
        left = set(futures)
        while left:
            ended, left = wait(left, timeout=LOOK_SECONDS, return_when=FIRST_EXCEPTION)
            for future in ended:
                if isinstance(error := future.exception(), MemoryError):
                    raise error
            for thread in working:
                if thread.done():
                    thread.result()
            if overdue := self._watch.overdue():
                self._end(futures, overdue)

    def _end(self, futures: Sequence[Future[Ending]], overdue: Collection[str] = ()) -> None:
        """Begin no more attempts, and wait up to `LAST_SECONDS` for the running attempts.

        Args:
            futures: The futures of all attempts.
            overdue: The ids of the jobs whose attempts have exceeded their CPU time. Each of these attempts
                is recorded as hanging if it does not end. If `overdue` is empty, every attempt that does not
                end is recorded as hanging.

        Raises:
            HungError: An attempt hangs.
        """
        self._stopped.set()
        self._next()  # after `_stopped` is set, this call gives every remaining job the outcome `NOT_BEGUN`
        wait(futures, timeout=LAST_SECONDS)
        running = self._watch.running
        hung = {job_id: thread for job_id, thread in running.items() if not overdue or job_id in overdue}
        if not hung:
            return
        try:
            for job_id, thread in hung.items():
                self._attempts.record_error(job_id, _stack(thread))
            # Release the remaining attempts. They raised an exception, or will end with this process, but
            # they are not the reason why this process ends. If they were not released, the ledger would count
            # this worker as lost during each of them.
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
