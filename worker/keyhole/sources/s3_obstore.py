"""Ranged GETs with obstore: a twentieth of boto3's CPU time, for the keys that it can name.

Its paths are more limited than S3's keys: it strips `/` from both ends of a key, which would read another
object, and refuses empty, `.` and `..` segments and control characters. `can_name` accepts keys that equal
their parsed form.

Do not use it in a process that forks afterwards. Create it in the child.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from obstore import get as obstore_get
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError
from obstore.store import S3Store

from keyhole.sources.meter import Meter
from keyhole.sources.s3_answer import Answer, Pin, Span
from keyhole.sources.s3_client import CONNECT_SECONDS, READ_SECONDS, Place
from keyhole.sources.source import Identity

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig

#: The service and the signature that obstore can sign for, in botocore's terms.
SIGNATURES = {("s3", "v4")}
#: obstore reads the environment's proxies unless it has one. This one is never used.
NO_PROXY: "ClientConfig" = {"proxy_url": "http://127.0.0.1:9", "proxy_excludes": "*,0.0.0.0/0,::/0"}


class ObstoreRefusedError(Exception):
    """obstore failed, and its errors do not say enough about why: ask again with boto3, which names it."""


def can_name(key: str) -> bool:
    """Return whether obstore reads exactly the object of this key."""
    segments = key.split("/")
    return not any(segment in {"", ".", ".."} for segment in segments) and not any(
        ord(character) < 0x20 or ord(character) == 0x7F for character in key
    )


def open_store(
    place: Place,
    *,
    credentials: Boto3CredentialProvider,
    headers: Mapping[str, str],
    proxy: str | None,
    certificates: Path | None,
) -> S3Store:
    """Return a bucket at the URL that boto3 uses for it.

    obstore takes missing options from the environment, so all are given.

    Args:
        place: The bucket's URL, and how requests to it are signed.
        credentials: Returns the keys.
        headers: Headers of every request; they are signed, too.
        proxy: The proxy's URL; `None` for a direct connection.
        certificates: A file of certificates to trust besides those that obstore finds by itself.
    """
    options: ClientConfig = {
        "allow_http": place.url.startswith("http:"),
        "allow_invalid_certificates": False,
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=READ_SECONDS),
        "user_agent": "keyhole",
        "default_headers": dict(headers),
        **({"proxy_url": proxy, "proxy_excludes": ""} if proxy else NO_PROXY),
    }
    if certificates is not None:
        options["root_certificate"] = certificates.read_bytes()
    return S3Store(
        "bucket",  # the URL has the true name already
        # An S3 endpoint in the environment would override this one.
        config={"aws_endpoint_url_s3": place.url},
        virtual_hosted_style_request=True,
        skip_signature=False,
        s3_express=False,
        request_payer=False,
        region=place.region,
        credential_provider=credentials,
        client_options=options,
        retry_config={"max_retries": 0},
    )


def get(store: S3Store, pin: Pin, span: Span, meter: Meter) -> Answer:
    """Make one ranged GET.

    Raises:
        ObstoreRefusedError: Anything else failed.
        BudgetExhaustedError: The request would exceed the budget.
    """
    meter.request(span.length)
    options: GetOptions = {
        "range": {"suffix": span.length} if span.offset is None else (span.offset, span.offset + span.length),
    }
    if pin.if_match is not None:
        options["if_match"] = pin.if_match
    if pin.version_id is not None:
        options["version"] = pin.version_id
    try:
        result = obstore_get(store, pin.key, options=options)
        size = result.meta["size"]
        offset, length = span.placed(size)
        data = _body(result, length, meter)
    except (BaseError, FileNotFoundError, ValueError, OSError) as error:
        raise ObstoreRefusedError(str(error)) from error
    except BaseException as error:
        # A panic in Rust: PyO3's exception type for it cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise ObstoreRefusedError(f"obstore panicked: {error}") from error
    if result.range != (offset, offset + length) or len(data) != length:
        raise ObstoreRefusedError(
            f"{span.header} was answered with {len(data)} bytes, declared as {result.range}"
        )
    return Answer(
        offset,
        data,
        Identity(
            size=size,
            etag=result.meta.get("e_tag"),
            version_id=result.meta.get("version"),
            last_modified=result.meta["last_modified"],
            content_type=result.attributes.get("Content-Type"),
            content_encoding=result.attributes.get("Content-Encoding"),
            metadata=tuple((str(name), str(value)) for name, value in result.attributes.items()),
        ),
        heeds_range=True,  # obstore takes no other answer
    )


def _body(result: "GetResult", length: int, meter: Meter) -> bytes:
    """Return the body, but not much more than `length` bytes of it: a server may send without end."""
    pieces, received = [], 0
    for piece in result.stream(min_chunk_size=1):
        pieces.append(bytes(piece))
        received += len(piece)
        meter.received(len(piece))
        if received > length:
            break
    # Collect pieces and copy them once: a growing buffer is copied again and again.
    return b"".join(pieces)
