"""Clients that send or read slowly keep no connection for long."""

import socket
from collections.abc import Callable

import pytest

from keyhole.dashboard import connection
from keyhole.dashboard.web import MOST_CONNECTIONS, bound
from tests.dashboard.conftest import TOKEN, Site

#: Time enough for a request of a test on a busy machine, in seconds.
SHORT = 2.0


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", SHORT)


def connected(site: Site, sent: str) -> socket.socket:
    """A connection on which a client has sent something, and sends no more."""
    made = socket.create_connection(("127.0.0.1", site.port), timeout=60)
    made.sendall(sent.encode())
    return made


def received(made: socket.socket) -> bytes:
    """All that the dashboard sends until it ends the connection."""
    found = b""
    while piece := made.recv(65536):
        found += piece
    return found


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "GET / HTTP/1.1\r\nHost: localhost\r\n",
        "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\ntoken=",
    ],
    ids=["nothing", "half a header", "half a form"],
)
def test_a_request_that_does_not_arrive_is_not_waited_for(start: Callable[..., Site], sent: str) -> None:
    with connected(start(TOKEN), sent) as made:
        assert received(made) == b""


def test_nor_is_the_second_request_of_a_connection(site: Site) -> None:
    with connected(site, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") as made:
        assert made.recv(65536).startswith(b"HTTP/1.1 200 OK")
        made.sendall(b"GET /health HT")
        assert received(made).count(b"HTTP/1.1") == 0


def test_half_requests_on_all_connections_stop_it_only_for_a_while(site: Site) -> None:
    made = [connected(site, "GET / HTTP/1.1\r\n") for _ in range(MOST_CONNECTIONS)]

    for one in made:
        with one:
            assert received(one) == b""

    assert site.get("/health").status == 200


def test_a_stream_goes_on(site: Site) -> None:
    with connected(site, "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n") as made:
        found = b""
        while found.count(b"event: parts") < 3:  # two seconds between two events
            piece = made.recv(65536)
            assert piece
            found += piece


def test_the_kernel_ends_a_connection_whose_client_does_not_read() -> None:
    """Accepted connections inherit this option."""
    with bound("127.0.0.1", 0) as listening:
        found = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert found == connection.UNREAD_SECONDS * 1000
