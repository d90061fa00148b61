"""Masks secrets in URLs as `***`, and refuses URLs in which a password is not URL-encoded.

If a password contains one of the characters `/ @ : # ? %` and is not URL-encoded, a URL parser treats a part
of the password as the host, the port or the path. Masking therefore does not parse the URL. It masks
everything between `://` and the last `@`, and the value of every option whose name suggests a secret.
"""

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

MASK: Final = "***"

#: A URL up to its last `@`. `s3://` and `file://` are excluded: they contain no user, but their paths can
#: contain an `@`. The lengths of the matched parts are limited, so that the search is fast in a long text.
#: The URLs that Keyhole's own messages show as examples are excluded, too.
_USER: Final = re.compile(
    r"\b(?!s3://|file://)([a-z][a-z0-9+.-]{0,20}://)(?!(?:user)?:password@host\b[^@\s]{0,4096}(?!\S))\S{0,4096}@",
    re.IGNORECASE,
)
#: An option in a URL, or a field of a signed URL, whose value is secret. Azure calls the signature `sig`.
_OPTION: Final = re.compile(
    r"([?&;](?:[\w.-]{0,40}(?:password|passwd|pwd|secret|token|credential|signature)[\w.-]{0,40}|sig)=)[^&;\s]*",
    re.IGNORECASE,
)
#: Advice for users: how to URL-encode `/ @ : # ? %` and blanks.
QUOTING: Final = (
    "in names and passwords / as %2F, @ as %40, : as %3A, # as %23, ? as %3F, % as %25, a blank as %20"
)


def masked(text: str) -> str:
    """Return a text in which users, passwords and other secrets in URLs are replaced by `***`."""
    if "://" not in text:
        return text
    return _OPTION.sub(rf"\1{MASK}", _USER.sub(rf"\1{MASK}@", text))


def masked_url(url: str) -> str:
    """Return a URL with its secrets replaced by `***`. The URL can be malformed."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return MASK
    _, at, place = rest.rpartition("@")
    shown = f"{scheme}://" + (f"{MASK}@{place}" if at else rest)
    return _OPTION.sub(rf"\1{MASK}", "".join(shown.split()))


def split_url(url: str, example: str) -> SplitResult:
    """Parse a URL that can contain a password.

    Args:
        url: The URL, as a user wrote it.
        example: A correct URL, for the error message.

    Raises:
        ValueError: The URL cannot be parsed reliably. The message contains the example, but no part of `url`.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        readable = False
    else:
        odd = "@" in parts.path + parts.query or re.search(r"[\s#\x00-\x1f\x7f]", url)
        readable = not odd
    if not readable:
        raise ValueError(f"it is not a valid URL; write {example}, and {QUOTING}")
    return parts


def check_redis_or_broker(url: str) -> None:
    """Check the URL of a Redis server or of a broker.

    Raises:
        ValueError: The URL cannot be parsed reliably, or it has a user without a password. The message
            contains no part of the URL.
    """
    example = (
        "amqp://user:password@host:5672/vhost" if url.startswith("amqp") else "redis://:password@host:6379/0"
    )
    parts = split_url(url, example)
    if not parts.scheme or url.partition(":")[2][:2] != "//":
        raise ValueError(f"it is not a URL; write {example}")
    if parts.scheme in {"redis", "rediss"} and parts.username and parts.password is None:
        raise ValueError(
            "it has a user and no password; to give only a password, write a colon before it: "
            "redis://:password@host:6379/0"
        )


def check_no_user(url: str) -> None:
    """Check the URL of a server that accepts no user and no password in its URL.

    Raises:
        ValueError: The URL contains a user or a password, or cannot be parsed reliably. The message contains
            no part of the URL.
    """
    if "@" in split_url(url, "https://s3.example.com").netloc:
        raise ValueError(
            "it contains a user or a password, which S3 does not accept in a URL; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
