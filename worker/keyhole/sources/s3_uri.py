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


def parse_s3_uri(text: str) -> S3Uri:
    """Parse a URI.

    Raises:
        ValueError: The text is not the URI of an object or of a prefix. The message shows the correct form.
    """
    rest = text.removeprefix("s3://")
    if rest == text:
        trouble = uri_trouble(text, ("s3",))
        raise ValueError(trouble or f"{text!r} is not an S3 object; write s3://bucket/key")
    if SURROGATE.search(rest):
        raise ValueError(f"{text!r} is not UTF-8; write s3://bucket/key in UTF-8")
    if arn := ARN.fullmatch(rest):
        return S3Uri(arn[1], arn[2] or "")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise ValueError(f"{text!r} does not name a bucket; write s3://bucket/key")
    return S3Uri(bucket, key)
