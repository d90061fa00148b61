"""A small S3 over real sockets that answers ranged GETs as a test specifies.

It stores sparse images, so an object of many GiB needs no memory until it is sent. A test puts objects,
specifies faults for the first requests or for all requests, and then reads the recorded requests and the
number of bytes sent.
"""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from keyhole.builders import Image
from tests.servers.request import Request
from tests.servers.serving import serving

BUCKET = "bucket"
LAST_MODIFIED = "Fri, 01 May 2026 12:00:00 GMT"
RANGE = re.compile(r"bytes=(\d*)-(\d*)")

PIECE_BYTES = 64 * 1024
#: The send buffer in bytes. It is small, so that the client has read all of the bytes counted as sent, except
#: some hundred kilobytes.
SEND_BUFFER_BYTES = 64 * 1024


@dataclass(frozen=True)
class Stored:
    """An object: its content and its headers."""

    image: Image
    etag: str
    version_id: str | None = None


@dataclass(frozen=True)
class Answer:
    """An answer. Its body is the bytes `span` of `image`. The connection ends after `breaks_at` bytes."""

    status: int
    headers: dict[str, str]
    image: Image
    span: range
    breaks_at: int | None = None
    states_length: bool = True
    chunked: bool = False


#: A function that turns the correct answer into a faulty one.
Fault = Callable[[Request, Answer], Answer]


class ScriptedS3:
    """The server's objects, its faults, and its records."""

    def __init__(self) -> None:
        self.url = ""
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Clear the objects, faults and records."""
        self._objects: dict[tuple[str, str], Stored] = {}
        self._faults: Iterator[Fault] = repeat(right)
        self.requests: list[Request] = []
        # Each test gets a new list: the answer to a client that reads nothing can still be sending when the
        # next test begins.
        self.sent: list[int] = []

    def put(
        self,
        key: str,
        content: Image | bytes,
        *,
        bucket: str = BUCKET,
        version_id: str | None = None,
        etag: str | None = None,
    ) -> str:
        """Store an object in a bucket, replacing an earlier one, and return its ETag."""
        image = content if isinstance(content, Image) else Image.of(len(content), [(0, content)])
        digest = md5(repr((image.size, image.pieces)).encode(), usedforsecurity=False).hexdigest()
        stated = etag or f'"{digest}"'
        self._objects[bucket, key] = Stored(image, stated, version_id)
        return stated

    def script(self, *faults: Fault, then: Fault | None = None) -> None:
        """Answer the next requests with one fault each, and all later ones with `then`, or correctly."""
        self._faults = chain(faults, repeat(then or right))

    def answer(self, request: Request) -> Answer:
        """Record the request, and answer it correctly or with the next fault."""
        with self._lock:
            self.requests.append(request)
            return next(self._faults)(request, self.right_answer(request))

    @property
    def bytes_sent(self) -> int:
        """The number of bytes of bodies that were sent or are in a buffer."""
        return sum(self.sent)

    def right_answer(self, request: Request) -> Answer:
        """The answer that S3 would give."""
        stored = self._objects.get((request.bucket, request.key))
        if stored is None:
            return refusal(404, "NoSuchKey")
        if request.version_id not in {None, stored.version_id}:
            return refusal(404, "NoSuchVersion")
        if request.if_match not in {None, stored.etag}:
            return refusal(412, "PreconditionFailed")
        return _of_object(stored, request.range)


def _of_object(stored: Stored, asked: str | None) -> Answer:
    headers = {"ETag": stored.etag, "Last-Modified": LAST_MODIFIED, "Accept-Ranges": "bytes"}
    if stored.version_id:
        headers["x-amz-version-id"] = stored.version_id
    size = stored.image.size
    if asked is None:
        return Answer(200, headers, stored.image, range(size))
    span = _span(asked, size)
    if not span:
        return refusal(416, "InvalidRange")
    headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
    return Answer(206, headers, stored.image, span)


def _span(header: str, size: int) -> range:
    match = RANGE.fullmatch(header)
    assert match, f"{header!r} is no range that Keyhole should send"
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    return range(int(first), min(int(last) + 1, size))


# Faults


def right(_: Request, answer: Answer) -> Answer:
    """No fault."""
    return answer


def refusal(status: int, code: str, message: str = "as scripted", **headers: str) -> Answer:
    """An error in S3's form; in header names, `_` means `-`."""
    body = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>".encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(
        status,
        {"Content-Type": "application/xml"} | named,
        Image.of(len(body), [(0, body)]),
        range(len(body)),
    )


def refuse(status: int, code: str, message: str = "as scripted", **headers: str) -> Fault:
    """Answer with an error."""
    return lambda *_: refusal(status, code, message, **headers)


def break_off(after: int) -> Fault:
    """End the connection after this many bytes of the body."""
    return lambda _, answer: replace(answer, breaks_at=after)


def state(**headers: str | None) -> Fault:
    """Replace headers of the answer, or remove them if `None`. In header names, `_` means `-`."""

    def fault(_: Request, answer: Answer) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        both = {name: value for name, value in answer.headers.items() if name not in named}
        return replace(answer, headers=both | {name: value for name, value in named.items() if value})

    return fault


def ignore_range(_: Request, answer: Answer) -> Answer:
    """Answer with the whole object, as a server that does not support ranges does."""
    headers = {name: value for name, value in answer.headers.items() if name != "Content-Range"}
    return replace(answer, status=200, headers=headers, span=range(answer.image.size))


def without_length(request: Request, answer: Answer) -> Answer:
    """Answer with the whole object without its length: the object ends when the connection ends."""
    whole = ignore_range(request, answer)
    return replace(whole, headers=whole.headers | {"Connection": "close"}, states_length=False)


def in_chunks(_: Request, answer: Answer) -> Answer:
    """Send the body in chunks, without its length."""
    headers = answer.headers | {"Transfer-Encoding": "chunked"}
    return replace(answer, headers=headers, states_length=False, chunked=True)


def send_too_much(_: Request, answer: Answer) -> Answer:
    """Announce the requested range, but send everything from its start to the object's end."""
    return replace(answer, span=range(answer.span.start, answer.image.size))


# The server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    s3: ScriptedS3

    def setup(self) -> None:
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        super().setup()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        sent = self.s3.sent
        answer = self.s3.answer(Request.of(self.command, self.path, dict(self.headers)))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.states_length:
            self.send_header("Content-Length", str(len(answer.span)))
        self.end_headers()
        try:
            self._send_body(answer, sent)
        except ConnectionError:
            self.close_connection = True  # the client has read as much as it wanted

    def _send_body(self, answer: Answer, sent: list[int]) -> None:
        if self.command == "HEAD":
            return
        if answer.breaks_at is not None:
            self.close_connection = True
        body = answer.span[: answer.breaks_at]
        for start in body[::PIECE_BYTES]:
            piece = answer.image.read(start, min(PIECE_BYTES, body.stop - start))
            sent.append(len(piece))
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if answer.chunked else piece)
        if answer.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Ignore clients that close the connection during an answer, because some tests do so."""


@contextmanager
def scripted_s3(certificate: Path | None = None) -> Iterator[ScriptedS3]:
    """Run the server in a thread, on a free port of the loopback interface; with a certificate, with TLS."""
    s3 = ScriptedS3()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"s3": s3}))
    s3.url = f"http://127.0.0.1:{server.server_port}"
    if certificate is not None:
        s3.url = s3.url.replace("http:", "https:")
    with serving(server, certificate):
        yield s3
