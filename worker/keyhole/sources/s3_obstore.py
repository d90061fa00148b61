"""Makes ranged GETs with obstore, which takes a twentieth of boto3's CPU time but does not accept all keys.

S3 allows keys that obstore does not accept as paths. obstore strips `/` from both ends of a key, and so would
read another object. obstore also refuses empty, `.` and `..` segments and control characters. `can_name`
accepts only keys that obstore neither changes nor refuses.

obstore does not work after a fork. Create the store in the child process.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from obstore import get as obstore_get
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError
from obstore.store import S3Store

from keyhole.sources.s3_answer import Answer, Pin, Span
from keyhole.sources.s3_client import CONNECT_SECONDS, READ_SECONDS, Place
from keyhole.sources.source import Identity

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig

#: The services and signatures that obstore supports, in botocore's terms.
SIGNATURES = {("s3", "v4")}
#: Options for a direct connection. Without a proxy in its options, obstore reads the environment's proxies.
#: So name a proxy, and exclude all hosts from it.
NO_PROXY: "ClientConfig" = {"proxy_url": "http://127.0.0.1:9", "proxy_excludes": "*,0.0.0.0/0,::/0"}
#: The HTTP status in an error of obstore.
_STATUS: Final = re.compile(r" non-2xx status code: (\d{3}) ")


class ObstoreRefusedError(Exception):
    """obstore failed, and its error does not explain the cause.

    Repeat the request with boto3, whose errors explain the cause.
    """

    @property
    def is_about_range(self) -> bool:
        """Whether the server answered that the object has no byte of the range (416).

        Servers refuse every range of an empty object. obstore states the HTTP status only in the text of its
        error. The object's key comes first in this text, as a part of a URL, but a URL contains no spaces, so
        a key cannot imitate a status.
        """
        status = _STATUS.search(str(self))
        return status is not None and status[1] == "416"


def can_name(key: str) -> bool:
    """Return whether obstore reads exactly the object with this key."""
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
    """Return an obstore store for a bucket, at the URL that boto3 uses for the bucket.

    obstore takes missing options from the environment, so this function sets all of them.

    Args:
        place: The bucket's URL, and how requests to the bucket are signed.
        credentials: Returns the access key and the secret key.
        headers: Headers for all requests. obstore signs them, too.
        proxy: The proxy's URL; `None` for a direct connection.
        certificates: A file of certificates to trust, in addition to the certificates that obstore finds
            itself.
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
        "bucket",  # not used: the URL has the bucket's name
        # Set this option and not `endpoint`, because the variable AWS_ENDPOINT_URL_S3 would override
        # `endpoint`.
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


def get(store: S3Store, pin: Pin, span: Span, received: Callable[[int], None]) -> Answer:
    """Make one ranged GET. Call `received` with the number of bytes of each piece that arrives.

    Raises:
        ObstoreRefusedError: The request failed. The error does not show the cause.
    """
    options: GetOptions = {
        "range": (span.offset, span.offset + span.length),
    }
    if pin.if_match is not None:
        options["if_match"] = pin.if_match
    if pin.version_id is not None:
        options["version"] = pin.version_id
    try:
        result = obstore_get(store, pin.key, options=options)
        size = result.meta["size"]
        offset, length = span.placed(size)
        data = _body(result, length, received)
    except (BaseError, FileNotFoundError, ValueError, OSError) as error:
        raise ObstoreRefusedError(str(error)) from error
    except BaseException as error:
        # For a panic in Rust, PyO3 raises a `PanicException`. Python cannot import this type, so compare its
        # name.
        if type(error).__name__ != "PanicException":
            raise
        raise ObstoreRefusedError(f"obstore panicked: {error}") from error
    if result.range != (offset, offset + length) or len(data) != length:
        raise ObstoreRefusedError(
            f"the server answered {span.header} with {len(data)} bytes, declared as {result.range}"
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
        heeds_range=True,  # obstore refuses the response of a server that ignores `Range`
    )


def _body(result: "GetResult", length: int, received: Callable[[int], None]) -> bytes:
    """Return the body, but stop soon after `length` bytes, because a server can send bytes without end."""
    pieces, total = [], 0
    for piece in result.stream(min_chunk_size=1):
        pieces.append(piece)
        total += len(piece)
        received(len(piece))
        if total > length:
            break
    # Join the pieces at the end, so that each byte is copied only once.
    return b"".join(pieces)
