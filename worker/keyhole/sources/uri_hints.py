"""Suggests what a user probably meant by a URI that Keyhole does not know, such as `s3:/bucket/key`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from keyhole.masking import MASK

#: A URI or something that resembles one: a scheme of at least two letters, and one or two slashes. (A single
#: letter is the drive in a path of Windows.)
_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/{0,3})(.*)", re.DOTALL)
#: A URI without its colon.
_WITHOUT_COLON: Final = re.compile(r"(s3|https?)//(.+)", re.IGNORECASE | re.DOTALL)
#: A URI with a user or a query, also without its colon or a slash.
_SECRET: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(:?/{1,3})(?:(\S*)@)?([^?]*)(\?.*)?", re.DOTALL)
#: The schemes of paths and of stores of objects, whose keys can contain `@` and `?`.
_NO_SECRET: Final = {"s3", "s3a", "s3n", "gs", "minio", "r2", "swift", "file", "arn"}
#: What to do with the URIs of other services.
_OTHERS: Final = {
    "gs": "Google Cloud Storage also offers the interface of S3: set KEYHOLE_S3_ENDPOINT_URL to "
    "https://storage.googleapis.com, and write s3://{rest}",
    "s3a": "write s3://{rest}",
    "s3n": "write s3://{rest}",
    "minio": "set KEYHOLE_S3_ENDPOINT_URL to the server, and write s3://{rest}",
    "r2": "set KEYHOLE_S3_ENDPOINT_URL to the server, and write s3://{rest}",
    "swift": "Ceph and Swift also offer the interface of S3: write s3://{rest}",
    "az": "download the blob, and scan the file",
    "abfs": "download the blob, and scan the file",
    "file": "write the path: /{rest}",
    "ftp": "download the file first",
    "sftp": "download the file first",
    "arn": "write s3://bucket/key",
}

#: How to write a URI with each scheme.
_EXAMPLES: Final = {"s3": "s3://bucket/key", "https": "https://host/path"}


def looks_like_uri(text: str) -> bool:
    """Return whether a text begins with a scheme and a slash."""
    uri = _URI.fullmatch(text)
    return uri is not None and bool(uri[2])


def exists(path: str) -> bool:
    """Return whether a file has this name. If the system cannot tell, return false."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def uri_trouble(text: str, known: Sequence[str]) -> str | None:
    """Return one line about a text that resembles a URI and is not one of a known scheme; otherwise `None`.

    The user and the query of a URL are masked.

    Args:
        text: What the user wrote.
        known: The schemes that are possible here, in lower case.
    """
    if any(text.startswith(f"{scheme}://") for scheme in known):
        return None
    text = _without_secrets(text)
    missing = _WITHOUT_COLON.fullmatch(text)
    if missing is not None and missing[1].lower() in known:
        return f"{text!r} has no colon; did you mean {missing[1].lower()}://{missing[2]}?"
    uri = _URI.fullmatch(text)
    if uri is None or not (uri[2] or uri[1].lower() in {*known, *_OTHERS}):
        return None
    return f"{text!r} {_advice(uri[1].lower(), uri[2], uri[3], known)}"


def _without_secrets(text: str) -> str:
    """Mask the user, the password and the query of a URL that can be misspelt."""
    uri = _SECRET.fullmatch(text)
    if uri is None or uri[1].lower() in _NO_SECRET:
        return text
    scheme, slashes, user, rest, query = uri.groups()
    return f"{scheme}{slashes}{'' if user is None else f'{MASK}@'}{rest}{f'?{MASK}' if query else ''}"


def _advice(scheme: str, slashes: str, rest: str, known: Sequence[str]) -> str:
    """Return the end of the sentence about a URI."""
    if scheme in known:
        wrong = "is not in lower case" if slashes == "//" else "does not have two slashes"
        return f"{wrong}; did you mean {scheme}://{rest}?"
    if scheme in {"https", "http"}:
        return "is not in S3; `keyhole inspect` scans objects on web servers"
    if scheme in _OTHERS:
        return f"has a scheme that Keyhole does not know; {_OTHERS[scheme].format(rest=rest)}"
    from difflib import get_close_matches  # noqa: PLC0415 - most users make no mistake

    similar = get_close_matches(scheme, known)
    if similar:
        return f"has an unknown scheme; did you mean {similar[0]}://{rest}?"
    return f"has a scheme that Keyhole does not know; write {' or '.join(_EXAMPLES[one] for one in known)}"
