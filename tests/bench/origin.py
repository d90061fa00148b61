"""An S3 origin for benchmarks: serves a folder's files by ranged GETs, with the delays of a network.

Every client of one benchmark reads from it. It runs in a process of its own, in uvloop's event loop if
uvloop is installed:

    python -m tests.bench.origin FOLDER [--ttfb 0.03] [--rate 80e6] [--connect 0.03]

The last segment of a key names the file, so one file can be read under any number of keys: `images/7/a.vdi`
and `images/8/a.vdi` are the file `a.vdi`. Signatures are not checked. Files are mapped into memory, so the
first read of a page takes longer than later ones.

It prints its port. Each line on its standard input is answered with its counts since the last such line.
"""

import argparse
import asyncio
import json
import mmap
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast
from urllib.parse import unquote

#: The body of an answer is written in pieces of this many bytes.
PIECE = 64 * 1024


@dataclass
class Counts:
    """Requests, bytes of their bodies, connections, and the most requests that were unanswered at once."""

    requests: int = 0
    bytes: int = 0
    connections: int = 0
    most_at_once: int = 0


@dataclass(frozen=True)
class Network:
    """The delays of a connection to S3, in seconds and bytes a second; 0 for none."""

    ttfb: float = 0.0
    rate: float = 0.0
    connect: float = 0.0


class Origin:
    """A running origin."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{port}"

    def counts(self) -> Counts:
        """Return the counts since the last call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Counts(**json.loads(self._process.stdout.readline()))


@contextmanager
def origin(folder: Path, network: Network, python: str = sys.executable) -> Iterator[Origin]:
    """Run an origin on a free port of the loopback."""
    delays = [
        part for field in fields(network) for part in (f"--{field.name}", str(getattr(network, field.name)))
    ]
    command = [python, "-m", "tests.bench.origin", str(folder), *delays]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Origin(process, int(process.stdout.readline()))
        finally:
            process.kill()


# The origin's process


class Server:
    """The files, and the counts of all connections."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.network = network
        self.counts = Counts()
        self.at_once = 0
        self._files: dict[str, mmap.mmap | bytes] = {}
        for path in folder.iterdir():
            with path.open("rb") as file:
                self._files[path.name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def answer(self, head: bytes) -> tuple[bytes, memoryview]:
        """Return the head and the body of the answer to a request."""
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        name = unquote(target.partition("?")[0]).rpartition("/")[2]
        data = self._files.get(name)
        self.counts.requests += 1
        if data is None:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", memoryview(b"")
        start, end, status = *span(headers.get("range"), len(data)), 206 if "range" in headers else 200
        common = (
            f'ETag: "{len(data):x}"\r\n'
            "Last-Modified: Mon, 02 Nov 2026 10:00:00 GMT\r\n"
            "Accept-Ranges: bytes\r\n"
            "Content-Type: application/octet-stream\r\n"
            f"Content-Length: {end - start}\r\n"
        )
        if status == 206:
            common += f"Content-Range: bytes {start}-{end - 1}/{len(data)}\r\n"
        body = memoryview(b"") if method == "HEAD" else memoryview(data)[start:end]
        return f"HTTP/1.1 {status} OK\r\n{common}\r\n".encode(), body


def span(header: str | None, size: int) -> tuple[int, int]:
    """Return the first byte and the end of a Range header in an object of `size` bytes."""
    if header is None:
        return 0, size
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)


class Connection(asyncio.Protocol):
    """One client, which sends one request after the other."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._sent_before = self._answering = self._paused = False
        self._rest = memoryview(b"")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop has a class of its own
        self._transport.set_write_buffer_limits(PIECE)
        self._server.counts.connections += 1

    def connection_lost(self, _: Exception | None) -> None:
        """Give up an answer that the client did not read to its end."""
        self._finish()

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head, self._received = self._received[:end], self._received[end + 4 :]
            server, network = self._server, self._server.network
            self._answering = True
            server.at_once += 1
            server.counts.most_at_once = max(server.counts.most_at_once, server.at_once)
            answer = server.answer(head)
            delay = network.ttfb + (0 if self._sent_before else network.connect)
            self._sent_before = True
            if delay:
                self._loop.call_later(delay, self._send, *answer)
            else:
                self._send(*answer)

    def pause_writing(self) -> None:
        """Wait until the client has read what was written."""
        self._paused = True

    def resume_writing(self) -> None:
        """Write the next piece."""
        self._paused = False
        if self._rest and not self._server.network.rate:
            self._send(b"", self._rest)

    def _send(self, head: bytes, body: memoryview) -> None:
        """Write an answer in pieces: no faster than the network's rate, and than the client reads."""
        rate = self._server.network.rate
        self._rest = body
        while not self._transport.is_closing():
            piece, self._rest = self._rest[:PIECE], self._rest[PIECE:]
            self._server.counts.bytes += len(piece)
            self._transport.write(head + piece)
            head = b""
            if not self._rest:
                self._finish()
                return
            if rate:
                self._loop.call_later(PIECE / rate, self._send, b"", self._rest)
                return
            if self._paused:
                return

    def _finish(self) -> None:
        self._rest = memoryview(b"")
        if self._answering:
            self._answering = False
            self._server.at_once -= 1


async def serve(folder: Path, network: Network) -> None:
    """Serve until standard input ends."""
    server = Server(folder, network)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=1024)
    print(listening.sockets[0].getsockname()[1], flush=True)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while await commands.readline():
        print(json.dumps(vars(server.counts)), flush=True)
        server.counts = Counts(most_at_once=server.at_once)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for field in fields(Network):
        parser.add_argument(f"--{field.name}", type=float, default=field.default)
    options = vars(parser.parse_args())
    serving = serve(options.pop("folder"), Network(**options))
    try:
        import uvloop
    except ImportError:
        asyncio.run(serving)
    else:
        uvloop.run(serving)


if __name__ == "__main__":
    main()
