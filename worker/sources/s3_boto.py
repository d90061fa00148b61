"""Ranged GETs by boto3: slower than obstore, but it takes every key that S3 takes and names every error."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ResponseStreamingError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from worker.sources.deadline import deadline
from worker.sources.errors import (
    ConfigurationError,
    ObjectChangedError,
    SourceError,
    TransientError,
    UnreadableError,
)
from worker.sources.meter import Meter
from worker.sources.s3_answer import Answer, Pin, Span
from worker.sources.source import Identity

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: A server that ignores Range sends the object from its front. This much is read to reach a range further
#: back.
MAX_SKIPPED_BYTES = 8 * 1024 * 1024

#: A body is read, and counted, in pieces of this many bytes.
PIECE_BYTES = 64 * 1024

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

#: What 4xx codes mean for the object, and what to do. A code not here is a request that we should not have
#: made.
UNREADABLE_CODES = {
    "NoSuchKey": ("not_found", "the object does not exist"),
    "NoSuchBucket": ("not_found", "the bucket does not exist"),
    "NoSuchVersion": ("not_found", "this version of the object does not exist"),
    "InvalidObjectState": ("archived", "the object is archived; restore it before it can be scanned"),
    "MethodNotAllowed": ("delete_marker", "this version of the object is a delete marker"),
    "AccessDenied": (
        "access_denied",
        (
            "reading is denied, or the object is missing and listing is denied; it takes s3:GetObject (of a "
            "version s3:GetObjectVersion), kms:Decrypt where KMS encrypts, s3:ListBucket to tell which it is"
        ),
    ),
}
#: S3 and Ceph say so in the message alone, with the codes InvalidRequest and InvalidArgument.
CUSTOMER_KEY = ("form of Server Side Encryption", "Server Side Encryption with Customer provided keys")
CREDENTIAL_CODES = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredTokenException",
}
#: Where credentials should have come from, and did not.
CREDENTIAL_ERRORS = (
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    SSOError,
    TokenRetrievalError,
)
THROTTLING_CODES = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "RequestLimitExceeded",
    "503",
}


def get(client: "S3Client", pin: Pin, span: Span, meter: Meter) -> Answer:
    """Make one ranged GET, within the seconds that are left of the budget.

    Raises:
        SourceError: One of its kinds, which says why.
    """
    meter.request(span.length)
    with deadline(meter.seconds_left) as limit:
        try:
            return _get(client, pin, span, meter)
        except SourceError as error:
            if limit.expired:
                message = "the server did not answer in full within the budget's seconds"
                raise TransientError("network", message) from error
            raise


def _get(client: "S3Client", pin: Pin, span: Span, meter: Meter) -> Answer:
    request: dict[str, Any] = {
        "Bucket": pin.bucket,
        "Key": pin.key,
        "Range": span.header,
    }  # boto3's own mix of types
    if pin.version_id is not None:
        request["VersionId"] = pin.version_id
    if pin.etag is not None:
        request["IfMatch"] = pin.etag
    try:
        response = client.get_object(**request)
    except ClientError as error:
        meter.repeated(_redirects(error.response))
        if _status(error) == 416 and span.offset in {0, None}:
            return _get_empty(client, request, meter)
        if _status(error) == 416 and pin.etag is not None:
            raise ObjectChangedError from error  # the pinned object reaches there, this one does not
        raise explain(error) from error
    except (BotoCoreError, HTTPClientError, ResponseParserError, ValueError) as error:
        raise explain(error) from error
    meter.repeated(_redirects(response))
    return _read(response, span, meter)


def explain(error: Exception) -> SourceError:
    """The source's error for one of boto3's."""
    if isinstance(error, CREDENTIAL_ERRORS):
        return ConfigurationError("credentials", f"{error}; see `keyhole doctor`")
    if isinstance(error, ClientError):
        return _explain_answer(error)
    if isinstance(error, BotoConnectionError | HTTPClientError | ResponseStreamingError):
        return TransientError("network", f"the connection failed: {error}")
    if isinstance(error, ResponseParserError | ValueError):
        # botocore's parsers raise either where a header or a body is not what it should be.
        return TransientError("server_error", f"the server's answer makes no sense: {error}")
    return ConfigurationError("request", f"the request cannot be made: {error}")


def _explain_answer(error: ClientError) -> SourceError:
    code, message = (str(error.response.get("Error", {}).get(field, "")) for field in ("Code", "Message"))
    status = _status(error)
    if status == 412:
        return ObjectChangedError()
    if code in THROTTLING_CODES or status == 429:
        return TransientError("slow_down", f"the server asks to slow down ({status} {code})")
    if status >= 500 or code == "RequestTimeout":
        return TransientError("server_error", f"the server failed ({status} {code})")
    if code in CREDENTIAL_CODES:
        return ConfigurationError(
            "credentials", f"the credentials are refused ({code}); renew or correct them"
        )
    if code == "RequestTimeTooSkewed":
        return ConfigurationError("clock", "the server's time is another than this machine's; set its clock")
    return _unreadable(error, code) or ConfigurationError(
        "request", f"the server refuses the request ({status} {code}: {message})"
    )


def _unreadable(error: ClientError, code: str) -> UnreadableError | None:
    """What a 4xx says of the object; `None` if it says something of the request instead."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if headers.get("x-amz-delete-marker") == "true":
        code = "MethodNotAllowed"
    elif any(words in str(error.response.get("Error", {}).get("Message", "")) for words in CUSTOMER_KEY):
        return UnreadableError("customer_key", "the object is encrypted with a key of the customer's (SSE-C)")
    elif code not in UNREADABLE_CODES:
        code = {403: "AccessDenied", 404: "NoSuchKey", 405: "MethodNotAllowed"}.get(_status(error), code)
    return UnreadableError(*UNREADABLE_CODES[code]) if code in UNREADABLE_CODES else None


def _redirects(response: Any) -> int:  # noqa: ANN401 - boto3's response is a dict of everything
    """How often botocore repeated a request by itself: without retries, it does to follow a redirect."""
    return int(response.get("ResponseMetadata", {}).get("RetryAttempts", 0))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _get_empty(client: "S3Client", request: dict[str, Any], meter: Meter) -> Answer:
    """Ask for an object without a range, for an empty one has none. One that is not empty is not read."""
    meter.request(0)
    try:
        response = client.get_object(**{name: value for name, value in request.items() if name != "Range"})
    except (ClientError, BotoCoreError, HTTPClientError, ResponseParserError, ValueError) as error:
        raise explain(error) from error
    response["Body"].close()
    if response.get("ContentLength") != 0:
        raise ObjectChangedError
    return Answer(0, b"", _identity(response, 0))


def _read(response: Any, span: Span, meter: Meter) -> Answer:  # noqa: ANN401 - boto3's response is a dict of everything
    body = response["Body"]
    try:
        size, skipped = _place(response, span)
        meter.allow(skipped)
        passed = sum(len(piece) for piece in _pieces(body, skipped, meter))
        offset, length = span.placed(size)
        data = b"".join(_pieces(body, length, meter))
    except (IncompleteReadError, ResponseStreamingError) as error:
        raise TransientError("truncated_body", f"the answer to {span.header} broke off: {error}") from error
    except (BotoCoreError, HTTPClientError, HTTPError, OSError) as error:
        raise TransientError("network", f"the connection failed: {error}") from error
    finally:
        body.close()
    if passed + len(data) != skipped + length:
        raise TransientError("truncated_body", f"the answer to {span.header} ended before its end")
    return Answer(offset, data, _identity(response, size))


def _place(response: Any, span: Span) -> tuple[int, int]:  # noqa: ANN401 - boto3's response is a dict of everything
    """The object's size, and how many bytes of the body lie before the span."""
    stated = response.get("ContentRange")
    if response["ResponseMetadata"]["HTTPStatusCode"] == 206:
        content_range = CONTENT_RANGE.fullmatch(stated or "")
        if content_range is None or int(content_range[1]) != span.placed(int(content_range[3]))[0]:
            raise TransientError("wrong_range", f"the server answered {span.header} with {stated!r}")
        return int(content_range[3]), 0
    # A 200: the server ignores Range and sends everything. Read no further than asked.
    size = response.get("ContentLength")
    if size is None:
        raise UnreadableError(
            "range_ignored", "the server ignores ranges, and does not say how long the object is"
        )
    skipped, _ = span.placed(size)
    if skipped > MAX_SKIPPED_BYTES:
        raise UnreadableError(
            "range_ignored", "the server ignores ranges; the object would be read from its front"
        )
    return int(size), skipped


def _pieces(body: Any, length: int, meter: Meter) -> Iterator[bytes]:  # noqa: ANN401 - botocore has no types
    """The next `length` bytes of a body, fewer where it ends."""
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
