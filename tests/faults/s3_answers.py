"""S3's answers to requests for an object or its tags, as HTTP, and two kinds of wrong answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from tests.faults.objects import Stock
from tests.servers.request import Request

#: The upload time of objects that were not replaced.
UPLOADED = datetime(2026, 5, 1, 12, tzinfo=UTC)
CHUNK = 256 * 1024
S3_XML = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@dataclass
class Stored:
    """The current state of an object."""

    stock: int
    swaps: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    #: Whether the tags were sent with the upload.
    forged: bool = False
    #: How often the server denied reading the object.
    denied: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer. Its body is bytes, or the bytes `span` of a stock's image."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    stock: Stock | None = None
    span: range = range(0)

    @property
    def length(self) -> int:
        """The length of the body."""
        return len(self.span) if self.stock is not None else len(self.body)

    def head(self) -> bytes:
        """The status line and all headers."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            *(() if self.status == 204 else (f"Content-Length: {self.length}",)),
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def pieces(self, length: int) -> Iterator[bytes]:
        """The first `length` bytes of the body."""
        if self.stock is None:
            yield self.body[:length]
            return
        end = min(self.span.stop, self.span.start + length)
        for start in range(self.span.start, end, CHUNK):
            yield self.stock.image.read(start, min(CHUNK, end - start))


def content(request: Request, stored: Stored, stock: Stock) -> Answer:
    """An answer to GET or HEAD of an object."""
    etag = stock.etag
    if (request.if_match or etag).strip('"') != etag:
        return refusal(412, "PreconditionFailed")
    headers = {
        "ETag": f'"{etag}"',
        "Last-Modified": format_datetime(UPLOADED + timedelta(seconds=stored.swaps), usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    size = stock.image.size
    if request.range is None:
        return Answer(200, headers, b"", stock, range(size))
    first, last = request.range.removeprefix("bytes=").split("-")
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        return refusal(416, "InvalidRange")
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Answer(206, headers, b"", stock, range(start, stop))


def elsewhere(answer: Answer) -> Answer:
    """The answer to another range, which begins in the middle of the requested range."""
    if answer.stock is None or answer.status != 206 or len(answer.span) < 2:
        return answer
    span = range(answer.span.start + len(answer.span) // 2, answer.span.stop)
    said = f"bytes {span.start}-{span.stop - 1}/{answer.stock.image.size}"
    return Answer(206, {**answer.headers, "Content-Range": said}, b"", answer.stock, span)


def whole(answer: Answer) -> Answer:
    """The answer of a server that ignores the requested range."""
    if answer.stock is None or answer.status != 206:
        return answer
    headers = {name: value for name, value in answer.headers.items() if name != "Content-Range"}
    return Answer(200, headers, b"", answer.stock, range(answer.stock.image.size))


def refusal(status: int, code: str) -> Answer:
    """An error in the form in which S3 sends it."""
    body = f"<Error><Code>{code}</Code><Message>a storm</Message></Error>".encode()
    return Answer(status, {"Content-Type": "application/xml"}, body)


def tagging(tags: Mapping[str, str]) -> bytes:
    """Return a set of tags as XML, as S3 sends it."""
    inner = "".join(
        f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>" for name, value in tags.items()
    )
    return f"<Tagging {S3_XML}><TagSet>{inner}</TagSet></Tagging>".encode()


def parsed(body: bytes) -> dict[str, str]:
    """Parse a set of tags from XML, as Keyhole sends it."""
    tags = ET.fromstring(body).iterfind(".//{*}Tag")  # noqa: S314 - Keyhole wrote it
    return {tag.findtext("{*}Key", ""): tag.findtext("{*}Value", "") for tag in tags}
