"""Ports for the servers of tests that run in parallel."""

import socket


def free_port() -> int:
    """A port of the loopback that is free, and that the system will not assign again soon."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
