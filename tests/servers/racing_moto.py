"""moto's server over HTTP. Before each request, a test decides what happens and whether the request fails."""

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.servers.model_s3 import Fault
from tests.servers.serving import MotoApplication, serving_moto

#: The test's own requests have this header. `before` is not called for them.
OTHERS = "X-Others"


class RacingMoto(MotoApplication):
    """A WSGI application that calls `before`, with the number of the request, for each of Keyhole's requests.

    moto then answers the request.
    """

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[int], Fault | None] = lambda _: None
        self.count = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_X_OTHERS"):
            return super().__call__(environ, start_response)
        number, self.count = self.count, self.count + 1
        fault = self.before(number)
        if fault is None:
            return super().__call__(environ, start_response)
        if fault in {Fault.ANSWER_LOST, Fault.ANSWER_WRONG}:
            list(super().__call__(environ, lambda *_: None))
        if fault in {Fault.ANSWER_LOST, Fault.RESET}:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        status, code = (500, "InternalError") if fault is Fault.ANSWER_WRONG else fault.value
        start_response(f"{status} {code}", [("Content-Type", "application/xml")])
        return [b"<Error><Code>%s</Code><Message>no</Message></Error>" % str(code).encode()]


@contextmanager
def racing_moto() -> Iterator[RacingMoto]:
    """Run the server in a thread, on a free port of the loopback interface."""
    application = RacingMoto()
    with serving_moto(application):
        yield application
