"""Ports for servers of tests that run side by side."""

import socket


def free_port() -> int:
    """A port of loopback that the system gave to nobody else, and does not give again soon."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
