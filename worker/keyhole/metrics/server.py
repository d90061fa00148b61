"""Serves the page of metrics by HTTP: `GET /metrics`.

A client that is slow or sends nothing occupies one of `MOST_CLIENTS` threads for at most `CLIENT_SECONDS`
without progress. Further clients are disconnected.
"""

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

log = logging.getLogger(__name__)

PATH: Final = "/metrics"
#: The most clients that are served at the same time, and the longest wait for a client in seconds.
MOST_CLIENTS: Final = 8
CLIENT_SECONDS: Final = 5.0


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    server_version = "keyhole"
    sys_version = ""
    timeout = CLIENT_SECONDS

    def do_GET(self) -> None:
        """Answer with the page of metrics, in the format that the client accepts."""
        if self.path.partition("?")[0] != PATH:
            self.send_error(404)
            return
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        with self.server.guard():
            page = encode(self.server.registry)
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Log nothing, because Prometheus sends requests every few seconds."""


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        place: tuple[str, int],
        registry: CollectorRegistry,
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.registry = registry
        self.guard = guard
        self._slots = threading.BoundedSemaphore(MOST_CLIENTS)
        if ":" in place[0]:
            self.address_family = socket.AF_INET6
        super().__init__(place, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's signature
        """Serve a client in a thread, or disconnect it if too many clients are being served."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Serve a client."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - as above
        """Log an error. Ignore a client that disconnects early or sends nothing."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("the page of metrics failed", exc_info=error)


@contextmanager
def served(
    host: str,
    port: int,
    registry: CollectorRegistry,
    guard: Callable[[], AbstractContextManager[None]],
) -> Iterator[int]:
    """Serve the page of metrics during the `with` block, and yield the port.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 for a free port.
        registry: The metrics of the page.
        guard: The page is made in a `with guard()` block. A worker forks only between these blocks.

    Raises:
        OSError: The address cannot be used, for example because another process uses it.
    """
    server = _Server((host, port), registry, guard)
    # A forked process must not keep the port open after this process has ended.
    os.register_at_fork(after_in_child=server.socket.close)
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
