"""Deadlines for whole requests of HTTP clients.

The timeouts of urllib3 and botocore limit only each wait for the next bytes, so a server that sends one byte
a second can keep a request running for ever. This module limits the whole request. While a deadline is set,
every connection that the request uses registers here. When the time is over, the module shuts down the
sockets of these connections. This ends all waits at once: for a handshake, for headers, and for the body. One
thread watches all deadlines of a process.

    with deadline(5.0) as timer:
        client.get_object(...)["Body"].read()
    # If the request failed because of the deadline, timer.expired is true.
"""

import heapq
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Deadline:
    """The deadline of one thread's request, and the connections that the request uses."""

    def __init__(self) -> None:
        self.expired = False
        self.is_over = False
        self._lock = threading.Lock()
        self._connections: list[Any] = []  # botocore's connections have no common type

    def note(self, connection: Any) -> None:  # noqa: ANN401 - as above
        """Register a connection that the request uses."""
        with self._lock:
            self._connections.append(connection)
            if self.expired:
                _shut_down(connection)

    def end(self) -> None:
        """Cancel the deadline, because the request has ended."""
        with self._lock:
            self.is_over = True
            self._connections.clear()

    def expire(self) -> None:
        """Shut down all connections of the request, and the connections that it opens later."""
        with self._lock:
            if self.is_over:
                return
            self.expired = True
            for connection in self._connections:
                _shut_down(connection)


class _Watch:
    """The deadlines of a process, in the order of their times, and the thread that makes them expire.

    A deadline that has ended stays in the queue until it is the first. This costs little memory, because a
    deadline is small and stays at most as long as the time budget of a scan.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._deadlines: list[tuple[float, int, Deadline]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def add(self, deadline: Deadline, seconds: float) -> None:
        """Make a deadline expire after `seconds` seconds."""
        entry = (time.monotonic() + seconds, next(self._numbers), deadline)
        with self._changed:
            heapq.heappush(self._deadlines, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._thread.start()
            elif self._deadlines[0] is entry:
                self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._deadlines:
                    self._changed.wait()
                at, _, deadline = self._deadlines[0]
                left = at - time.monotonic()
                if left > 0 and not deadline.is_over:
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                    continue
                heapq.heappop(self._deadlines)
            deadline.expire()


_watch = _Watch()


def _watch_anew() -> None:
    """Drop all deadlines in a forked process: the thread that watches them exists only in the parent."""
    global _watch  # noqa: PLW0603 - one per process is the point
    _watch = _Watch()


os.register_at_fork(after_in_child=_watch_anew)


class Abort:
    """Ends the requests of one thread from another thread; see `abortable`."""

    def __init__(self) -> None:
        self.is_aborted = False
        self._lock = threading.Lock()
        self._deadline: Deadline | None = None

    def note(self, deadline: Deadline) -> None:
        """Register the deadline of the thread's next request."""
        with self._lock:
            self._deadline = deadline
            if self.is_aborted:
                deadline.expire()

    def abort(self) -> None:
        """End the request that is under way, and all later requests, as if their deadlines were over."""
        with self._lock:
            self.is_aborted = True
            if self._deadline is not None:
                self._deadline.expire()


class _Local(threading.local):
    deadline: Deadline | None = None
    abort: Abort | None = None


_current = _Local()


@contextmanager
def deadline(seconds: float) -> Iterator[Deadline]:
    """Limit this thread's requests to `seconds` seconds from now; `inf` means no limit.

    The limit applies only to connections that are `HeedsDeadlines`. `keyhole.sources.s3_deadline` makes the
    connections of a boto3 client obey deadlines.
    """
    bound = Deadline()
    if _current.abort is not None:
        _current.abort.note(bound)
    _watch.add(bound, seconds)
    _current.deadline = bound
    try:
        yield bound
    finally:
        _current.deadline = None
        bound.end()


@contextmanager
def abortable(abort: Abort) -> Iterator[None]:
    """Let another thread end the requests that have a deadline and that this thread makes in the block."""
    _current.abort = abort
    try:
        yield
    finally:
        _current.abort = None


def current() -> Deadline | None:
    """Return the deadline of this thread's request; `None` if there is none."""
    return _current.deadline


def _shut_down(connection: Any) -> None:  # noqa: ANN401 - as above
    sock = getattr(connection, "sock", None)
    if isinstance(sock, socket.socket):
        with suppress(OSError):
            # Call the method of the plain socket. A TLS socket's own method would first remove its TLS
            # object, which another thread may be using to read.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class HeedsDeadlines:
    """A connection that registers with the deadline of its thread for every request."""

    def connect(self) -> None:
        """Connect; see urllib3."""
        self._note()
        super().connect()  # type: ignore[misc] # a mixin of connections

    def request(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - passed on
        """Send a request; see urllib3."""
        self._note()
        return super().request(*args, **options)  # type: ignore[misc] # as above

    def _note(self) -> None:
        if _current.deadline is not None:
            _current.deadline.note(self)
