"""A real HTTP server that receives webhooks, and answers as a test specifies."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.e2e.commands import PATIENCE
from tests.servers.serving import serving


@dataclass
class Received:
    """One request: its path, its headers with names in lower case, and its body."""

    path: str
    headers: dict[str, str]
    body: bytes


#: Writes the answer to a request.
Answer = Callable[["Handler"], None]


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """An answer with this status."""

    def answer(handler: "Handler") -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@dataclass
class WebhookServer:
    """The server. It gives the answers in `answers` one after the other, and then 204."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    #: Set when the server stops, so that no answer waits longer.
    stopping: threading.Event = field(default_factory=threading.Event)

    def wait_for(self, count: int, seconds: float = PATIENCE) -> list[Received]:
        """Return the requests when there are at least `count`."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.received) >= count, seconds), len(self.received)
            return list(self.received)


class Handler(BaseHTTPRequestHandler):
    """Receives a request, and answers it."""

    protocol_version = "HTTP/1.1"
    site: WebhookServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        site = self.site
        with site.arrived:
            headers = {name.lower(): value for name, value in self.headers.items()}
            site.received.append(Received(self.path, headers, body))
            answer = site.answers.pop(0) if site.answers else status(204)
            site.arrived.notify_all()
        with suppress(OSError):
            answer(self)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Print nothing if a client ends the connection."""


@contextmanager
def webhook_server(certificate: Path | None = None, host: str = "127.0.0.1") -> Iterator[WebhookServer]:
    """Run a server on a free port. With a certificate (and its key in the same file), it uses TLS."""
    site = WebhookServer()
    server = _Server((host, 0), type("_Handler", (Handler,), {"site": site}))
    scheme = "http" if certificate is None else "https"
    site.url = f"{scheme}://{host}:{server.server_port}/hook?team=a"
    with serving(server, certificate):
        try:
            yield site
        finally:
            site.stopping.set()
