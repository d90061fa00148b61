"""The name of an object, or of all below a prefix: `s3://bucket/key`.

Everything behind the bucket is the key as it is: nothing is decoded, `?` and `#` are characters of the key. A
bucket may be an access point's ARN, which holds a `/` or several `:` itself.
"""

import re
from typing import NamedTuple

#: An access point's ARN ends in `accesspoint/NAME` or `accesspoint:NAME`, with `outpost/ID/` before it on an
#: outpost; the key follows behind the next `/`.
ARN = re.compile(r"(arn:[^/]*:(?:outpost/[^/]+/)?accesspoint[/:][^/]+)(?:/(.*))?", re.DOTALL)
#: Halves of UTF-16 pairs, by which Python passes on bytes that are no UTF-8. A key is UTF-8.
SURROGATE = re.compile("[\ud800-\udfff]")


class S3Uri(NamedTuple):
    """A bucket, or an access point's ARN, and a key or prefix; an empty one names the whole bucket."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def parse_s3_uri(text: str) -> S3Uri:
    """Take a URI apart.

    Raises:
        ValueError: It is none; the message says what one looks like.
    """
    rest = text.removeprefix("s3://")
    if rest == text:
        raise ValueError(f"{text!r} is no S3 object; write s3://bucket/key")
    if SURROGATE.search(rest):
        raise ValueError(f"{text!r} is not UTF-8; write s3://bucket/key in UTF-8")
    if arn := ARN.fullmatch(rest):
        return S3Uri(arn[1], arn[2] or "")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise ValueError(f"{text!r} names no bucket; write s3://bucket/key")
    return S3Uri(bucket, key)
