"""An S3 on the loopback interface, in its own process, that fails on command.

It answers the requests that Keyhole makes: GET and HEAD with Range and If-Match, the three requests for an
object's tags, and ListBuckets. Objects have numbers, and each is one of `objects.stocks()`. The server does
not check signatures. It serves some thousand requests per second from memory, and moto's server about a
hundred: a storm should load the workers, not the server.

It ends when its standard input closes, and therefore when the process that started it ends.
"""

import asyncio
import json
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from random import Random
from typing import Any

from tests.faults.objects import number_of, stocks
from tests.faults.s3_answers import (
    S3_XML,
    Answer,
    Stored,
    content,
    elsewhere,
    parsed,
    refusal,
    tagging,
    whole,
)
from tests.faults.s3_faults import REFUSALS, Fault, Kind, Rule, drawn
from tests.servers.commanded import Commanded, commanded
from tests.servers.request import Request

#: A forged tag that is sent with an upload.
FORGED = {"keyhole-status": "safe"}
#: The share of objects that are uploaded with forged tags.
FORGERIES = 0.2
#: The maximum number of replacements of an object. A scan tolerates this many.
MOST_SWAPS = 2
#: The length of a body in bytes. At one byte per second, the scan times out before the body ends.
LONGEST_TRICKLE = 3600


class FaultyS3(Commanded):
    """The test's side of the server. Each method sends a command and waits until it is done."""

    def upload(self, first: int, stock: Sequence[int], seed: int) -> None:
        """Upload objects with the numbers from `first`, some of them with forged tags."""
        self._command("upload", first=first, stock=list(stock), seed=seed)

    def storm(self, seed: str, rules: Sequence[Rule]) -> None:
        """Start failing."""
        self._command("storm", seed=seed, rules=[asdict(rule) for rule in rules])

    def missing(self) -> list[str]:
        """The faults of the storm that have not struck."""
        return list(self._command("missing"))

    def heal(self) -> Mapping[str, int]:
        """Answer correctly again; return how often each fault struck. Stalled answers stay stalled."""
        return Counter(self._command("heal"))

    def objects(self, first: int, count: int) -> dict[int, Stored]:
        """The current state of objects, by number."""
        found = self._command("objects", first=first, count=count)
        return {int(number): Stored(**stored) for number, stored in found.items()}

    def delete(self, first: int, count: int) -> None:
        """Delete objects."""
        self._command("delete", first=first, count=count)


@contextmanager
def faulty_s3() -> Iterator[FaultyS3]:
    """Run the server on a free port of the loopback interface."""
    with commanded("tests.faults.s3_server") as process:
        yield FaultyS3(process)


# The server's process


class Server:
    """The stored objects, and the answers to requests."""

    def __init__(self) -> None:
        self.stocks = stocks()
        self.stored: dict[int, Stored] = {}
        self.seed = ""
        self.rules: tuple[Rule, ...] = ()
        self.number = 0
        self.struck: Counter[str] = Counter()

    # Commands: the methods of `FaultyS3`

    def upload(self, first: int, stock: list[int], seed: int) -> None:
        random = Random(seed)  # noqa: S311 - a seeded choice of faults
        for number, index in enumerate(stock, first):
            forged = random.random() < FORGERIES
            self.stored[number] = Stored(index, tags=dict(FORGED) if forged else {}, forged=forged)

    def storm(self, seed: str, rules: list[dict[str, Any]]) -> None:
        self.seed, self.number, self.struck = seed, 0, Counter()
        self.rules = tuple(
            Rule(Fault(rule["fault"]), rule["rate"], tuple(map(Kind, rule["kinds"]))) for rule in rules
        )

    def missing(self) -> list[Fault]:
        return [rule.fault for rule in self.rules if not self.struck[rule.fault]]

    def heal(self) -> Counter[str]:
        self.rules = ()
        return self.struck

    def objects(self, first: int, count: int) -> dict[int, dict[str, Any]]:
        numbers = range(first, first + count)
        return {number: asdict(self.stored[number]) for number in numbers if number in self.stored}

    def delete(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self.stored.pop(number, None)

    # Requests

    def fault(self, kind: Kind) -> Fault | None:
        """Return the fault of the next request of this kind.

        If no rule strikes the request, the fault is one that has not struck yet, so that each fault of a
        storm strikes even if there are few requests.
        """
        self.number += 1
        fault = drawn(self.rules, self.seed, self.number, kind)
        if fault is None:
            due = (rule.fault for rule in self.rules if kind in rule.kinds and not self.struck[rule.fault])
            fault = next(due, None)
        return fault

    def find(self, request: Request) -> Stored | None:
        """Return the object in the request's path."""
        try:
            return self.stored.get(number_of(request.key))
        except ValueError:
            return None

    def swap(self, request: Request) -> bool:
        """Replace the object in the request's path. The new object has no tags or forged tags."""
        stored = self.find(request)
        if stored is None or stored.swaps >= MOST_SWAPS:
            return False
        random = Random(f"{self.seed}/{request.key}/{stored.swaps}")  # noqa: S311 - a seeded choice of faults
        others = [index for index in range(len(self.stocks)) if index != stored.stock]
        stored.stock, stored.swaps = random.choice(others), stored.swaps + 1
        stored.forged = random.random() < FORGERIES
        stored.tags = dict(FORGED) if stored.forged else {}
        return True

    def answer(self, request: Request, kind: Kind, body: bytes) -> "Answer":
        """Execute a request, and return S3's answer."""
        if kind is Kind.OTHER:
            text = f"<ListAllMyBucketsResult {S3_XML}><Buckets/></ListAllMyBucketsResult>"
            return Answer(200, {"Content-Type": "application/xml"}, text.encode())
        stored = self.find(request)
        if stored is None:
            return refusal(404, "NoSuchKey")
        if kind is Kind.GET_TAGS:
            return Answer(200, {"Content-Type": "application/xml"}, tagging(stored.tags))
        if kind is Kind.PUT_TAGS:
            stored.tags = parsed(body) if request.method == "PUT" else {}
            stored.forged = False
            return Answer(200 if request.method == "PUT" else 204, {}, b"")
        return content(request, stored, self.stocks[stored.stock])


def kind_of(request: Request) -> Kind:
    """The purpose of a request."""
    if not request.key:
        return Kind.OTHER
    if "tagging" in request.query:
        return Kind.GET_TAGS if request.method == "GET" else Kind.PUT_TAGS
    return Kind.LOOK if request.method == "HEAD" else Kind.READ


class Connection(asyncio.Protocol):
    """A client's connection. Its requests are answered one after the other."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = b""
        self._stuck = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while not self._stuck and (end := self._received.find(b"\r\n\r\n")) >= 0:
            line, *fields = self._received[:end].decode("latin-1").split("\r\n")
            headers = dict(entry.split(":", 1) for entry in fields)
            method, target, _ = line.split(" ")
            request = Request.of(method, target, {name: value.strip() for name, value in headers.items()})
            length = int(request.headers.get("content-length", 0))
            if len(self._received) < end + 4 + length:
                return
            body = self._received[end + 4 : end + 4 + length]
            self._received = self._received[end + 4 + length :]
            self._receive(request, body)

    def _receive(self, request: Request, body: bytes) -> None:
        server, kind = self._server, kind_of(request)
        fault = server.fault(kind)
        if fault is Fault.SWAP and not server.swap(request):
            fault = None
        if fault is Fault.ACCESS_DENIED and kind is Kind.READ and (stored := server.find(request)):
            stored.denied += 1
        undone = fault is Fault.RESET or fault in REFUSALS
        answer = refusal(*REFUSALS[fault]) if fault in REFUSALS else None
        if not undone:
            answer = server.answer(request, kind, body)
        if fault is Fault.SWAP_AFTER and not server.swap(request):
            fault = None
        if fault is not None:
            server.struck[fault] += 1
        if answer is None:
            self._reset()
        else:
            self._send(request, answer, fault)

    def _send(self, request: Request, answer: Answer, fault: Fault | None) -> None:
        if fault is Fault.LOST_ANSWER:
            self._reset()
            return
        if fault is Fault.WRONG_RANGE:
            answer = elsewhere(answer)
        if fault is Fault.RANGE_IGNORED:
            answer = whole(answer)
        self._transport.write(answer.head())
        length = 0 if request.method == "HEAD" else answer.length
        if fault is Fault.TRICKLE:
            self._stuck = True
            self._trickle(b"".join(answer.pieces(min(length, LONGEST_TRICKLE))), 0)
            return
        if fault in {Fault.BROKEN_OFF, Fault.TRUNCATED, Fault.STALL}:
            length //= 2
        for piece in answer.pieces(length):
            if self._transport.is_closing():
                return  # the client has read as much as it wanted
            self._transport.write(piece)
        if fault is Fault.BROKEN_OFF:
            self._reset()
        elif fault is Fault.TRUNCATED:
            self._transport.close()
        self._stuck = fault is Fault.STALL

    def _trickle(self, body: bytes, at: int) -> None:
        if not self._transport.is_closing() and at < len(body):
            self._transport.write(body[at : at + 1])
            asyncio.get_running_loop().call_later(1.0, self._trickle, body, at + 1)

    def _reset(self) -> None:
        """Reset the connection, as a broken network does."""
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


async def serve() -> None:
    """Answer requests, and execute the commands from standard input, until the input ends."""
    server = Server()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=512)
    print(json.dumps(listening.sockets[0].getsockname()[1]), flush=True)
    commands = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        name, arguments = json.loads(line)
        print(json.dumps(getattr(server, name)(**arguments)), flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
