"""A proxy that passes bytes on unchanged in both directions, and records every request.

It counts the requests to a server that has no Python code and no log of requests. It changes nothing, not
even `Host`, so signatures stay valid. It cannot parse requests with a chunked body. boto3 and obstore send no
such requests to a server without TLS.
"""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import parse_headers
from io import BytesIO
from urllib.parse import urlsplit

from tests.servers.request import Request
from tests.servers.serving import serving

PIECE_BYTES = 64 * 1024


class Requests:
    """Finds the requests in one client's bytes, which can arrive in pieces of every size."""

    def __init__(self) -> None:
        self._bytes = b""
        self._body_left = 0

    def feed(self, data: bytes) -> Iterator[Request]:
        """Return the requests whose headers end in these bytes."""
        self._bytes += data
        while True:
            passed = min(self._body_left, len(self._bytes))
            self._bytes, self._body_left = self._bytes[passed:], self._body_left - passed
            line, _, rest = self._bytes.partition(b"\r\n")
            if self._body_left or b"\r\n\r\n" not in self._bytes:
                return
            reader = BytesIO(rest)
            headers = dict(parse_headers(reader))
            self._bytes = reader.read()
            assert "transfer-encoding" not in {name.lower() for name in headers}, (
                f"{line!r} has a chunked body"
            )
            method, target, _ = line.decode().split(" ")
            request = Request.of(method, target, headers)
            self._body_left = int(request.headers.get("content-length", 0))
            yield request


class RecordingProxy:
    """The proxy's records. It calls `before` for each request before passing it on."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.url = ""
        self.reset()

    def reset(self) -> None:
        """Clear the records, and remove `before`."""
        self.requests: list[Request] = []
        self.before: Callable[[Request], object] = lambda _: None


class _Handler(socketserver.BaseRequestHandler):
    proxy: RecordingProxy
    request: socket.socket

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection(self.proxy.upstream) as upstream:
            for end in (self.request, upstream):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answers = threading.Thread(target=self._pass_answers, args=(upstream,), daemon=True)
            answers.start()
            with _closing_both(self.request, upstream):
                requests = Requests()
                while data := self.request.recv(PIECE_BYTES):
                    for request in requests.feed(data):
                        self.proxy.requests.append(request)
                        self.proxy.before(request)
                    upstream.sendall(data)
            answers.join()

    def _pass_answers(self, upstream: socket.socket) -> None:
        with suppress(OSError), _closing_both(self.request, upstream):
            while data := upstream.recv(PIECE_BYTES):
                self.request.sendall(data)


@contextmanager
def _closing_both(*ends: socket.socket) -> Iterator[None]:
    """When one of two sockets closes, close the other one too."""
    try:
        yield
    finally:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


@contextmanager
def recording_proxy(url: str) -> Iterator[RecordingProxy]:
    """Run the proxy for the server at `url`, in threads, on a free port of the loopback interface."""
    upstream = urlsplit(url)
    proxy = RecordingProxy((str(upstream.hostname), int(str(upstream.port))))
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    with serving(server):
        yield proxy
