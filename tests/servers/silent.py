"""Servers that never answer, as if a firewall or a broken proxy were in front of them."""

import socket
import threading
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


@contextmanager
def closing_server() -> Iterator[tuple[int, list[None]]]:
    """Yield the port of a server that closes each connection at once, and a list with an entry for each."""
    accepted: list[None] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                accepted.append(None)
                connection.close()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], accepted
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
