"""A server that behaves as if a firewall were in front of it: it never answers."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress


@contextmanager
def silent_server(*, swallows: bool = False) -> Iterator[int]:
    """Yield the port of a server that never calls `accept`.

    Args:
        swallows: Whether the server's queue of connections is full, so that packets get no answer. Otherwise
            the system accepts connections.
    """
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0 if swallows else 64))
        for _ in range(4 if swallows else 0):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            with suppress(BlockingIOError):
                waiting.connect(server.getsockname())
        yield server.getsockname()[1]
