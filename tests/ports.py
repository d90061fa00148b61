"""Ports for the servers of tests that run in parallel."""

import random
import socket
from collections.abc import Sequence
from typing import Final

#: The ports for servers. The system takes the ports of outgoing connections from a range above them, which
#: begins at 32768 on Linux and at 49152 elsewhere. From that range, a connection could take the port of a
#: server that is not started yet, or that a test stops and starts again.
PORTS: Final = range(10_000, 32_768)


def free_port(ports: Sequence[int] = PORTS) -> int:
    """Return a free TCP port of the loopback interface. Until this process ends, no other call returns it.

    As a reservation, this process keeps the UDP port of the same number.
    """
    while True:
        port = random.choice(ports)  # noqa: S311 - not a secret
        with socket.socket() as server, socket.socket(type=socket.SOCK_DGRAM) as reservation:
            try:
                reservation.bind(("127.0.0.1", port))
                server.bind(("127.0.0.1", port))
            except OSError:
                continue
            reservation.detach()
            return port
