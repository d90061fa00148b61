"""An image service that stores an upload only if Keyhole finds it safe.

    python image_service.py FOLDER [PORT]
    curl -T debian.qcow2 http://127.0.0.1:8080/images/debian.qcow2

An upload is stored aside, scanned, and moved to its place only if its status is `safe`. So nobody can read an
image that was not scanned, and the file that was scanned is the file that is stored. `KeyholeGate` is the
part that you need in your own service: call it where your service imports an image.

The answers: 201 the image is stored; 422 the image is refused, and the body contains the findings; 503
Keyhole could not decide, so the client should try again. It is an example: it has no users and no TLS.
"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import IO, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.util import FileWrapper

from keyhole import Report, Scanner, Status

#: The longest upload, in bytes.
MOST_BYTES = 100 * 1024**3
#: The name of an image. It cannot contain `/`, and cannot begin with a dot.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
PIECE_BYTES = 1024 * 1024


class RefusedError(Exception):
    """Keyhole did not find the image safe."""

    def __init__(self, report: Report) -> None:
        super().__init__(f"{report.target} is {report.status}")
        self.report = report


class KeyholeGate:
    """The import plugin: call it with the file of an upload before the service accepts the image.

    Args:
        scanner: The scanner, whose policy states which images the service accepts. Threads can share it.
    """

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner

    def __call__(self, path: Path, name: str) -> Report:
        """Return the report on a safe image.

        Raises:
            RefusedError: The image is not safe, or Keyhole could not decide.
        """
        report = self._scanner.scan(path, name=name)
        if report.status is not Status.SAFE:
            raise RefusedError(report)
        return report


class ImageService:
    """The service: a WSGI application.

    Args:
        folder: Where the images are stored.
        gate: Called with each upload before it is stored.
    """

    def __init__(self, folder: Path, gate: KeyholeGate, *, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._gate = gate
        self._most_bytes = most_bytes
        # Uploads wait in the same file system, so that they can be moved to their place in one step.
        self._aside = folder / ".aside"
        self._aside.mkdir(parents=True, exist_ok=True)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        name = str(environ["PATH_INFO"]).removeprefix("/images/")
        if not NAME.fullmatch(name):
            status, answer = "404 Not Found", {"error": "write /images/NAME"}
        elif environ["REQUEST_METHOD"] == "PUT":
            status, answer = self._put(name, environ)
        elif environ["REQUEST_METHOD"] == "GET" and (self._folder / name).is_file():
            return self._sent(self._folder / name, start_response)
        else:
            status, answer = "404 Not Found", {"error": "there is no such image"}
        body = json.dumps(answer).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(status, headers)
        return [body]

    def _put(self, name: str, environ: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        length = str(environ.get("CONTENT_LENGTH") or "")
        if not (length.isascii() and length.isdecimal()):
            return "411 Length Required", {"error": "state the Content-Length"}
        # Python refuses to parse a number of thousands of digits.
        if len(length) > 18 or int(length) > self._most_bytes:
            return "413 Content Too Large", {"error": f"at most {self._most_bytes} bytes"}
        handle, aside = tempfile.mkstemp(dir=self._aside)
        path = Path(aside)
        try:
            with os.fdopen(handle, "wb") as file:
                received = _copied(environ["wsgi.input"], file, int(length))
            if received < int(length):
                return "400 Bad Request", {"error": "the upload ended too early"}
            report = self._gate(path, name)
            path.replace(self._folder / name)
        except RefusedError as refused:
            return _refusal(refused.report)
        finally:
            path.unlink(missing_ok=True)
        return "201 Created", {"format": report.format, "virtual_size": report.virtual_size}

    def _sent(self, path: Path, start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return FileWrapper(path.open("rb"), PIECE_BYTES)


def _copied(source: IO[bytes], target: IO[bytes], length: int) -> int:
    """Copy up to `length` bytes, and return how many bytes there were."""
    left = length
    while left and (piece := source.read(min(left, PIECE_BYTES))):
        target.write(piece)
        left -= len(piece)
    return length - left


def _refusal(report: Report) -> tuple[str, dict[str, Any]]:
    """Return the status and the body of the answer about an image that is not stored."""
    answer = {
        "status": report.status.value,
        "reasons": report.reasons,
        "findings": [finding.message for finding in report.findings],
    }
    return (
        "503 Service Unavailable" if report.status is Status.FAILED else "422 Unprocessable Content"
    ), answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def serve(folder: Path, port: int, scanner: Scanner) -> WSGIServer:
    """Return a server for the images in a folder. Call its `serve_forever`."""
    service = ImageService(folder, KeyholeGate(scanner))
    return make_server("127.0.0.1", port, service, _Server, _Handler)


def main() -> None:
    """Run the service until it is stopped."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 8080
    with Scanner() as scanner, serve(folder, port, scanner) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
