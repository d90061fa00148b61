"""Lets servers answer requests in a thread."""

import logging
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server


@contextmanager
def serving(server: TCPServer, certificate: Path | None = None) -> Iterator[None]:
    """Let a server answer requests during the `with` block, and close it then.

    With a certificate (and its key in the same file), the server uses TLS.
    """
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class MotoApplication:
    """A WSGI application whose requests moto answers. All of them in a process share their objects."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.url = ""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer: Iterable[bytes] = self._moto(environ, start_response)
        return answer


@contextmanager
def serving_moto(application: MotoApplication) -> Iterator[None]:
    """Serve an application on a free port of the loopback interface during the `with` block."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # otherwise it logs every request
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    server.daemon_threads = True  # type: ignore[attr-defined]  # a threaded one has it
    application.url = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield
