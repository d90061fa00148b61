"""Ports for the servers of tests that run in parallel."""

import socket


def free_port() -> int:
    """Return a free TCP port of the loopback interface. The system will not assign it again soon."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
