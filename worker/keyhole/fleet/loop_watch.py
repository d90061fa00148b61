"""Updates the worker's heartbeat file. The worker's event loop writes a heartbeat every second.

A worker is unhealthy if its event loop no longer runs, or if it has held a task for longer than the hard time
limit, which should have ended that task. If S3 or the broker does not answer, the file states this, but the
worker is healthy, because a restart would not help.
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
        #: The text of the heartbeat file while the worker is healthy, for example that S3 does not answer.
        self.status = ""
        #: The time when `_hanging` first saw each request. Celery calls a received task a request.
        self._held_since: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    @cached_property
    def _file(self) -> HeartbeatFile:
        return HeartbeatFile.of_process("worker")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write the first heartbeat. When the `with` block ends, remove the file."""
        with self._file.kept():
            yield

    def beat(self) -> None:
        """Write a heartbeat, which shows that the main thread is running."""
        self._file.beat(self._hanging() or self.status)

    def _hanging(self) -> str:
        """Return a text about a task that has exceeded the hard time limit; empty if there is none."""
        now = time.monotonic()
        began = [self._held_since.setdefault(request, now) for request in state.reserved_requests]
        held, limit = now - min(began, default=now), current_app.conf.task_time_limit
        if held <= limit + STALE_SECONDS:
            return ""
        return f"{UNHEALTHY_PREFIX}has held a task for {held:.0f} s, and the limit is {limit} s"


#: The heartbeat of this worker.
HEARTBEAT: Final = WorkerHeartbeat()


class LoopWatchStep(bootsteps.StartStopStep):  # type: ignore[misc] # Celery has no types
    """The part of Celery's worker that makes the event loop write heartbeats."""

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
