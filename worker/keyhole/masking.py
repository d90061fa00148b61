"""Secrets in URLs: shown as `***`, and URLs that would hide one in the wrong place are refused.

A password may hold characters that end it where it is not quoted (`/ @ : # ? %`). Whoever takes such a URL
apart finds a part of the password in the host, the port or the path. So what is shown does not go by the
URL's structure: all before the last `@` is secret, and so is every option whose name says so.
"""

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

MASK: Final = "***"

#: A URL up to its last `@`, but for S3's and files' names, which have no user and may have an `@`.
#: The bounds keep the search short in a long text.
_USER: Final = re.compile(r"\b(?!s3://|file://)([a-z][a-z0-9+.-]{0,20}://)\S{0,4096}@", re.IGNORECASE)
#: An option of a URL, or a field of a signed one, whose value is secret.
_OPTION: Final = re.compile(
    r"([?&;][\w.-]{0,40}(?:password|passwd|pwd|secret|token|credential|signature)[\w.-]{0,40}=)[^&;\s]*",
    re.IGNORECASE,
)
#: How `/ @ : # ? %` are written.
QUOTING: Final = (
    "in names and passwords / as %2F, @ as %40, : as %3A, # as %23, ? as %3F, % as %25, a blank as %20"
)


def masked(text: str) -> str:
    """Text with `***` in place of users, passwords and other secrets in the URLs that it holds."""
    if "://" not in text:
        return text
    return _OPTION.sub(rf"\1{MASK}", _USER.sub(rf"\1{MASK}@", text))


def masked_url(url: str) -> str:
    """A URL to be shown, whatever is wrong with it."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return MASK
    _, at, place = rest.rpartition("@")
    shown = f"{scheme}://" + (f"{MASK}@{place}" if at else rest)
    return _OPTION.sub(rf"\1{MASK}", "".join(shown.split()))


def split_url(url: str, example: str) -> SplitResult:
    """Take a URL apart that may hold a password.

    Args:
        url: It may come from a person.
        example: A right one, for the error.

    Raises:
        ValueError: What it holds is in no certain place. The text has the example and nothing of the URL.
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
        raise ValueError(f"it cannot be read; write {example}, and {QUOTING}")
    return parts


def check_redis_or_broker(url: str) -> None:
    """Refuse the URL of a Redis or of a broker whose password is in no certain place.

    Raises:
        ValueError: It is such a one. The text has nothing of the URL.
    """
    example = (
        "amqp://user:password@host:5672/vhost" if url.startswith("amqp") else "redis://:password@host:6379/0"
    )
    parts = split_url(url, example)
    if not parts.scheme or url.partition(":")[2][:2] != "//":
        raise ValueError(f"it is no URL; write {example}")
    if parts.scheme in {"redis", "rediss"} and parts.username and parts.password is None:
        raise ValueError(
            "it has a user and no password; a password alone is written behind a colon, "
            "redis://:password@host:6379/0"
        )


def check_no_user(url: str) -> None:
    """Refuse the URL of a server that takes no user and password in it.

    Raises:
        ValueError: It has one, or it cannot be read. The text has nothing of the URL.
    """
    if "@" in split_url(url, "https://s3.example.com").netloc:
        raise ValueError(
            "it holds a user or a password, which S3 does not take from a URL; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
