"""A synthetic S3 for large audits. Its buckets have any number of objects, and filling them costs nothing.

It answers ListObjectsV2 (start-after, continuation-token, max-keys, prefix, encoding-type), GET and HEAD
(Range, If-Match) over the loopback interface, some thousand requests per second. It runs in its own process,
so that the threads of tests do not slow it down. It counts requests. It can hold answers back, delay them,
and refuse every n-th request with 503. A test can change its objects.

The server makes keys from numbers, every object is the same small image, and it checks neither users nor
signatures. It has no writes over HTTP, tags, versions, archives or permissions, and answers 501 to all S3
requests that are not named above. Tests that depend on a server's own behaviour use Ceph's RGW or moto.
"""

import asyncio
import json
import sys
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from hashlib import md5
from heapq import merge
from http import HTTPStatus
from itertools import islice, takewhile
from time import process_time
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

from keyhole.builders import vdi
from tests.servers.commanded import Commanded, commanded

#: The content of every object: a whole image that one GET decides.
IMAGE = vdi(1024**3).to_bytes()
#: The modification time of objects that were not replaced.
MODIFIED = datetime(2026, 5, 1, 12, tzinfo=UTC)
PAGE_KEYS = 1000


def key_name(number: int) -> str:
    """The key of an object with which a bucket was filled."""
    return f"images/{number:09}.vdi"


class SyntheticS3(Commanded):
    """The test's side of the server. Each method sends a command to the process and waits until it is done.

    A kind of request is `LIST`, `GET`, `HEAD` or `other`.
    """

    def fill(self, bucket: str, count: int) -> None:
        """Make a bucket with this many objects, replacing an earlier one with this name."""
        self._command("fill", bucket=bucket, count=count)

    def put(self, bucket: str, key: str) -> None:
        """Add or replace an object. The new object has another ETag and a later modification time."""
        self._command("put", bucket=bucket, key=key)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self._command("delete", bucket=bucket, key=key)

    def counts(self) -> Mapping[str, int]:
        """The number of requests of each kind, and of all `refused` requests, since `forget`."""
        return Counter(self._command("counts"))

    def gets(self) -> Mapping[str, int]:
        """The number of GETs for each `bucket/key` since `forget`."""
        return Counter(self._command("gets"))

    def forget(self) -> None:
        """Reset all counts."""
        self._command("forget")

    def hold(self, kind: str, containing: str = "") -> None:
        """Hold back requests of this kind whose path contains a text, until `release`."""
        self._command("hold", kind=kind, containing=containing)

    def held(self) -> int:
        """The number of requests that are held back and whose clients are still connected."""
        return int(self._command("held"))

    def release(self) -> None:
        """Answer all requests that were held back, and hold back no more until `hold`."""
        self._command("release")

    def slow_down(self, kind: str, seconds: float) -> None:
        """Delay answers to requests of this kind by this many seconds."""
        self._command("slow_down", kind=kind, seconds=seconds)

    def fail_every(self, n: int) -> None:
        """Refuse every n-th request with 503 SlowDown. 0 refuses no request."""
        self._command("fail_every", n=n)

    def list_at_most(self, keys: int) -> None:
        """List at most this many keys per request, even if the client requests more."""
        self._command("list_at_most", keys=keys)

    def cpu_seconds(self) -> float:
        """The CPU time of the server's process."""
        return float(self._command("cpu_seconds"))


@contextmanager
def synthetic_s3() -> Iterator[SyntheticS3]:
    """Run the server on a free port of the loopback interface, until its standard input closes.

    The input also closes when the tests' process ends.
    """
    with commanded("tests.servers.synthetic_s3") as process:
        yield SyntheticS3(process)


# The server's process


@dataclass
class Bucket:
    """The keys in order: the keys of `fill` without the deleted ones, and the added keys."""

    count: int
    deleted: set[str] = field(default_factory=set)
    added: list[str] = field(default_factory=list)
    #: How often each key was put.
    times_put: Counter[str] = field(default_factory=Counter)

    def put(self, key: str) -> None:
        """Add or replace an object."""
        if key not in self:
            self.deleted.discard(key)
            if not self._is_numbered(key):
                insort(self.added, key)
        self.times_put[key] += 1

    def delete(self, key: str) -> None:
        """Delete an object, if it exists."""
        if self._is_numbered(key):
            self.deleted.add(key)
        elif key in self:
            self.added.remove(key)

    def __contains__(self, key: str) -> bool:
        if self._is_numbered(key):
            return key not in self.deleted
        at = bisect_left(self.added, key)
        return at < len(self.added) and self.added[at] == key

    def keys(self, prefix: str, after: str) -> Iterator[str]:
        """The keys with a prefix that follow a key, in order."""
        numbers = range(self.count)
        at = max(bisect_left(numbers, prefix, key=key_name), bisect_right(numbers, after, key=key_name))
        at_added = max(bisect_left(self.added, prefix), bisect_right(self.added, after))
        numbered = (key for key in map(key_name, numbers[at:]) if key not in self.deleted)
        found = merge(numbered, self.added[at_added:])
        return takewhile(lambda key: key.startswith(prefix), found)

    def etag(self, key: str) -> str:
        """An object's ETag, without quotes."""
        return etag(self.times_put[key])

    def modified(self, key: str) -> datetime:
        """The time of an object's last modification."""
        return modified(self.times_put[key])

    def _is_numbered(self, key: str) -> bool:
        digits = key.removeprefix("images/").removesuffix(".vdi")
        return digits.isdecimal() and int(digits) < self.count and key == key_name(int(digits))


@dataclass
class Request:
    """The parts of a request that the server uses. Header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @classmethod
    def parse(cls, head: bytes) -> "Request":
        """Parse a request's head, without the empty line."""
        line, *fields = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        path, _, query = target.partition("?")
        headers = dict(entry.split(":", 1) for entry in fields)
        return cls(
            method,
            unquote(path)[1:],
            dict(parse_qsl(query, keep_blank_values=True)) if query else {},
            {name.lower(): value.strip() for name, value in headers.items()},
        )

    @property
    def kind(self) -> str:
        """The kind by which the request is counted."""
        if self.method == "GET" and self.query.get("list-type") == "2":
            return "LIST"
        return self.method if self.method in {"GET", "HEAD"} and not self.query.keys() - {"x-id"} else "other"


class Server:
    """The buckets, the counts of requests, and the commands that change answers."""

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.holding: tuple[str, str] | None = None
        self.waiting: list[tuple[asyncio.Transport, Request]] = []
        self.delays: dict[str, float] = {}
        self.every = 0
        self.most = PAGE_KEYS
        self.forget()

    def forget(self) -> None:
        self.asked: Counter[str] = Counter()
        self.asked_of: Counter[str] = Counter()
        self.number = 0

    # Requests

    def receive(self, transport: asyncio.Transport, request: Request) -> None:
        """Count a request, and answer it now or later."""
        kind = request.kind
        self.number += 1
        self.asked[kind] += 1
        if kind == "GET":
            self.asked_of[request.path] += 1
        if self.every and self.number % self.every == 0:
            self.asked["refused"] += 1
            transport.write(refusal(request, 503, "SlowDown"))
        elif self.holding and self.holding[0] == kind and self.holding[1] in request.path:
            self.waiting.append((transport, request))
        elif self.delays.get(kind):
            asyncio.get_running_loop().call_later(self.delays[kind], self.send, transport, request)
        else:
            self.send(transport, request)

    def send(self, transport: asyncio.Transport, request: Request) -> None:
        """Answer a request if its client is still connected."""
        if not transport.is_closing():
            transport.write(self.answer(request))

    def answer(self, request: Request) -> bytes:
        """Return the answer that S3 would give."""
        name, _, key = request.path.partition("/")
        bucket = self.buckets.get(name)
        if request.kind == "other":
            return refusal(request, 501, "NotImplemented")
        if bucket is None:
            return refusal(request, 404, "NoSuchBucket")
        if request.kind == "LIST":
            body = listing(name, bucket, request.query, self.most)
            return answer(200, body, {"Content-Type": "application/xml"})
        if key not in bucket:
            return refusal(request, 404, "NoSuchKey")
        return content(request, bucket.etag(key), bucket.modified(key))

    # Commands: the methods of `SyntheticS3`

    def fill(self, bucket: str, count: int) -> None:
        self.buckets[bucket] = Bucket(count)

    def put(self, bucket: str, key: str) -> None:
        self.buckets[bucket].put(key)

    def delete(self, bucket: str, key: str) -> None:
        self.buckets[bucket].delete(key)

    def counts(self) -> Counter[str]:
        return self.asked

    def gets(self) -> Counter[str]:
        return self.asked_of

    def hold(self, kind: str, containing: str) -> None:
        self.holding = (kind, containing)

    def held(self) -> int:
        return sum(not transport.is_closing() for transport, _ in self.waiting)

    def release(self) -> None:
        self.holding = None
        waiting, self.waiting = self.waiting, []
        for transport, request in waiting:
            self.send(transport, request)

    def slow_down(self, kind: str, seconds: float) -> None:
        self.delays[kind] = seconds

    def fail_every(self, n: int) -> None:
        self.every = n

    def list_at_most(self, keys: int) -> None:
        self.most = keys

    def cpu_seconds(self) -> float:
        return process_time()


@cache
def etag(times_put: int) -> str:
    """The ETag of all objects that were put this many times. Their content is the same."""
    return md5(b"%d" % times_put + IMAGE, usedforsecurity=False).hexdigest()


def modified(times_put: int) -> datetime:
    """The time of the last modification of an object that was put this many times."""
    return MODIFIED + timedelta(seconds=times_put)


@cache
def listed_properties(times_put: int) -> str:
    """The elements, except the key, that list an object that was put this many times."""
    return (
        f"<LastModified>{modified(times_put):%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
        f"<ETag>&quot;{etag(times_put)}&quot;</ETag><Size>{len(IMAGE)}</Size>"
        "<StorageClass>STANDARD</StorageClass>"
    )


def listing(name: str, bucket: Bucket, query: Mapping[str, str], most: int) -> bytes:
    """The body of an answer to ListObjectsV2. A continuation token is the last listed key."""
    prefix, most = query.get("prefix", ""), min(most, int(query.get("max-keys", most)))
    encode: Callable[[str], str] = quote if query.get("encoding-type") == "url" else escape
    after = query.get("continuation-token") or query.get("start-after", "")
    keys = list(islice(bucket.keys(prefix, after), most + 1))
    truncated = len(keys) > most
    entries = [
        f"<Contents><Key>{encode(key)}</Key>{listed_properties(bucket.times_put[key])}</Contents>"
        for key in keys[:most]
    ]
    more = f"<NextContinuationToken>{encode(keys[most - 1])}</NextContinuationToken>" if truncated else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{name}</Name><Prefix>{encode(prefix)}</Prefix><MaxKeys>{most}</MaxKeys>"
        f"<KeyCount>{len(entries)}</KeyCount><IsTruncated>{str(truncated).lower()}</IsTruncated>{more}"
        f"{'<EncodingType>url</EncodingType>' if encode is quote else ''}{''.join(entries)}"
        "</ListBucketResult>"
    ).encode()


def content(request: Request, etag: str, modified: datetime) -> bytes:
    """The answer to GET or HEAD of an object."""
    if request.headers.get("if-match", etag).strip('"') != etag:
        return refusal(request, 412, "PreconditionFailed")
    headers = {
        "ETag": f'"{etag}"',
        "Last-Modified": format_datetime(modified, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    size = len(IMAGE)
    if request.method == "HEAD":
        return answer(200, b"", headers, length=size)
    asked = request.headers.get("range")
    if asked is None:
        return answer(200, IMAGE, headers)
    first, last = asked.removeprefix("bytes=").split("-")
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        return refusal(request, 416, "InvalidRange")
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return answer(206, IMAGE[start:stop], headers)


def refusal(request: Request, status: int, code: str) -> bytes:
    """An error in S3's form."""
    body = f"<Error><Code>{code}</Code><Message>synthetic</Message></Error>".encode()
    return answer(
        status,
        b"" if request.method == "HEAD" else body,
        {"Content-Type": "application/xml"},
        length=len(body),
    )


def answer(status: int, body: bytes, headers: Mapping[str, str], *, length: int | None = None) -> bytes:
    """A whole answer. If the body is not sent, as for HEAD, `length` is the body's length."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Length: {len(body) if length is None else length}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Connection(asyncio.Protocol):
    """A client's connection. Its requests are answered one after the other."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head, self._received = self._received[:end], self._received[end + 4 :]
            self._server.receive(self._transport, Request.parse(head))


async def serve() -> None:
    """Answer requests, and execute the commands from standard input, until the input ends."""
    server = Server()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0)
    print(json.dumps(listening.sockets[0].getsockname()[1]), flush=True)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        name, arguments = json.loads(line)
        print(json.dumps(getattr(server, name)(**arguments)), flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
