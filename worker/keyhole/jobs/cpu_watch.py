"""The watch over attempts that run: which of them has used more CPU time than any that heeds its budget.

Budgets end a scan from within. One that does not ask its budget any more, for it loops in a library or has a
bug, is found from outside by the CPU time of its thread. One that only waits ends at the time limit of its
message.

Where the system has no clocks of threads (macOS), none is found.
"""

import threading
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Final, NamedTuple

_HAS_CLOCKS: Final = hasattr(time, "pthread_getcpuclockid")


class _Attempt(NamedTuple):
    """The thread of an attempt, the clock of its CPU time if it has one, and what that showed at first."""

    thread: int
    clock: int | None
    began: float


class CpuWatch:
    """The attempts that run in this process's threads, by the ids of their jobs.

    Args:
        cpu_seconds: What no attempt uses that heeds its budget.
    """

    def __init__(self, cpu_seconds: float) -> None:
        self._cpu_seconds = cpu_seconds
        self._lock = threading.Lock()
        self._running: dict[str, _Attempt] = {}
        self._interrupted: list[str] = []

    def begin(self, job_id: str) -> None:
        """Note that this thread begins an attempt."""
        thread = threading.get_ident()
        clock = time.pthread_getcpuclockid(thread) if _HAS_CLOCKS else None
        attempt = _Attempt(thread, clock, time.thread_time())
        with self._lock:
            self._running[job_id] = attempt

    def end(self, job_id: str, *, known: bool) -> None:
        """Note that an attempt ended, and whether it is known how; it is not if the attempt raised."""
        with self._lock:
            del self._running[job_id]
            if not known:
                self._interrupted.append(job_id)

    @property
    def running(self) -> dict[str, int]:
        """The jobs whose attempts have not ended, and their threads."""
        with self._lock:
            return {job_id: attempt.thread for job_id, attempt in self._running.items()}

    @property
    def unfinished(self) -> list[str]:
        """The jobs whose attempts have raised or have not ended."""
        with self._lock:
            return [*self._interrupted, *self._running]

    def overdue(self) -> Collection[str]:
        """The jobs whose attempts have used too much."""
        with self._lock:
            running = dict(self._running)
        return {job_id for job_id, attempt in running.items() if self._used(attempt) > self._cpu_seconds}

    def _used(self, attempt: _Attempt) -> float:
        if attempt.clock is not None:
            with suppress(OSError):  # the thread has just ended
                return time.clock_gettime(attempt.clock) - attempt.began
        return 0.0
