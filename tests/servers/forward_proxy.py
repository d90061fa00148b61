"""A forward proxy like those in companies. It accepts absolute URLs and CONNECT, and records each request.

It sends all requests to the server that it was started with, so host names need not resolve. If `bucket_in`
is a host, the proxy moves the bucket's name from the host name into the path, as S3 servers with virtual
hosting do.
"""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import parse_headers
from urllib.parse import urlsplit

from tests.servers.serving import serving

PIECE_BYTES = 64 * 1024


class ForwardProxy:
    """The proxy's records: the URLs that clients requested, and the `host:port` of each CONNECT."""

    def __init__(self, upstream: str | None, bucket_in: str | None) -> None:
        place = urlsplit(upstream or "")
        #: `None` if the proxy refuses all requests.
        self.upstream = (str(place.hostname), int(place.port or 0)) if upstream else None
        self.bucket_in = bucket_in
        self.url = ""
        self.asked: list[str] = []
        self.authorizations: list[str] = []

    def path(self, url: str) -> str:
        """Return the path to request from the server."""
        place = urlsplit(url)
        path = url.partition("://")[2].partition("/")[2]
        bucket = str(place.hostname).removesuffix(f".{self.bucket_in}")
        return f"/{bucket}/{path}" if self.bucket_in and bucket != place.hostname else f"/{path}"


class _Handler(socketserver.StreamRequestHandler):
    proxy: ForwardProxy
    request: socket.socket

    def handle(self) -> None:
        with suppress(OSError):
            first = self._request()
            if not first:
                return
            if self.proxy.upstream is None:
                self.wfile.write(
                    b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return
            with socket.create_connection(self.proxy.upstream) as upstream:
                answers = threading.Thread(target=_pass_on, args=(upstream, self.request), daemon=True)
                answers.start()
                if first.startswith(b"CONNECT"):
                    self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    _pass_on(self.request, upstream)
                while not first.startswith(b"CONNECT") and first:
                    upstream.sendall(first)
                    first = self._request()
                with suppress(OSError):
                    upstream.shutdown(socket.SHUT_RDWR)
                answers.join()

    def _request(self) -> bytes:
        """Return the next request as the server should receive it; empty if the connection has ended."""
        line = self.rfile.readline()
        if not line:
            return b""
        method, _, rest = line.partition(b" ")
        target = rest.partition(b" ")[0].decode()
        self.proxy.asked.append(target)
        headers = parse_headers(self.rfile)
        if password := headers["Proxy-Authorization"]:
            self.proxy.authorizations.append(password)
        if method == b"CONNECT":
            return line
        head = b"%b %b HTTP/1.1\n%b" % (method, self.proxy.path(target).encode(), headers.as_bytes())
        return head.replace(b"\n", b"\r\n") + self.rfile.read(int(headers["Content-Length"] or 0))


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(PIECE_BYTES):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


@contextmanager
def forward_proxy(upstream: str | None, *, bucket_in: str | None = None) -> Iterator[ForwardProxy]:
    """Run the proxy in threads, on a free port of the loopback interface.

    Without a server it refuses all requests.
    """
    proxy = ForwardProxy(upstream, bucket_in)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    with serving(server):
        yield proxy
