"""Parsing S3 URIs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.sources.s3_uri import S3Uri, parse_s3_uri

ACCESS_POINT = "arn:aws:s3:eu-west-1:123456789012:accesspoint"
OUTPOST = "arn:aws:s3-outposts:eu-west-1:123456789012:outpost"


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://b/k", "b", "k"),
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        ("s3://b//k", "b", "/k"),
        ("s3://b/k/", "b", "k/"),
        ("s3://b/a?versionId=1#x", "b", "a?versionId=1#x"),
        ("s3://b/a%2Fb+c d", "b", "a%2Fb+c d"),
        ("s3://b/a\nb", "b", "a\nb"),
        ("s3://b/s3://c/k", "b", "s3://c/k"),
        (f"s3://{ACCESS_POINT}/ap/k", f"{ACCESS_POINT}/ap", "k"),
        (f"s3://{ACCESS_POINT}/ap/a/b", f"{ACCESS_POINT}/ap", "a/b"),
        (f"s3://{ACCESS_POINT}:ap/a/b", f"{ACCESS_POINT}:ap", "a/b"),
        (f"s3://{ACCESS_POINT}/ap", f"{ACCESS_POINT}/ap", ""),
        (f"s3://{ACCESS_POINT}:ap/", f"{ACCESS_POINT}:ap", ""),
        (f"s3://{ACCESS_POINT}/ap/a\nb", f"{ACCESS_POINT}/ap", "a\nb"),
        (f"s3://{OUTPOST}/op-1/accesspoint/ap/k", f"{OUTPOST}/op-1/accesspoint/ap", "k"),
        (f"s3://{OUTPOST}:op-1:accesspoint:ap/k", f"{OUTPOST}:op-1:accesspoint:ap", "k"),
    ],
)
def test_bucket_and_key_are_taken_as_they_are(text: str, bucket: str, key: str) -> None:
    assert parse_s3_uri(text) == S3Uri(bucket, key)


@given(st.from_regex(r"[a-z0-9][a-z0-9.-]{2,9}", fullmatch=True), st.text(max_size=20))
def test_a_name_is_parsed_to_what_it_was_written_from(bucket: str, key: str) -> None:
    assert parse_s3_uri(str(S3Uri(bucket, key))) == S3Uri(bucket, key)


@pytest.mark.parametrize(
    "text", ["", "k", "b/k", "s3:/b/k", "S3://b/k", "http://b/k", "s3://", "s3:///k", "s3://b/\udc80", "a\nb"]
)
def test_what_names_no_object_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"write s3://bucket/key|did you mean s3://b/k|is not in S3"
    ) as refused:
        parse_s3_uri(text)
    assert str(refused.value).isprintable()
