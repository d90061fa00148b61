"""Deadlines for whole requests of a boto3 client.

botocore's timeouts bound each wait for the next bytes, so a server that sends one byte a second keeps a
request alive for ever. Here every connection that a request uses is noted while a deadline is set, and at the
deadline a timer shuts their sockets down: whatever waits for bytes then ends at once, be it for a handshake,
for headers or for the body.

    with deadline(5.0) as timer:
        client.get_object(...)["Body"].read()
    # timer.expired tells whether an error came of that
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.client import BaseClient


class Deadline:
    """The connections of one thread's request, and whether its time is up."""

    def __init__(self) -> None:
        self.expired = False
        self._lock = threading.Lock()
        self._connections: list[Any] = []  # botocore's connections have no common type

    def note(self, connection: Any) -> None:  # noqa: ANN401 - as above
        """Note a connection that the request uses."""
        with self._lock:
            self._connections.append(connection)
            if self.expired:
                _shut_down(connection)

    def expire(self) -> None:
        """Shut down all that the request uses, and will use."""
        with self._lock:
            self.expired = True
            for connection in self._connections:
                _shut_down(connection)


class _Local(threading.local):
    deadline: Deadline | None = None


_current = _Local()


@contextmanager
def deadline(seconds: float) -> Iterator[Deadline]:
    """Bound all that this thread asks of a client with deadlines by so many seconds from now, or by `inf`."""
    bound = Deadline()
    timer = threading.Timer(min(max(seconds, 0), threading.TIMEOUT_MAX), bound.expire)
    timer.daemon = True
    timer.start()
    _current.deadline = bound
    try:
        yield bound
    finally:
        _current.deadline = None
        timer.cancel()


def add_deadlines(client: BaseClient) -> None:
    """Let the connections of a client heed deadlines. Call it before the client's first request."""
    # The dict that botocore's session gives to all of its pool managers, those of proxies included; there is
    # no public way to it.
    endpoint = client._endpoint  # type: ignore[attr-defined] # noqa: SLF001 - as said
    pools = endpoint.http_session._pool_classes_by_scheme  # noqa: SLF001 - as said
    pools.update({"http": _Pool, "https": _SecurePool})


def _shut_down(connection: Any) -> None:  # noqa: ANN401 - as above
    sock = getattr(connection, "sock", None)
    if isinstance(sock, socket.socket):
        with suppress(OSError):
            # The plain socket's own: that of a TLS socket would first take away what another thread reads by.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _HeedsDeadlines:
    """A connection that notes itself with the deadline of its thread, whenever it is used."""

    def connect(self) -> None:
        self._note()
        super().connect()  # type: ignore[misc] # a mixin of connections

    def request(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - passed on
        self._note()
        return super().request(*args, **options)  # type: ignore[misc] # as above

    def _note(self) -> None:
        if _current.deadline is not None:
            _current.deadline.note(self)


class _Connection(_HeedsDeadlines, AWSHTTPConnection):  # type: ignore[misc] # botocore's, as is the next
    """Over plain TCP."""


class _SecureConnection(_HeedsDeadlines, AWSHTTPSConnection):  # type: ignore[misc] # botocore's
    """Over TLS."""


class _Pool(AWSHTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(AWSHTTPSConnectionPool):
    ConnectionCls = _SecureConnection
