"""Watches running attempts, and finds those that use more CPU time than any budget allows.

A scan checks its budget itself. If it does not, because it loops in a library or has a bug, the CPU time of
its thread shows that. An attempt that only waits ends at the time limit of its message.

If the system has no clocks for threads (macOS), no attempt is found.
"""

import threading
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Final, NamedTuple

_HAS_CLOCKS: Final = hasattr(time, "pthread_getcpuclockid")


class _Attempt(NamedTuple):
    """The thread of an attempt, the clock of its CPU time if there is one, and that clock's first reading."""

    thread: int
    clock: int | None
    began: float


class CpuWatch:
    """The attempts that run in this process's threads, by the ids of their jobs.

    Args:
        cpu_seconds: More CPU time than any attempt may use by its budget.
    """

    def __init__(self, cpu_seconds: float) -> None:
        self._cpu_seconds = cpu_seconds
        self._lock = threading.Lock()
        self._running: dict[str, _Attempt] = {}
        self._interrupted: list[str] = []

    def begin(self, job_id: str) -> None:
        """Record that this thread begins an attempt."""
        thread = threading.get_ident()
        clock = time.pthread_getcpuclockid(thread) if _HAS_CLOCKS else None
        attempt = _Attempt(thread, clock, time.thread_time())
        with self._lock:
            self._running[job_id] = attempt

    def end(self, job_id: str, *, known: bool) -> None:
        """Record that an attempt ended. `known` is false if it raised, so that its outcome is unknown."""
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
        """The jobs whose attempts have used too much CPU time."""
        with self._lock:
            running = dict(self._running)
        return {job_id for job_id, attempt in running.items() if self._used(attempt) > self._cpu_seconds}

    def _used(self, attempt: _Attempt) -> float:
        if attempt.clock is not None:
            with suppress(OSError):  # the thread has just ended
                return time.clock_gettime(attempt.clock) - attempt.began
        return 0.0
