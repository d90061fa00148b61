"""Watches running attempts, and finds the attempts that use more CPU time than the largest budget allows.

A scan normally checks its own budget, and ends when the budget is used up. If a library loops forever, or the
scan has a bug, the scan does not check its budget any more, and the CPU time of its thread exceeds the
budget. This module does not find an attempt that waits forever, because waiting uses no CPU time. The time
limit of the attempt's message ends such an attempt.

On systems without a CPU clock per thread (macOS), this module finds no attempts.
"""

import threading
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Final, NamedTuple

_HAS_CLOCKS: Final = hasattr(time, "pthread_getcpuclockid")


class _Attempt(NamedTuple):
    """A running attempt.

    `clock` is the CPU clock of the thread (`None` on macOS). `began` is the clock's value when the attempt
    began, in seconds.
    """

    thread: int
    clock: int | None
    began: float


class CpuWatch:
    """The attempts that run in this process's threads, identified by their job ids.

    Args:
        cpu_seconds: The CPU time after which an attempt is overdue. It must be higher than the budget of
            every attempt.
    """

    def __init__(self, cpu_seconds: float) -> None:
        self._cpu_seconds = cpu_seconds
        self._lock = threading.Lock()
        self._running: dict[str, _Attempt] = {}
        self._interrupted: list[str] = []

    def begin(self, job_id: str) -> None:
        """Record that the calling thread begins an attempt."""
        thread = threading.get_ident()
        clock = time.pthread_getcpuclockid(thread) if _HAS_CLOCKS else None
        attempt = _Attempt(thread, clock, time.thread_time())
        with self._lock:
            self._running[job_id] = attempt

    def end(self, job_id: str, *, known: bool) -> None:
        """Record that an attempt ended.

        If `known` is false, the outcome of the attempt is unknown, and `unfinished` still contains the job's
        id.
        """
        with self._lock:
            del self._running[job_id]
            if not known:
                self._interrupted.append(job_id)

    @property
    def running(self) -> dict[str, int]:
        """The threads of the running attempts, by the job's id."""
        with self._lock:
            return {job_id: attempt.thread for job_id, attempt in self._running.items()}

    @property
    def unfinished(self) -> list[str]:
        """The ids of the jobs whose attempts are still running or ended with an unknown outcome."""
        with self._lock:
            return [*self._interrupted, *self._running]

    def overdue(self) -> Collection[str]:
        """The ids of the jobs whose running attempts have used more than `cpu_seconds` of CPU time."""
        with self._lock:
            running = dict(self._running)
        return {job_id for job_id, attempt in running.items() if self._used(attempt) > self._cpu_seconds}

    def _used(self, attempt: _Attempt) -> float:
        if attempt.clock is not None:
            with suppress(OSError):  # The system raises OSError if the thread has just ended.
                return time.clock_gettime(attempt.clock) - attempt.began
        return 0.0
