"""Ports for tests: no connection takes them, and no two servers get the same one."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import PORTS, free_port

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
DRAWN = 100
#: A program that draws ports from some, and prints them.
DRAWS = f"""
from tests.ports import PORTS, free_port
print([free_port(PORTS[:1000]) for _ in range({DRAWN})])
"""


def test_outgoing_connections_do_not_take_them() -> None:
    if not OUTGOING.exists():
        pytest.skip("only Linux has this file")
    first, _ = map(int, OUTGOING.read_text().split())

    assert first not in PORTS


def test_no_port_is_returned_twice_not_even_to_another_process() -> None:
    mine = [free_port(PORTS[:1000]) for _ in range(DRAWN)]
    done = subprocess.run([sys.executable, "-c", DRAWS], stdout=subprocess.PIPE, check=True)

    assert len({*mine, *json.loads(done.stdout)}) == 2 * DRAWN


def test_a_server_can_use_a_port_again() -> None:
    port = free_port()
    for _ in range(2):
        with (
            socket.create_server(("127.0.0.1", port)) as server,
            socket.create_connection(server.getsockname()),
        ):
            server.accept()[0].close()
