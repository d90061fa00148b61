"""The name of an object, or of all objects below a prefix: `s3://bucket/key`.

All text after the bucket is the key, unchanged: nothing is decoded, and `?` and `#` are characters of the
key. A bucket may be an access point's ARN, which has a `/` or several `:` itself.
"""

import re
from typing import NamedTuple

#: An access point's ARN ends in `accesspoint/NAME` or `accesspoint:NAME`, with `outpost/ID/` before it on an
#: outpost. The key follows after the next `/`.
ARN = re.compile(r"(arn:[^/]*:(?:outpost/[^/]+/)?accesspoint[/:][^/]+)(?:/(.*))?", re.DOTALL)
#: Halves of UTF-16 pairs, in which Python passes on bytes that are not UTF-8. A key is UTF-8.
SURROGATE = re.compile("[\ud800-\udfff]")


class S3Uri(NamedTuple):
    """A bucket (or an access point's ARN), and a key or prefix; an empty one means the whole bucket."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def parse_s3_uri(text: str) -> S3Uri:
    """Parse a URI.

    Raises:
        ValueError: It is not such a URI; the message says what one looks like.
    """
    rest = text.removeprefix("s3://")
    if rest == text:
        raise ValueError(f"{text!r} is not an S3 object; write s3://bucket/key")
    if SURROGATE.search(rest):
        raise ValueError(f"{text!r} is not UTF-8; write s3://bucket/key in UTF-8")
    if arn := ARN.fullmatch(rest):
        return S3Uri(arn[1], arn[2] or "")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise ValueError(f"{text!r} does not name a bucket; write s3://bucket/key")
    return S3Uri(bucket, key)
