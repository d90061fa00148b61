"""Reads ranges of one object on a web server.

All bytes of a scan come from one version of the object. The first answer states the version: the ETag, or
else the time of the last modification. Every later request states it in `If-Range`, and Keyhole compares the
version and the size in every answer (RFC 9110, 13.1.5 and 14).

Some servers ignore ranges, or state no version. Keyhole reads their object in one piece, if the budget of
bytes allows this, and keeps the bytes in a temporary file.

Keyhole reads the stored bytes: it asks for no compression, and does not decode a `Content-Encoding`.

Known limits:

- A web server can lie: nothing proves that it sends the same bytes to the next reader.
- The scan's deadline ends a request at any moment, except while the system resolves the name of the host.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from typing import BinaryIO, Final
from weakref import finalize

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from keyhole.inspectors.region import ByteRange
from keyhole.reasons import Reason
from keyhole.sources.addresses import NoAddressError, PrivateAddressError
from keyhole.sources.deadline import current, deadline
from keyhole.sources.errors import ObjectChangedError, SourceError, TransientError, UnreadableError
from keyhole.sources.https_access import HOW, HttpsAccess
from keyhole.sources.https_answer import (
    explain,
    identity_of,
    refusal,
    stated_length,
    total_size,
    version_of,
)
from keyhole.sources.https_url import WebUrl
from keyhole.sources.meter import Meter
from keyhole.sources.retries import retried
from keyhole.sources.s3_answer import Span
from keyhole.sources.source import Identity

#: How many redirects a request follows. Mirrors and download pages use up to three.
MOST_REDIRECTS: Final = 5
#: Keyhole reads and counts a body in pieces of this many bytes.
PIECE_BYTES: Final = 64 * 1024
#: A whole object of up to this many bytes is kept in memory, a larger one in a temporary file.
IN_MEMORY_BYTES: Final = 1024 * 1024

_REDIRECTS: Final = {301, 302, 303, 307, 308}
_SPARE: Final = (
    "download the object and inspect the file, inspect it as a stream (`curl … | keyhole inspect -`), or "
    "raise KEYHOLE_BUDGET_BYTES"
)

log = logging.getLogger(__name__)


class _MaskedQueries(logging.Filter):
    """Masks the queries of URLs in urllib3's debug log, because a query can be a password."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the query of Keyhole's own requests. Requests of other code have no deadline."""
        if current() is not None and isinstance(record.args, tuple):
            record.args = tuple(
                f"{value.partition('?')[0]}?***" if isinstance(value, str) and "?" in value else value
                for value in record.args
            )
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_MaskedQueries())


@dataclass(frozen=True, slots=True)
class _Pin:
    """The version of the object that all answers must have, and the header that requests it."""

    identity: Identity
    if_range: str | None

    def check(self, identity: Identity) -> None:
        """Raise `ObjectChangedError` if an answer is about another version."""
        own = self.identity
        # The servers behind a load balancer can have different times for the same object, but not different
        # ETags. An answer to `If-Range` need not repeat the time (RFC 9110, 15.3.7).
        time = identity.last_modified
        same = (
            own.etag is not None or own.last_modified == time or (time is None and self.if_range is not None)
        )
        if (own.size, own.etag) != (identity.size, identity.etag) or not same:
            raise ObjectChangedError


class HttpsSource:
    """Reads ranges of one object on a web server; see `Source`.

    Args:
        access: The connections to web servers.
        url: The object. If a server redirects, all later requests go to the last URL.
        meter: Counts every request, including redirects and retries.
    """

    def __init__(self, access: HttpsAccess, url: WebUrl, *, meter: Meter) -> None:
        self._access = access
        self._meter = meter
        self._given = url
        self._url = url
        self._pin: _Pin | None = None
        self._whole: BinaryIO | None = None

    @property
    def identity(self) -> Identity | None:
        """Return size, ETag and last modification; `None` before the first read."""
        return None if self._pin is None else self._pin.identity

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from `offset` on; see `Source.read`."""
        return self._get(Span(offset, length))

    def read_all(self, parts: Iterable[ByteRange]) -> Iterator[bytes]:
        """Yield the bytes of each range, one after the other."""
        for part in parts:
            yield self.read(part.offset, part.length)

    def _get(self, span: Span) -> bytes:
        if self._pin is not None and (self._whole is not None or not span.placed(self._pin.identity.size)[1]):
            return self._from_whole(span)
        attempts = count()

        def attempt() -> bytes:
            if next(attempts):
                self._meter.retries += 1
            try:
                with self._meter.response():
                    return self._attempt(span)
            except TransientError as error:
                self._meter.failed(error)
                raise

        return retried(attempt)

    def _attempt(self, span: Span) -> bytes:
        with deadline(self._meter.seconds_left) as limit:
            try:
                return self._answered(span)
            except SourceError as error:
                if limit.expired:
                    message = (
                        "the server did not complete its response within the seconds of the scan's budget"
                    )
                    raise TransientError(Reason.NETWORK, message) from error
                raise

    def _answered(self, span: Span) -> bytes:
        """Request a range, and return its bytes."""
        wanted = {"Range": span.header}
        if self._pin is not None and self._pin.if_range is not None:
            wanted["If-Range"] = self._pin.if_range
        with closing(self._requested(wanted, span.length)) as answer:
            if answer.status == 206:
                data, identity = self._partial(answer, span)
            elif answer.status == 416:
                return self._past_the_end(answer, span)
            else:
                return self._ignored(answer, span)
        if_range = version_of(answer, identity)
        if self._pin is None and if_range is None and identity.etag is None and len(data) < identity.size:
            # Nothing in the answers would show that a later range comes from another version.
            return self._read_whole(span)
        self._accept(identity, if_range)
        return data

    def _partial(self, answer: BaseHTTPResponse, span: Span) -> tuple[bytes, Identity]:
        """Return the bytes and the identity in an answer that has only the requested range."""
        size = total_size(answer, span)
        length = span.placed(size)[1]
        identity = identity_of(answer.headers, size)
        if self._pin is not None:
            self._pin.check(identity)
        data = b"".join(self._pieces(answer, length))
        if len(data) < length:
            raise TransientError(Reason.TRUNCATED_BODY, f"the answer to {span.header} ended too early")
        return data, identity

    def _past_the_end(self, answer: BaseHTTPResponse, span: Span) -> bytes:
        """Return no bytes if the object is empty: an empty object has no range."""
        if self._pin is not None:
            raise ObjectChangedError
        if answer.headers.get("Content-Range", "").strip() != "bytes */0":
            return self._read_whole(span)
        self._accept(identity_of(answer.headers, 0), None)
        return b""

    def _ignored(self, answer: BaseHTTPResponse, span: Span) -> bytes:
        """Read an answer that has the whole object although a range was requested."""
        if self._pin is not None:
            self._pin.check(identity_of(answer.headers, stated_length(answer) or self._pin.identity.size))
            # Some servers send the whole object if a request has `If-Range`, so leave it out.
            self._pin = _Pin(self._pin.identity, None)
            raise TransientError(
                Reason.WRONG_RANGE, f"the server answered {span.header} with the whole object"
            )
        return self._kept(answer, span)

    def _read_whole(self, span: Span) -> bytes:
        """Request the whole object, keep it, and return a range of it."""
        with closing(self._requested({}, 0)) as answer:
            return self._kept(answer, span)

    def _kept(self, answer: BaseHTTPResponse, span: Span) -> bytes:
        """Keep the object in the answer, and return a range of it.

        Raises:
            UnreadableError: The object has more bytes than the budget allows.
        """
        if answer.status != 200:
            raise TransientError(Reason.SERVER_ERROR, f"the server answered with the status {answer.status}")
        stated = stated_length(answer)
        self._check_affordable(stated or 0)
        whole = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - closed with this source
        finalize(self, whole.close)
        size = 0
        for piece in self._pieces(answer, None):
            whole.write(piece)
            size += len(piece)
            self._check_affordable(0)
        if stated is not None and size != stated:
            raise TransientError(Reason.TRUNCATED_BODY, "the answer with the whole object ended too early")
        self._whole = whole  # type: ignore[assignment] # a file in all but its declared type
        self._accept(identity_of(answer.headers, size), None)
        return self._from_whole(span)

    def _check_affordable(self, length: int) -> None:
        if not self._meter.affords(0, length) and self._meter.seconds_left:
            raise UnreadableError(
                Reason.RANGE_IGNORED,
                "the server sends only the whole object, which has more bytes than the scan's budget; "
                + _SPARE,
            )
        self._meter.allow(0)

    def _from_whole(self, span: Span) -> bytes:
        assert self._pin is not None  # noqa: S101 - `_get` checks it
        offset, length = span.placed(self._pin.identity.size)
        if self._whole is None:
            return b""
        self._whole.seek(offset)
        return self._whole.read(length)

    def _accept(self, identity: Identity, if_range: str | None) -> None:
        if self._pin is None:
            self._pin = _Pin(identity, if_range)

    def _requested(self, headers: dict[str, str], length: int) -> BaseHTTPResponse:
        """Send a request, follow its redirects, and return the answer: 200, 206 or 416.

        Raises:
            SourceError: There is no such answer.
        """
        sent = {"Accept-Encoding": "identity", "User-Agent": "keyhole", **headers}
        url = self._url
        for _ in range(MOST_REDIRECTS + 1):
            self._meter.request(length)
            answer = self._sent(url, sent)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or location is None:
                error = refusal(answer)
                if error is not None:
                    answer.close()
                    raise error
                self._url = url
                return answer
            answer.close()
            url = self._redirected(url, location)
        raise UnreadableError(
            Reason.REQUEST, f"the server redirects more than {MOST_REDIRECTS} times; check the URL"
        )

    def _sent(self, url: WebUrl, headers: dict[str, str]) -> BaseHTTPResponse:
        # The password belongs to the server for which it was given, not to a server to which that redirects.
        if self._given.authorization is not None and url.origin == self._given.origin:
            headers = {**headers, "Authorization": self._given.authorization}
        try:
            return self._access.get(url, headers)
        except PrivateAddressError as error:
            raise UnreadableError(Reason.ADDRESS_NOT_ALLOWED, f"{error}; {HOW}") from error
        except NoAddressError as error:
            raise TransientError(Reason.NETWORK, str(error)) from error
        except (HTTPError, OSError, ValueError) as error:
            raise explain(error) from error

    def _redirected(self, url: WebUrl, location: str) -> WebUrl:
        try:
            target = url.redirected(location)
        except ValueError as error:
            raise UnreadableError(Reason.REQUEST, f"the server redirects to no object: {error}") from error
        if target.authorization is not None:
            raise UnreadableError(Reason.REQUEST, "the server redirects to a URL with a password")
        return target

    def _pieces(self, answer: BaseHTTPResponse, length: int | None) -> Iterator[bytes]:
        """Yield the next `length` bytes of a body, or all bytes if `length` is `None`; fewer if it ends."""
        left = length
        while left is None or left > 0:
            try:
                wanted = PIECE_BYTES if left is None else min(left, PIECE_BYTES)
                piece = answer.read(wanted, decode_content=False)
            except (HTTPError, OSError, ValueError) as error:
                raise explain(error) from error
            if not piece:
                return
            self._meter.received(len(piece))
            left = None if left is None else left - len(piece)
            yield piece
