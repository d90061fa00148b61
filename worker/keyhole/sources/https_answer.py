"""Reads the headers of a web server's answers, and explains refusals and failures."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from urllib3 import HTTPHeaderDict
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
)
from urllib3.exceptions import SSLError as TLSError
from urllib3.response import BaseHTTPResponse

from keyhole.reasons import Reason
from keyhole.sources.errors import SourceError, TransientError, UnreadableError
from keyhole.sources.s3_answer import Span
from keyhole.sources.source import Identity

#: The most characters of an ETag, or of the id of a version. S3's ids have up to 1,024, and ETags less than a
#: hundred.
MOST_ETAG: Final = 1024
#: S3 stores an object's metadata in headers with this prefix, also in answers to presigned URLs.
_METADATA: Final = "x-amz-meta-"
#: The kinds of failures of a connection. The first kind that matches an error explains it.
_FAILURES: Final = (
    (ProxyError, "the connection to the proxy failed; check HTTPS_PROXY"),
    (NewConnectionError, "no connection to the server is possible"),
    ((ConnectTimeoutError, ReadTimeoutError, TimeoutError), "the server did not answer in time"),
)
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


def identity_of(headers: HTTPHeaderDict, size: int) -> Identity:
    """Return the identity that an answer's headers state. `size` is the size of the object in bytes."""
    return Identity(
        size=size,
        etag=_short(headers.get("ETag")),
        version_id=_short(headers.get("x-amz-version-id")),
        last_modified=_time(headers.get("Last-Modified")),
        content_type=headers.get("Content-Type"),
        content_encoding=headers.get("Content-Encoding"),
        metadata=tuple(
            (name.lower().removeprefix(_METADATA), value)
            for name, value in headers.items()
            if name.lower().startswith(_METADATA)
        ),
    )


def _short(stated: str | None) -> str | None:
    """Return the name of a version, which reports repeat; `None` if a server made it up."""
    return stated if stated and len(stated) <= MOST_ETAG and stated.isprintable() else None


def _time(stated: str | None) -> datetime | None:
    """Return the time in a header; `None` if it is missing or malformed. Source: RFC 9110, 5.6.7."""
    try:
        moment = parsedate_to_datetime(stated or "")
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def total_size(answer: BaseHTTPResponse, span: Span) -> int:
    """Return the size of the object, in bytes, from an answer that has only the requested range.

    Raises:
        TransientError: The answer has another range, or does not state its range or the size.
    """
    stated = answer.headers.get("Content-Range", "")
    found = _CONTENT_RANGE.fullmatch(stated.strip())
    if found is not None:
        first, last, size = map(int, found.groups())
        offset, length = span.placed(size)
        if (first, last) == (offset, offset + length - 1):
            return size
    raise TransientError(Reason.WRONG_RANGE, f"the server answered {span.header} with {stated[:80]!r}")


def stated_length(answer: BaseHTTPResponse) -> int | None:
    """Return the `Content-Length` of an answer; `None` if there is none."""
    stated = answer.headers.get("Content-Length", "")
    return int(stated) if re.fullmatch(r"[0-9]{1,18}", stated) else None


def version_of(answer: BaseHTTPResponse, identity: Identity) -> str | None:
    """Return the value of `If-Range` that requests the version of an answer; `None` if it states none.

    A weak ETag never matches, so it is not stated (RFC 9110, 13.1.5).
    """
    if identity.etag is not None and not identity.etag.startswith("W/"):
        return identity.etag
    return None if identity.last_modified is None else answer.headers["Last-Modified"]


def refusal(answer: BaseHTTPResponse) -> SourceError | None:
    """Return the error that an answer's status means; `None` if the answer can have the requested bytes."""
    status = answer.status
    if status in {200, 206, 416}:
        return None
    if status in {401, 403, 407}:
        return UnreadableError(Reason.ACCESS_DENIED, f"the server denies reading ({status})")
    if status in {404, 410}:
        return UnreadableError(Reason.NOT_FOUND, f"the server has no such object ({status})")
    if status == 429:
        return TransientError(Reason.SLOW_DOWN, "the server asks to slow down (429)")
    if status == 408 or status >= 500:
        return TransientError(Reason.SERVER_ERROR, f"the server failed ({status})")
    return UnreadableError(Reason.REQUEST, f"the server answered with the status {status}; check the URL")


def explain(error: Exception) -> SourceError:
    """Return the `SourceError` for an error of urllib3 or of a socket.

    The message never contains the URL, because the URL's query can be a password.
    """
    if isinstance(error, TLSError):
        return _about_tls(str(error))
    cause = error.args[-1] if isinstance(error, ProtocolError) and error.args else error
    if isinstance(cause, IncompleteRead):
        return TransientError(Reason.TRUNCATED_BODY, "the answer broke off")
    if isinstance(error, ValueError) and not isinstance(error, HTTPError):
        return TransientError(Reason.SERVER_ERROR, "the server's answer is malformed")
    what = next((text for kinds, text in _FAILURES if isinstance(error, kinds)), "the connection failed")
    system = error if isinstance(error, OSError) else error.__cause__
    why = system.strerror if isinstance(system, OSError) else None
    return TransientError(Reason.NETWORK, f"{what}: {why}" if why else what)


def _about_tls(said: str) -> SourceError:
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return UnreadableError(
            Reason.REQUEST,
            "the server's certificate is not trusted, or is not for this host; add its CA to the system's "
            "store, or set SSL_CERT_FILE to the CA's file",
        )
    if "WRONG_VERSION_NUMBER" in said or "RECORD_LAYER" in said:
        return UnreadableError(Reason.REQUEST, "the server does not speak TLS; check the port in the URL")
    return TransientError(Reason.NETWORK, "the TLS connection failed")
