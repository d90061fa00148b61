"""Parses the URI of an object, or of all objects with a prefix: `s3://bucket/key`.

The text after the bucket is the key. Keyhole does not decode the key, and `?` and `#` are characters of the
key. In place of a bucket, a URI can have the ARN of an access point, which itself contains `/` or `:`.
"""

import re
from typing import NamedTuple

from keyhole.sources.uri_hints import uri_trouble

#: The ARN of an access point ends in `accesspoint/NAME` or `accesspoint:NAME`. On an outpost, `outpost/ID/`
#: precedes `accesspoint`. The key follows the next `/`.
ARN = re.compile(r"(arn:[^/]*:(?:outpost/[^/]+/)?accesspoint[/:][^/]+)(?:/(.*))?", re.DOTALL)
#: Surrogates, with which Python represents bytes that are not UTF-8. A key is always UTF-8, so a text with a
#: surrogate cannot name an object.
SURROGATE = re.compile("[\ud800-\udfff]")


class S3Uri(NamedTuple):
    """A bucket (or an access point's ARN), and a key or prefix. An empty key means the whole bucket."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def parse_s3_uri(text: str, *, is_prefix: bool = False) -> S3Uri:
    """Parse a URI.

    Args:
        text: The URI.
        is_prefix: Whether the URI should name a bucket or a prefix, which changes only the messages.

    Raises:
        ValueError: The text is not the URI of an object or of a prefix. The message shows the correct form.
    """
    form = "s3://bucket/ or s3://bucket/prefix/" if is_prefix else "s3://bucket/key"
    rest = text.removeprefix("s3://")
    if rest == text:
        kind = "an S3 bucket or prefix" if is_prefix else "an S3 object"
        trouble = uri_trouble(text, ("s3",))
        raise ValueError(trouble or f"{text!r} is not {kind}; write {form}")
    if SURROGATE.search(rest):
        raise ValueError(f"{text!r} is not UTF-8; write {form} in UTF-8")
    if arn := ARN.fullmatch(rest):
        return S3Uri(arn[1], arn[2] or "")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise ValueError(f"{text!r} does not name a bucket; write {form}")
    return S3Uri(bucket, key)


def parse_object_uri(text: str) -> S3Uri:
    """Parse the URI of an object, whose key is not empty.

    Raises:
        ValueError: The text is not the URI of an object. The message shows the correct form.
    """
    uri = parse_s3_uri(text)
    if not uri.key:
        raise ValueError(f"{text!r} names a bucket, not an object; write s3://bucket/key")
    return uri
