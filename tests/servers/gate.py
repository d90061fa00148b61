"""A TCP relay to a server on the loopback interface. It can delay clients' bytes, and terminate TLS."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.e2e.commands import PATIENCE

#: The maximum number of bytes that the relay reads at once.
CHUNK = 1 << 16


class Gate:
    """A relay on a free port, with its own event loop. If the server is not running, it disconnects clients.

    Args:
        target: The server's port. The server can stop and start again.
        certificate: Files with a certificate and its key. If given, clients use TLS, and the server does not.
    """

    def __init__(self, target: int, certificate: tuple[Path, Path] | None = None) -> None:
        self._target = target
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*certificate)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._open = asyncio.Event()
        self._open.set()
        self._held = threading.Event()
        self.port = 0

    def hold(self) -> None:
        """From now on, do not pass on what clients send."""
        self._held.clear()
        self._loop.call_soon_threadsafe(self._open.clear)

    def await_held(self) -> None:
        """Wait until the relay holds back something from a client."""
        assert self._held.wait(PATIENCE), "no client says anything"

    def release(self) -> None:
        """Pass on everything that was held back, and what clients send from now on."""
        self._loop.call_soon_threadsafe(self._open.set)

    def start(self) -> None:
        """Start listening."""
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def close(self) -> None:
        """Close all connections, and stop listening."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # in its next iteration, the loop closes the transports

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            to_client.transport.abort()
            return
        with suppress(asyncio.CancelledError):
            await asyncio.gather(
                self._pass_on(client, to_server, holds=True), self._pass_on(server, to_client, holds=False)
            )
        for end in (to_client, to_server):
            end.transport.abort()

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, holds: bool
    ) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                if holds and not self._open.is_set():
                    self._held.set()
                    await self._open.wait()
                sink.write(data)
                await sink.drain()
        sink.close()


@contextmanager
def gate(target: int, certificate: tuple[Path, Path] | None = None) -> Iterator[Gate]:
    """Run a relay."""
    opened = Gate(target, certificate)
    opened.start()
    try:
        yield opened
    finally:
        opened.close()
