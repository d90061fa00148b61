"""Delays a fork of a worker's main process while one of its threads may hold a lock.

A forked process has copies of all locks, but not of the threads that would release them. For example, kombu,
and Python before 3.12, compute cached properties under a lock that belongs to the class. A pool process was
once forked while a thread of the main process created a client of the broker. When the pool process created
its own client, it waited forever for that lock.

Each thread of the main process does its work in a `with GATE.working()` block. A fork waits until no thread
is in such a block, but at most until `PATIENCE` seconds after the last thread entered its block. A thread
that stays in its block longer than that is waiting for an answer from Redis or S3, and holds no such lock.
The event loop, which forks, must not wait for that answer.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: A fork waits for a thread until this many seconds after the thread began its work.
PATIENCE: Final = 1.0


class ForkGate:
    """Ensures that no fork happens while a thread works, and that no thread works during a fork."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Reset the gate in a forked process, which does not have the threads of its parent."""
        self._changed = threading.Condition()
        self._forking = False
        #: The time when each working thread began its work, by the thread's id.
        self._began: dict[int, float] = {}

    @contextmanager
    def working(self) -> Iterator[None]:
        """Do the work of this thread in the `with` block.

        The block waits until no fork is in progress, and a fork waits until the block has ended.
        """
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
        """Wait until no thread is at work, and keep threads from beginning work.

        Python calls this before a fork.
        """
        self._changed.acquire()
        self._forking = True
        while (seconds := self._left()) > 0:
            self._changed.wait(seconds)

    def open(self) -> None:
        """Let threads begin work again. Python calls this after a fork, in the parent process."""
        self._forking = False
        self._changed.notify_all()
        self._changed.release()

    def _left(self) -> float:
        """Return how many more seconds a fork waits for other threads."""
        me = threading.get_ident()
        latest = max((began for thread, began in self._began.items() if thread != me), default=0.0)
        return latest + PATIENCE - time.monotonic()


#: The gate of this process.
GATE: Final = ForkGate()

os.register_at_fork(before=GATE.close, after_in_parent=GATE.open, after_in_child=GATE.forget)
