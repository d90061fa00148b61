"""The worker's sign of life: its event loop gives it every second, and it says when work hangs.

A worker is not well if its loop does not turn, or if it holds a task for longer than the hard limit, which
should have ended it. That S3 or the broker is away is said, but is no reason to restart it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final
from weakref import WeakKeyDictionary

from celery import bootsteps, current_app
from celery.worker import state

from keyhole.health import LATELY, UNWELL, SignOfLife

#: Seconds from one sign to the next.
EVERY: Final = 1.0


class WorkerSign:
    """The sign of the worker's main process."""

    def __init__(self) -> None:
        #: What there is to say of a worker that is well.
        self.note = ""
        self._held_since: WeakKeyDictionary[Any, float] = WeakKeyDictionary()  # by Celery's request

    @cached_property
    def _sign(self) -> SignOfLife:
        return SignOfLife.of_process("worker")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Give the first sign, and take it away in the end."""
        with self._sign.shown():
            yield

    def give(self) -> None:
        """Give a sign: the main thread is alive."""
        self._sign.give(self._hanging() or self.note)

    def _hanging(self) -> str:
        """What is said of a task that has outlived the hard limit; empty if there is none."""
        now = time.monotonic()
        began = [self._held_since.setdefault(request, now) for request in state.reserved_requests]
        held, limit = now - min(began, default=now), current_app.conf.task_time_limit
        if held <= limit + LATELY:
            return ""
        return f"{UNWELL}has held a task for {held:.0f} s, and the limit is {limit} s"


#: This worker's.
SIGN: Final = WorkerSign()


class LoopWatchStep(bootsteps.StartStopStep):  # type: ignore[misc] # Celery has no types
    """Has the event loop give signs of life."""

    requires = ("celery.worker.components:Hub",)

    def __init__(self, parent: Any, **options: Any) -> None:  # noqa: ANN401 - Celery has no types
        super().__init__(parent, **options)
        self._timer: Any = None

    def start(self, parent: Any) -> None:  # noqa: ANN401 - as above
        """Start the timer, before the worker looks for its broker."""
        self._timer = parent.timer.call_repeatedly(EVERY, SIGN.give)

    def stop(self, parent: Any) -> None:  # noqa: ANN401, ARG002 - Celery's signature
        """Stop it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
