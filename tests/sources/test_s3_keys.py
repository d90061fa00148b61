"""S3 accepts nearly every text as a key. Keyhole reads exactly the object with that key."""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyhole.api import scan_s3
from keyhole.builders import qcow2
from keyhole.scan.settings import ScanSettings
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.s3 import S3Source
from keyhole.sources.s3_access import S3Access
from keyhole.sources.s3_obstore import can_name
from tests.servers.access import aws_client
from tests.servers.scripted_s3 import BUCKET, ScriptedS3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1 << 20

KEYS = [
    "a",
    "a/",
    "/a",
    "//a",
    "a//",
    "a/x",
    "a//x",
    "./a",
    ".",
    "..",
    "a/.",
    "a/./b",
    "a/b",
    "a/../b",
    "b",
    "../b",
    "a b",
    "a+b",
    "a%20b",
    "a%2Bb",
    "a%2Fb",
    "a%252Fb",
    "a#b",
    "a%23b",
    "a?b",
    "a?versionId=1",
    "a%3FversionId=1",
    "a&b=c;d",
    "a=b",
    "\N{FLOPPY DISK}",
    "caf\u00e9",
    "cafe\u0301",
    "k" * 900,
    "k" * 899,
    "a\tb",
    "a\x7fb",
    "a\\b",
    'a"b',
    "a'b",
    "a*b",
    "a<b>&amp;",
    "~a",
    "A",
    "bucket/a",
]
#: Each key's image has another virtual size.
SIZES = {key: number * MIB for number, key in enumerate(KEYS, start=1)}
#: Characters with a meaning in paths, URLs and XML.
ODD_TEXT = st.text(
    st.sampled_from("a./%?#&=+ \\\"'*~:;@\t\n\r\x00\x7f\u00e9e\u0301\u202e\N{FLOPPY DISK}"), min_size=1
)
ANY_KEY = (ODD_TEXT | st.text(min_size=1)).filter(lambda key: len(key.encode()) <= 1024)


@pytest.fixture(scope="module")
def look_alikes(moto_url: str) -> Iterator[str]:
    """A bucket with a different image under each of these keys."""
    client: S3Client = aws_client("s3", moto_url)
    bucket = f"test-{uuid4().hex}"
    client.create_bucket(Bucket=bucket)
    for key, size in SIZES.items():
        client.put_object(Bucket=bucket, Key=key, Body=qcow2(size).to_bytes())
    yield bucket
    client.close()


@pytest.mark.parametrize("key", KEYS)
def test_each_of_many_look_alikes_is_read_as_itself(
    look_alikes: str, recorded_access: S3Access, key: str
) -> None:
    report = scan_s3(recorded_access, look_alikes, key, None, ScanSettings())
    assert (report.virtual_size, report.key) == (SIZES[key], key)


@pytest.mark.parametrize("key", ["a\nb", "\n", "a\r\nb", "a\x00b", "\u202e", "\x85"])
def test_characters_that_a_line_cannot_hold_are_read_too(
    scripted: ScriptedS3, scripted_access: S3Access, key: str
) -> None:
    scripted.put(key, qcow2(3 * MIB))
    report = scan_s3(scripted_access, BUCKET, key, None, ScanSettings())
    assert (report.virtual_size, report.key) == (3 * MIB, key)
    assert [request.key for request in scripted.requests] == [key] * report.requests


# Each example resets the server. The time of its answers is not tested.
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=ANY_KEY)
def test_any_key_is_sent_as_it_is_by_the_client_that_can_name_it(
    scripted: ScriptedS3, scripted_access: S3Access, key: str
) -> None:
    # Given an object with that key
    scripted.reset()
    scripted.put(key, b"image")
    # When it is read
    source = S3Source(scripted_access, BUCKET, key, version_id=None, meter=Meter(Budget()))
    assert source.read(0, 512) == b"image"
    # Then one request for exactly that key was enough, by obstore if it can request the key
    (request,) = scripted.requests
    assert (request.bucket, request.key) == (BUCKET, key)
    assert ("Boto3" in request.headers["user-agent"]) is not can_name(key)


@pytest.mark.parametrize(
    "key", ["a", "a/b", "a b", "a%2Fb", "a?b", "a#b", "...", "a/.b", "caf\u00e9", "a\\b"]
)
def test_obstore_can_name_what_is_equal_to_its_parsed_form(key: str) -> None:
    assert can_name(key)


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", ".", "..", "a/./b", "a/..", "a\tb", "a\nb", "a\x7fb"]
)
def test_obstore_cannot_name_what_it_would_strip_or_refuse(key: str) -> None:
    assert not can_name(key)
