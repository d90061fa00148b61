"""A real web server with one object, which behaves as a test specifies: ranges, redirects, lies, delays."""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.servers.serving import serving

#: Writes the answer to a request instead of the server's own answer.
Answer = Callable[["Handler"], None]


@dataclass
class Requested:
    """One request: its path with the query, and its headers with names in lower case."""

    path: str
    headers: dict[str, str]


@dataclass
class Origin:
    """The server, and its behaviour.

    It gives the answers in `answers` one after the other, and then its own. `headers` are added to its own
    answers; a header whose value is empty is left out.
    """

    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    chunked: bool = False
    answers: list[Answer] = field(default_factory=list)
    requests: list[Requested] = field(default_factory=list)
    root: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)

    def reset(self, content: bytes, *answers: Answer) -> None:
        """Serve another object, as an ordinary server does."""
        self.content, self.headers, self.ranges, self.chunked = content, {}, True, False
        self.answers, self.requests = list(answers), []

    def url(self, path: str = "/image.qcow2") -> str:
        return f"{self.root}{path}"

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    """Answers a request for the object."""

    protocol_version = "HTTP/1.1"
    origin: Origin

    def do_GET(self) -> None:
        origin = self.origin
        origin.requests.append(
            Requested(self.path, {name.lower(): value for name, value in self.headers.items()})
        )
        with suppress(OSError):
            (origin.answers.pop(0) if origin.answers else Handler.usual)(self)

    def usual(self) -> None:
        """Answer as ordinary web servers do (RFC 9110, 14)."""
        origin = self.origin
        size = len(origin.content)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers["Range"] or "")
        if asked is None or not origin.ranges or self.headers["If-Range"] not in {None, origin.etag}:
            self.answer(200, origin.content)
            return
        first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
        last = min(size - 1, int(asked[2])) if asked[1] and asked[2] else size - 1
        if first >= size:
            self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
        else:
            self.answer(
                206, origin.content[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{size}"}
            )

    def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send an answer with the object's headers."""
        self.send_response(code)
        length = (
            {"Transfer-Encoding": "chunked"} if self.origin.chunked else {"Content-Length": str(len(body))}
        )
        own = {"ETag": self.origin.etag, **length, **(headers or {}), **self.origin.headers}
        for name, value in own.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if self.origin.chunked else body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def redirect(to: str, code: int = 302) -> Answer:
    """An answer that redirects."""

    def answer(handler: Handler) -> None:
        handler.answer(code, b"", {"Location": to})

    return answer


def status(code: int, **headers: str) -> Answer:
    """An answer with this status and an empty body."""
    return lambda handler: handler.answer(code, b"", {k.replace("_", "-"): v for k, v in headers.items()})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """Print nothing if a client ends the connection."""


@contextmanager
def origin_server(certificate: Path | None = None, host: str = "127.0.0.1") -> Iterator[Origin]:
    """Run a server on a free port. With a certificate (and its key in the same file), it uses TLS."""
    origin = Origin()
    server = _Server((host, 0), type("_Handler", (Handler,), {"origin": origin}))
    origin.root = f"{'http' if certificate is None else 'https'}://{host}:{server.server_port}"
    with serving(server, certificate):
        try:
            yield origin
        finally:
            origin.stopping.set()
