"""The bucket policy for Ceph, on a real RGW: only Keyhole can read unsafe objects or tag objects as safe."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from keyhole.api import scan_s3
from keyhole.builders import qcow2
from keyhole.results.tag_writer import TagOutcome, TagWriter
from keyhole.results.tags import TagDebt
from keyhole.scan.settings import ScanSettings
from keyhole.sources.s3_access import S3Access
from tests.servers.ceph_rgw import CephRgw

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

GATE = (Path(__file__).parent.parent.parent / "deploy" / "gate-ceph.json").read_text()
SAFE = qcow2(1024**2).to_bytes()
UNSAFE = qcow2(1024**2, backing_file="/etc/shadow").to_bytes()
FORGED: Any = {"TagSet": [{"Key": "keyhole-status", "Value": "safe"}]}


class Gated:
    """A bucket with the policy. Its owner is `user`, and Keyhole uses the user `keyhole`."""

    def __init__(self, user: "S3Client", bucket: str, access: S3Access) -> None:
        self.user, self.bucket, self._access = user, bucket, access

    def put(self, body: bytes, **options: Any) -> str | None:
        """Upload an object as the user."""
        return self.user.put_object(Bucket=self.bucket, Key="a", Body=body, **options).get("VersionId")

    def scan(self, key: str = "a") -> TagOutcome:
        """Scan and tag the object as Keyhole."""
        report = scan_s3(self._access, self.bucket, key, None, ScanSettings())
        return TagWriter(self._access.client).write(TagDebt.of(report))

    def reads(self, key: str = "a", **version: Any) -> bool:
        """Whether the user can read the object."""
        return allowed(lambda: self.user.get_object(Bucket=self.bucket, Key=key, **version))


def allowed(act: Callable[[], object]) -> bool:
    """Whether S3 allows a request."""
    try:
        act()
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"AccessDenied", "403"}:
            raise
        return False
    return True


@pytest.fixture(scope="module")
def user(rgw: CephRgw) -> "Iterator[S3Client]":
    """A client of a user who owns the bucket."""
    rgw.add_user("uploader", access_key="uploader", secret_key="secret")
    client = boto3.client(
        "s3",
        endpoint_url=rgw.url,
        region_name="us-east-1",
        aws_access_key_id="uploader",
        aws_secret_access_key="secret",
    )
    yield client
    client.close()


@pytest.fixture(params=[False, True], ids=["unversioned", "versioned"])
def gated(request: pytest.FixtureRequest, user: "S3Client", access: S3Access) -> Gated:
    bucket = f"test-{uuid4().hex}"
    user.create_bucket(Bucket=bucket)
    if request.param:
        user.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    policy = json.loads(GATE.replace("arn:aws:s3:::images/", f"arn:aws:s3:::{bucket}/"))
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    keyhole = {"AWS": ["arn:aws:iam:::user/keyhole"]}
    allow = {"Effect": "Allow", "Principal": keyhole, "Action": ["s3:*"], "Resource": resources}
    policy["Statement"].append(allow)
    user.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    return Gated(user, bucket, access)


def test_it_opens_for_what_is_safe_and_for_nothing_else(gated: Gated) -> None:
    gated.put(SAFE)
    assert not gated.reads()

    assert gated.scan() is TagOutcome.WRITTEN
    assert gated.reads()

    gated.put(UNSAFE)
    assert not gated.reads()
    assert gated.scan() is TagOutcome.WRITTEN
    assert not gated.reads()


def test_each_version_is_as_readable_as_its_own_verdict(gated: Gated) -> None:
    safe = gated.put(SAFE)
    gated.scan()
    unsafe = gated.put(UNSAFE)
    gated.scan()
    if safe is not None:
        assert gated.reads(VersionId=safe)
        assert not gated.reads(VersionId=unsafe)


def test_nobody_else_writes_tags(gated: Gated) -> None:
    version = gated.put(UNSAFE)
    where: Any = {"Bucket": gated.bucket, "Key": "a"}
    addresses = [where] if version is None else [where, {**where, "VersionId": version}]
    for address in addresses:
        assert not allowed(lambda address=address: gated.user.put_object_tagging(**address, Tagging=FORGED))
        assert not allowed(lambda address=address: gated.user.delete_object_tagging(**address))


def test_no_upload_brings_a_verdict(gated: Gated) -> None:
    """Copies cannot set a verdict either.

    RGW 16.2 does not check the tags of a multipart upload, but it cannot read these tags afterwards.
    """
    assert not allowed(lambda: gated.put(UNSAFE, Tagging="keyhole-status=safe"))
    elsewhere = f"test-{uuid4().hex}"
    gated.user.create_bucket(Bucket=elsewhere)
    gated.user.put_object(Bucket=elsewhere, Key="a", Body=UNSAFE, Tagging="keyhole-status=safe")
    source: Any = {"Bucket": elsewhere, "Key": "a"}
    copy: Any = {"Bucket": gated.bucket, "Key": "a", "CopySource": source}
    assert not allowed(lambda: gated.user.copy_object(**copy))
    replaced = {"TaggingDirective": "REPLACE", "Tagging": "keyhole-status=safe"}
    assert not allowed(lambda: gated.user.copy_object(**copy, **replaced))

    where: Any = {"Bucket": gated.bucket, "Key": "parts"}
    upload = gated.user.create_multipart_upload(**where, Tagging="keyhole-status=safe")["UploadId"]
    part = gated.user.upload_part(**where, UploadId=upload, PartNumber=1, Body=UNSAFE)
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    gated.user.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
    assert not gated.reads("parts")
    with pytest.raises(ResponseParserError):
        gated.scan("parts")
    assert not gated.reads("parts")


def test_another_spelling_opens_nothing(gated: Gated) -> None:
    gated.put(UNSAFE, Tagging="Keyhole-Status=safe")
    assert not gated.reads()
