"""The web application, and the server that runs it."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from types import FrameType
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from keyhole.dashboard.access import Access
from keyhole.dashboard.connection import UNREAD_SECONDS, Connection
from keyhole.dashboard.guard import Guard
from keyhole.dashboard.pages import Pages
from keyhole.dashboard.reader import Reader

#: The maximum number of connections at the same time. Further requests get the answer 503.
MOST_CONNECTIONS: Final = 200
#: How long open requests may take after the server was told to stop, in seconds.
_GRACE_SECONDS: Final = 5
#: The signals that end the dashboard. A second one ends it without waiting for open requests.
_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Dashboard:
    """The application. `app` is an ASGI application."""

    def __init__(self, reader: Reader, access: Access) -> None:
        self.pages = pages = Pages(reader, access)
        routes = [
            Route("/", pages.overview),
            Route("/verdicts", pages.verdicts),
            Route("/object", pages.one),
            Route("/audits", pages.audits),
            Route("/audit", pages.audit),
            Route("/dead", pages.dead),
            Route("/work", pages.work),
            Route("/live", pages.events),
            Route("/health", pages.health),
            Route("/login", pages.login, methods=["GET", "POST"]),
            Route("/logout", pages.logout, methods=["POST"]),
            *(_file(name) for name in ("dashboard.css", "dashboard.js", "icon.svg")),
        ]
        app = Starlette(routes=routes, exception_handlers={404: pages.not_found, 500: pages.bug})
        self.app = Guard(app, access)


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address. With port 0, the system chooses a free port.

    Raises:
        OSError: The address cannot be used.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # only on Linux
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
        listening.bind(address)
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening


def serve(dashboard: Dashboard, listening: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM."""
    Server(dashboard).run(sockets=[listening])


class Server(uvicorn.Server):
    """The server. A signal first ends the streams, so that no open page delays the end."""

    def __init__(self, dashboard: Dashboard) -> None:
        super().__init__(
            uvicorn.Config(
                dashboard.app,
                # Keyhole's own log has no line for each request: URLs contain the keys of objects.
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                lifespan="off",
                http=Connection,
                ws="none",
                limit_concurrency=MOST_CONNECTIONS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
                h11_max_incomplete_event_size=64 * 1024,
            )
        )
        self._live = dashboard.pages.live

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs. uvicorn would raise them again when the server has ended."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _ENDINGS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop the streams, then the server."""
        self._live.stop()
        super().handle_exit(sig, frame)


def _file(name: str) -> Route:
    """Return the route of a file of this package."""
    content = resources.files("keyhole.dashboard").joinpath("static", name).read_bytes()

    async def answer(_request: Request) -> Response:
        return Response(
            content,
            media_type=_TYPES[name.rpartition(".")[2]],
            headers={"cache-control": "max-age=300"},
        )

    return Route(f"/static/{name}", answer)
