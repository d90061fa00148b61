"""Lets a worker fork only while none of its threads is in the middle of something.

A forked process has copies of all locks, and not the threads that would release them. kombu, and Python
before 3.12, compute cached properties under locks of a class: a process that was forked while a thread made
a client of the broker waited forever when it made its own.

Threads of a worker's main process do their work inside `GATE.working`. A fork waits until none is inside, but
for `PATIENCE` seconds at most: a thread that takes longer waits for an answer from Redis or S3, and holds no
such lock meanwhile. The event loop, which forks, must not wait for that answer.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Seconds that a fork waits for a thread, from the moment when the thread began.
PATIENCE: Final = 1.0


class ForkGate:
    """Keeps forks and the work of threads apart."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: in a forked process, the threads that are inside do not exist."""
        self._changed = threading.Condition()
        self._forking = False
        #: When each thread that is inside began, by its id.
        self._began: dict[int, float] = {}

    @contextmanager
    def working(self) -> Iterator[None]:
        """Do work in a thread. It does not begin during a fork, and a fork waits until it has ended."""
        me = threading.get_ident()
        if me in self._began:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._forking)
            self._began[me] = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                del self._began[me]
                self._changed.notify_all()

    def close(self) -> None:
        """Before a fork: wait until no thread is inside, and let none in or out."""
        self._changed.acquire()
        self._forking = True
        while (seconds := self._left()) > 0:
            self._changed.wait(seconds)

    def open(self) -> None:
        """After a fork, in the process that forked."""
        self._forking = False
        self._changed.notify_all()
        self._changed.release()

    def _left(self) -> float:
        """Return the most seconds to wait for other threads."""
        me = threading.get_ident()
        latest = max((began for thread, began in self._began.items() if thread != me), default=0.0)
        return latest + PATIENCE - time.monotonic()


#: The gate of this process.
GATE: Final = ForkGate()

os.register_at_fork(before=GATE.close, after_in_parent=GATE.open, after_in_child=GATE.forget)
