"""A connection of the server that does not wait for slow clients.

uvicorn waits without limit for the rest of a request. A client that sends half a request on each of the
`keyhole.dashboard.web.MOST_CONNECTIONS` connections would keep all others out, without a token. So a request
must arrive within `REQUEST_SECONDS`; it has less than 100 KB.

If a client does not read an answer, the kernel ends the connection after `UNREAD_SECONDS`.
"""

import asyncio
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: The time in which a request must arrive, with its body, in seconds.
REQUEST_SECONDS: Final = 15.0
#: The kernel ends a connection whose client has acknowledged no data for this many seconds. Source: tcp(7),
#: TCP_USER_TIMEOUT.
UNREAD_SECONDS: Final = 60


class Connection(H11Protocol):
    """An HTTP/1.1 connection that ends if a request does not arrive in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Handle a piece of a request."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        """Start the time of a request that is incomplete, or stop the time of one that has arrived."""
        if self.conn.their_state not in {h11.IDLE, h11.SEND_BODY}:
            self._stop()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
