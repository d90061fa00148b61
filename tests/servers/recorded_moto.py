"""moto's server, with a record of every request that it receives.

All moto servers in a process share their objects.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.servers.request import Request
from tests.servers.serving import MotoApplication, serving_moto


class RecordedMoto(MotoApplication):
    """A WSGI application that records requests. moto answers them."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = {
            name.removeprefix("HTTP_").replace("_", "-"): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        self.requests.append(Request.of(environ["REQUEST_METHOD"], environ["RAW_URI"], headers))
        return super().__call__(environ, start_response)


@contextmanager
def recorded_moto() -> Iterator[RecordedMoto]:
    """Run the server in a thread, on a free port of the loopback interface."""
    application = RecordedMoto()
    with serving_moto(application):
        yield application
