"""moto's server over HTTP. Before each request, a test decides what happens and whether the request fails."""

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from tests.servers.model_s3 import Fault

#: The test's own requests have this header. `before` is not called for them.
OTHERS = "X-Others"


class RacingMoto:
    """A WSGI application that calls `before`, with the number of the request, for each of Keyhole's requests.

    moto then answers the request.
    """

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.url = ""
        self.before: Callable[[int], Fault | None] = lambda _: None
        self.count = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_X_OTHERS"):
            return self._ask(environ, start_response)
        number, self.count = self.count, self.count + 1
        fault = self.before(number)
        if fault is None:
            return self._ask(environ, start_response)
        if fault in {Fault.ANSWER_LOST, Fault.ANSWER_WRONG}:
            list(self._ask(environ, lambda *_: None))
        if fault in {Fault.ANSWER_LOST, Fault.RESET}:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        status, code = (500, "InternalError") if fault is Fault.ANSWER_WRONG else fault.value
        start_response(f"{status} {code}", [("Content-Type", "application/xml")])
        return [b"<Error><Code>%s</Code><Message>no</Message></Error>" % str(code).encode()]

    def _ask(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer: Iterable[bytes] = self._moto(environ, start_response)
        return answer


@contextmanager
def racing_moto() -> Iterator[RacingMoto]:
    """Run the server in a thread, on a free port of the loopback interface."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # otherwise it logs every request
    application = RacingMoto()
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    server.daemon_threads = True  # type: ignore[attr-defined]  # a threaded one has it
    application.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield application
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
