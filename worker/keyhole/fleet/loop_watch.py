"""The worker's heartbeat file: its event loop touches it every second, and writes into it if a task hangs.

A worker is unhealthy if its event loop stands still, or if it holds a task for longer than the hard limit,
which should have ended the task. If S3 or the broker does not answer, the file says so, but the worker
is healthy: a restart would not help.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final
from weakref import WeakKeyDictionary

from celery import bootsteps, current_app
from celery.worker import state

from keyhole.health import STALE_SECONDS, UNHEALTHY_PREFIX, HeartbeatFile

#: Seconds from one heartbeat to the next.
EVERY: Final = 1.0


class WorkerHeartbeat:
    """The heartbeat of the worker's main process."""

    def __init__(self) -> None:
        #: The text of a healthy worker.
        self.status = ""
        self._held_since: WeakKeyDictionary[Any, float] = WeakKeyDictionary()  # by Celery's request

    @cached_property
    def _file(self) -> HeartbeatFile:
        return HeartbeatFile.of_process("worker")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Send the first heartbeat, and remove the file in the end."""
        with self._file.kept():
            yield

    def beat(self) -> None:
        """Send a heartbeat: the main thread is alive."""
        self._file.beat(self._hanging() or self.status)

    def _hanging(self) -> str:
        """The text about a task that has outlived the hard limit; empty if there is none."""
        now = time.monotonic()
        began = [self._held_since.setdefault(request, now) for request in state.reserved_requests]
        held, limit = now - min(began, default=now), current_app.conf.task_time_limit
        if held <= limit + STALE_SECONDS:
            return ""
        return f"{UNHEALTHY_PREFIX}has held a task for {held:.0f} s, and the limit is {limit} s"


#: The heartbeat of this worker.
HEARTBEAT: Final = WorkerHeartbeat()


class LoopWatchStep(bootsteps.StartStopStep):  # type: ignore[misc] # Celery has no types
    """Has the event loop send heartbeats."""

    requires = ("celery.worker.components:Hub",)

    def __init__(self, parent: Any, **options: Any) -> None:  # noqa: ANN401 - Celery has no types
        super().__init__(parent, **options)
        self._timer: Any = None

    def start(self, parent: Any) -> None:  # noqa: ANN401 - as above
        """Start the timer, before the worker connects to its broker."""
        self._timer = parent.timer.call_repeatedly(EVERY, HEARTBEAT.beat)

    def stop(self, parent: Any) -> None:  # noqa: ANN401, ARG002 - Celery's signature
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
