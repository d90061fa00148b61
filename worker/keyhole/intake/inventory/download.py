"""Downloads the files of an inventory from S3 in ranges.

All ranges of a file must have the same ETag. If somebody replaces the file during the download, the download
fails.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from keyhole.inspectors.text import printable
from keyhole.intake.errors import ListingError
from keyhole.sources import s3_boto
from keyhole.sources.errors import (
    ConfigurationError,
    ObjectChangedError,
    TransientError,
    UnreadableError,
)
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.retries import retried
from keyhole.sources.s3_answer import Answer, Pin, Span
from keyhole.sources.s3_uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: The length of a range in bytes. During a download, one range at a time is in memory.
RANGE_BYTES: Final = 8 << 20


def counting() -> Meter:
    """Return a meter that counts requests and has no limits.

    The meter needs no limits, because the functions of this module limit the bytes of each file.
    """
    return Meter(Budget(requests=1 << 62, bytes=1 << 62, seconds=float("inf")))


def shown(uri: S3Uri) -> str:
    """Return an object's URI for error messages, with all special characters of the key escaped."""
    return printable(str(uri).encode(errors="surrogatepass"))


def read_whole(client: "S3Client", uri: S3Uri, limit: int, meter: Meter) -> bytes:
    """Read a small object completely.

    Raises:
        SourceError: The object cannot be read.
        ListingError: The object is longer than `limit` bytes.
    """
    answer = _get(client, Pin(uri.bucket, uri.key), Span(0, limit), meter)
    if answer.identity.size > limit:
        raise ListingError(f"{shown(uri)} is {answer.identity.size} bytes long; the limit is {limit} bytes")
    return answer.data


def read_pieces(client: "S3Client", uri: S3Uri, size: int, meter: Meter) -> Iterator[bytes]:
    """Yield the bytes of an object in pieces. If the object does not have `size` bytes, raise an error.

    Raises:
        SourceError: The object cannot be read.
        ListingError: The object has another size, or was replaced during the download.
    """
    pin = Pin(uri.bucket, uri.key)
    for offset in range(0, size, RANGE_BYTES):
        answer = _get(client, pin, Span(offset, min(RANGE_BYTES, size - offset)), meter)
        if answer.identity.size != size:
            raise ListingError(
                f"{shown(uri)} is {answer.identity.size} bytes long, but the manifest states {size}"
            )
        states_etag = pin.states_etag and answer.took_if_match
        pin = replace(pin, etag=answer.identity.etag, size=size, states_etag=states_etag)
        yield answer.data


def _get(client: "S3Client", pin: Pin, span: Span, meter: Meter) -> Answer:
    name = shown(S3Uri(pin.bucket, pin.key))
    try:
        answer = retried(lambda: s3_boto.get(client, pin, span, meter))
        pin.check(answer.identity)
    except ObjectChangedError as error:
        raise ListingError(f"{name} was replaced while it was read; start a new audit") from error
    except (TransientError, UnreadableError, ConfigurationError) as error:
        raise type(error)(error.reason, f"{name}: {error}") from error
    return answer
