"""Finds out whether a connection failed because only the client or only the server uses TLS.

If only one side uses TLS, client and server wait for each other, or one side closes the connection without a
message. The connection's error therefore does not name the cause.
"""

import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

#: The timeout in seconds for the test of a server.
LOOK_SECONDS: Final = 0.5
_TLS: Final = frozenset({"rediss", "amqps"})
_PORTS: Final = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}
#: Messages that a server without TLS answers immediately: a PING for Redis, and the protocol header for AMQP.
_GREETINGS: Final = {"rediss": b"PING\r\n", "amqps": b"AMQP\x00\x00\x09\x01"}


def other_end(url: str) -> str:
    """Return advice if only the client or only the server uses TLS, otherwise an empty text.

    The caller appends the advice to its error message.

    The test uses the URL's scheme, host and port, and sends no password.
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
    """Return whether a server answers a message that was sent without TLS."""
    try:
        with socket.create_connection(place, LOOK_SECONDS) as connection:
            connection.sendall(_GREETINGS[scheme])
            answer = connection.recv(1)
    except OSError:
        return False
    # Redis answers +PONG or -NOAUTH. An AMQP server answers with a frame of type 1, or with the text AMQP. A
    # TLS server would answer with an alert, whose first byte is 0x15.
    return answer in {b"+", b"-", b"\x01", b"A"}


def _shakes_hands(place: tuple[str, int]) -> bool:
    """Return whether a server completes a TLS handshake.

    The certificate is not verified, because no data are sent.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(place, LOOK_SECONDS) as connection,
            context.wrap_socket(connection),
        ):
            return True
    except OSError:  # this includes ssl.SSLError
        return False
