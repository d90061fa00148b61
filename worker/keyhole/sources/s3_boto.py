"""Makes ranged GETs with boto3, which is slower than obstore but accepts all keys and explains its errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from keyhole.reasons import Reason
from keyhole.sources.deadline import deadline
from keyhole.sources.errors import ObjectChangedError, SourceError, TransientError, UnreadableError
from keyhole.sources.meter import Meter
from keyhole.sources.s3_answer import Answer, Pin, Span
from keyhole.sources.s3_metadata import http_status, redirects
from keyhole.sources.s3_refusal import BOTO_ERRORS, explain
from keyhole.sources.source import Identity

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: If a server ignores `Range`, it sends the whole object. Keyhole then reads and drops the bytes before the
#: range, but at most this many.
MAX_SKIPPED_BYTES = 8 * 1024 * 1024

#: Keyhole reads and counts a body in pieces of this many bytes.
PIECE_BYTES = 64 * 1024

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def get(client: "S3Client", pin: Pin, span: Span, meter: Meter) -> Answer:
    """Make one ranged GET within the seconds that are left of the budget.

    Raises:
        SourceError: The GET failed. The subclass states the cause.
    """
    meter.request(span.length)
    with _within_budget(meter):
        return _get(client, pin, span, meter)


def get_empty(client: "S3Client", pin: Pin, meter: Meter) -> Answer:
    """Make one GET without a range, within the seconds that are left of the budget.

    Servers refuse every range of an empty object, so call this function if a server has refused a range that
    begins at 0.

    Raises:
        SourceError: The GET failed, or the object is not empty now.
    """
    with _within_budget(meter):
        return _get_without_range(client, pin, meter)


@contextmanager
def _within_budget(meter: Meter) -> Iterator[None]:
    """End the requests in this block when no seconds are left of the budget."""
    with deadline(meter.seconds_left) as limit:
        try:
            yield
        except SourceError as error:
            if limit.expired:
                message = "the server did not complete its response within the seconds of the scan's budget"
                raise TransientError(Reason.NETWORK, message) from error
            raise


def _get(client: "S3Client", pin: Pin, span: Span, meter: Meter) -> Answer:
    request = _request(pin)
    try:
        response = client.get_object(**request, Range=span.header)
    except ClientError as error:
        meter.repeated(redirects(error.response))
        if pin.if_match is not None and http_status(error.response) == 501:
            answer = get(client, replace(pin, states_etag=False), span, meter)
            return replace(answer, took_if_match=False)
        if http_status(error.response) == 416 and pin.size:
            # The range is inside the pinned object, so the server now has a shorter object.
            raise ObjectChangedError from error
        if http_status(error.response) == 416 and span.offset == 0:
            return _get_without_range(client, pin, meter)
        raise explain(error) from error
    except BOTO_ERRORS as error:
        raise explain(error) from error
    meter.repeated(redirects(response))
    return _read(client, response, pin, span, meter)


def _request(pin: Pin) -> dict[str, Any]:  # boto3's values have many types
    """Return the parameters that all requests for a pinned object have."""
    request = {"Bucket": pin.bucket, "Key": pin.key, "VersionId": pin.version_id, "IfMatch": pin.if_match}
    return {name: value for name, value in request.items() if value is not None}


def _get_without_range(client: "S3Client", pin: Pin, meter: Meter) -> Answer:
    """Get an object without a range. Servers refuse every range of an empty object.

    Raises:
        SourceError: The GET failed, or the object is not empty now.
    """
    meter.request(0)
    try:
        response = client.get_object(**_request(pin))
    except BOTO_ERRORS as error:
        raise explain(error) from error
    response["Body"].close()
    if response.get("ContentLength") != 0:
        raise ObjectChangedError
    return Answer(0, b"", _identity(response, 0))


def _read(client: "S3Client", response: Any, pin: Pin, span: Span, meter: Meter) -> Answer:  # noqa: ANN401 - boto3's response is a dict of everything
    body = response["Body"]
    try:
        size, skipped = _place(client, response, pin, span, meter)
        meter.allow(skipped)
        passed = sum(len(piece) for piece in _pieces(body, skipped, meter))
        offset, length = span.placed(size)
        data = b"".join(_pieces(body, length, meter))
    except (IncompleteReadError, ResponseStreamingError) as error:
        raise TransientError(
            Reason.TRUNCATED_BODY, f"the answer to {span.header} broke off: {error}"
        ) from error
    except (BotoCoreError, HTTPClientError, HTTPError, OSError) as error:
        raise TransientError(Reason.NETWORK, f"the connection failed: {error}") from error
    finally:
        body.close()
    if passed + len(data) != skipped + length:
        raise TransientError(Reason.TRUNCATED_BODY, f"the answer to {span.header} ended too early")
    return Answer(offset, data, _identity(response, size), heeds_range=http_status(response) == 206)


def _place(
    client: "S3Client",
    response: Any,  # noqa: ANN401 - boto3's response is a dict of everything
    pin: Pin,
    span: Span,
    meter: Meter,
) -> tuple[int, int]:
    """Return the object's size, and how many bytes of the body precede the span."""
    stated = response.get("ContentRange")
    if http_status(response) == 206:
        content_range = CONTENT_RANGE.fullmatch(stated or "")
        if content_range is not None:
            first, total = int(content_range[1]), content_range[3]
            size = _size(client, response, pin, meter) if total == "*" else int(total)
            if first == span.placed(size)[0]:
                return size, 0
        raise TransientError(Reason.WRONG_RANGE, f"the server answered {span.header} with {stated!r}")
    # The status is 200: the server ignores `Range` and sends the whole object.
    if response.get("ETag") is None and response.get("LastModified") is None:
        raise TransientError(
            Reason.SERVER_ERROR,
            f"{client.meta.endpoint_url} answers with a page that is not an object of S3, because it has "
            "neither ETag nor Last-Modified; check this URL, and whether a proxy or a login page answers "
            "instead of the server",
        )
    size = response.get("ContentLength")
    # If the server has supported ranges before, this response is wrong.
    if pin.heeds_ranges and span.offset and (size is None or span.placed(size)[0]):
        raise TransientError(Reason.WRONG_RANGE, f"the server answered {span.header} with the whole object")
    if size is None:
        raise UnreadableError(
            Reason.RANGE_IGNORED, "the server ignores ranges, and does not state the size of the object"
        )
    if span.placed(size)[0] > MAX_SKIPPED_BYTES:
        raise UnreadableError(
            Reason.RANGE_IGNORED,
            "the server ignores ranges, and Keyhole would have to read the object from its front",
        )
    return int(size), span.placed(size)[0]


def _size(client: "S3Client", response: Any, pin: Pin, meter: Meter) -> int:  # noqa: ANN401 - as above
    """Return the size of an object if the response to a GET does not state it (`bytes 0-9/*`).

    This takes one HEAD, unless the size is known.
    """
    if pin.size is not None:
        return pin.size
    meter.request(0)
    try:
        head = client.head_object(
            **_request(replace(pin, version_id=response.get("VersionId") or pin.version_id))
        )
    except BOTO_ERRORS as error:
        raise explain(error) from error
    if head.get("ETag") != response.get("ETag"):
        raise ObjectChangedError
    if head.get("ContentLength") is None:
        raise TransientError(Reason.SERVER_ERROR, "the server does not state the size of the object")
    return int(head["ContentLength"])


def _pieces(body: Any, length: int, meter: Meter) -> Iterator[bytes]:  # noqa: ANN401 - botocore has no types
    """Yield the next `length` bytes of a body; fewer if the body ends."""
    while length > 0 and (piece := body.read(min(length, PIECE_BYTES))):
        meter.received(len(piece))
        length -= len(piece)
        yield piece


def _identity(response: Any, size: int) -> Identity:  # noqa: ANN401 - boto3's response is a dict of everything
    return Identity(
        size=size,
        etag=response.get("ETag"),
        version_id=response.get("VersionId"),
        last_modified=response.get("LastModified"),
        content_type=response.get("ContentType"),
        content_encoding=response.get("ContentEncoding"),
        metadata=tuple(response.get("Metadata", {}).items()),
    )
