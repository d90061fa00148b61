"""What speaks at the other end of a connection that failed: TLS where none was expected, or the reverse.

Both ends wait for each other then, or one hangs up without a word, so the error alone does not tell.
"""

import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

#: Seconds for a look, of which there is one for a URL.
LOOK_SECONDS: Final = 0.5
_TLS: Final = frozenset({"rediss", "amqps"})
_PORTS: Final = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}
#: What a server that speaks no TLS answers at once: a PING, and AMQP's own header.
_GREETINGS: Final = {"rediss": b"PING\r\n", "amqps": b"AMQP\x00\x00\x09\x01"}


def other_end(url: str) -> str:
    """What to do if TLS is spoken on one end alone, to follow an error's text; empty if that is not it.

    Nothing of the URL but its place is sent.
    """
    try:
        parts = urlsplit(url)
        scheme, place = parts.scheme, (parts.hostname or "localhost", parts.port or _PORTS[parts.scheme])
    except (ValueError, KeyError):
        return ""
    if scheme in _TLS:
        plain = scheme[:-1]
        return f"; the server there speaks no TLS: write {plain}://" if _greets(place, scheme) else ""
    return f"; the server there speaks TLS: write {scheme}s://" if _shakes_hands(place) else ""


def _greets(place: tuple[str, int], scheme: str) -> bool:
    """Return whether a server answers without TLS."""
    try:
        with socket.create_connection(place, LOOK_SECONDS) as connection:
            connection.sendall(_GREETINGS[scheme])
            answer = connection.recv(1)
    except OSError:
        return False
    # Redis says +PONG or -NOAUTH; AMQP begins with a frame of type 1, or says AMQP. An alert of TLS is 0x15.
    return answer in {b"+", b"-", b"\x01", b"A"}


def _shakes_hands(place: tuple[str, int]) -> bool:
    """Return whether a server answers by TLS, whoever it is: it is told nothing."""
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
