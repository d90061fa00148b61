"""moto's buckets, as subdomains of the server and in other regions."""

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from keyhole.api import scan_s3
from keyhole.builders import qcow2
from keyhole.intake.listing import list_objects
from keyhole.reasons import Status
from keyhole.results.tag_writer import TagOutcome, TagWriter
from keyhole.results.tags import TagDebt
from keyhole.scan.settings import ScanSettings
from keyhole.sources.s3_access import S3Access
from tests.servers.access import CREDENTIALS, isolate
from tests.servers.forward_proxy import forward_proxy
from tests.servers.recorded_moto import RecordedMoto

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS = ["image", "images//image"]


def use(access: S3Access, bucket: str) -> None:
    """List a bucket, and scan and tag its objects."""
    assert [listed.key for listed in list_objects(access.client, bucket, "")] == KEYS
    for key in KEYS:
        report = scan_s3(access, bucket, key, None, ScanSettings())
        assert report.status is Status.SAFE
        assert TagWriter(access.client).write(TagDebt.of(report)) is TagOutcome.WRITTEN


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_buckets_in_the_servers_name_are_read_listed_and_tagged(
    s3: "S3Client", recorded: RecordedMoto, monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    # Given a bucket in a region, and a client that is configured for another region
    bucket = f"test-{uuid4().hex}"
    elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": region}} if region != "us-east-1" else {}
    s3.create_bucket(Bucket=bucket, **elsewhere)  # type: ignore[arg-type] # a TypedDict
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=qcow2(1 << 20).to_bytes())
    with forward_proxy(recorded.url) as proxy:
        isolate(monkeypatch, **CREDENTIALS, HTTP_PROXY=proxy.url)
        access = S3Access(
            endpoint_url="http://s3.us-east-1.amazonaws.com",
            region="us-east-1",
            connections=1,
            addressing_style="virtual",
        )
        # When its objects are listed, scanned and tagged
        use(access, bucket)
        access.client.close()
        # Then every request had the bucket in its host name, and none failed
        assert {url.split("/")[2] for url in proxy.asked} == {f"{bucket}.s3.us-east-1.amazonaws.com"}
        assert len(proxy.asked) == 1 + 2 * (1 + 5)
