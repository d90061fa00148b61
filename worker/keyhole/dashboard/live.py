"""Server-sent events: the parts of a page that change, sent to all open pages.

One task reads the status while at least one page is open, and renders it once for all pages. The number of
open pages is limited. A stream ends after a while, and the browser opens it again, so a page that was closed
without notice does not occupy its place forever.

Source: HTML Living Standard, "Server-sent events".
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Final

#: The maximum number of open streams. Each needs a connection and a few kilobytes.
MOST_STREAMS: Final = 32
#: The time between two readings, and the longest time of a stream, in seconds.
READ_SECONDS, STREAM_SECONDS = 2.0, 600.0
#: How long the browser waits before it opens an ended stream again, in milliseconds.
_RETRY_MS: Final = 3000


class Live:
    """Sends the parts of a page to all open streams.

    Args:
        render: Returns the parts: HTML by the id of the element that it replaces.
        most: The maximum number of open streams.
        read_seconds: The time between two readings.
    """

    def __init__(
        self,
        render: Callable[[], Awaitable[dict[str, str]]],
        *,
        most: int = MOST_STREAMS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self._render = render
        self._most = most
        self._read_seconds = read_seconds
        self._open = 0
        self._stopped = asyncio.Event()
        self._changed = asyncio.Condition()
        self._number = 0
        self._event = ""
        self._reader: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Return whether no further stream can be opened."""
        return self._open >= self._most or self._stopped.is_set()

    @property
    def streams(self) -> int:
        """Return the number of open streams."""
        return self._open

    def stop(self) -> None:
        """End all streams, so that the server can end."""
        self._stopped.set()

    async def stream(self) -> AsyncIterator[str]:
        """Yield events until the browser leaves, the time is over, or the server ends."""
        self._open += 1
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        try:
            yield f"retry: {_RETRY_MS}\n\n"
            ends, seen = time.monotonic() + STREAM_SECONDS, 0
            while time.monotonic() < ends and not self._stopped.is_set():
                if self._number > seen:
                    seen = self._number
                    yield self._event
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._read_seconds), self._changed:
                        await self._changed.wait()
                if self._number == seen:
                    # A comment shows the server that the browser has left.
                    yield ": still here\n\n"
        finally:
            self._open -= 1

    async def _read(self) -> None:
        """Read and render until no stream is open."""
        while self._open and not self._stopped.is_set():
            parts = await self._render()
            # JSON has no line ends, which would end an event.
            self._event = f"event: parts\ndata: {json.dumps(parts)}\n\n"
            self._number += 1
            async with self._changed:
                self._changed.notify_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._read_seconds):
                    await self._stopped.wait()
