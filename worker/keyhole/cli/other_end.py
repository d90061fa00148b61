"""Finds out whether a connection failed because only one end uses TLS.

In that case both ends wait for each other, or one closes the connection silently, so the error does not show
it.
"""

import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

#: Seconds for the test of a URL.
LOOK_SECONDS: Final = 0.5
_TLS: Final = frozenset({"rediss", "amqps"})
_PORTS: Final = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}
#: Messages that a server without TLS answers immediately: a PING, and AMQP's own header.
_GREETINGS: Final = {"rediss": b"PING\r\n", "amqps": b"AMQP\x00\x00\x09\x01"}


def other_end(url: str) -> str:
    """Return advice to add to an error's message if only one end uses TLS; else an empty text.

    Only the URL's host and port are used.
    """
    try:
        parts = urlsplit(url)
        scheme, place = parts.scheme, (parts.hostname or "localhost", parts.port or _PORTS[parts.scheme])
    except (ValueError, KeyError):
        return ""
    if scheme in _TLS:
        plain = scheme[:-1]
        return f"; the server does not speak TLS: write {plain}://" if _greets(place, scheme) else ""
    return f"; the server speaks TLS: write {scheme}s://" if _shakes_hands(place) else ""


def _greets(place: tuple[str, int], scheme: str) -> bool:
    """Return whether a server answers without TLS."""
    try:
        with socket.create_connection(place, LOOK_SECONDS) as connection:
            connection.sendall(_GREETINGS[scheme])
            answer = connection.recv(1)
    except OSError:
        return False
    # Redis answers +PONG or -NOAUTH; AMQP sends a frame of type 1, or AMQP. A TLS alert is 0x15.
    return answer in {b"+", b"-", b"\x01", b"A"}


def _shakes_hands(place: tuple[str, int]) -> bool:
    """Return whether a server answers with TLS. Its certificate is not checked: it is sent nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(place, LOOK_SECONDS) as connection,
            context.wrap_socket(connection),
        ):
            return True
    except OSError:  # ssl.SSLError is one
        return False
