"""moto's server, with a record of every request that it receives.

All moto servers in a process share their objects.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from tests.servers.request import Request


class RecordedMoto:
    """A WSGI application that records requests. moto answers them."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.requests: list[Request] = []
        self.url = ""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = {
            name.removeprefix("HTTP_").replace("_", "-"): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        self.requests.append(Request.of(environ["REQUEST_METHOD"], environ["RAW_URI"], headers))
        answer: Iterable[bytes] = self._moto(environ, start_response)
        return answer


@contextmanager
def recorded_moto() -> Iterator[RecordedMoto]:
    """Run the server in a thread, on a free port of the loopback interface."""
    application = RecordedMoto()
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    application.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield application
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
