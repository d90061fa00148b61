"""Ceph's RGW as a real S3, a client for the test's own requests, and Keyhole's client, recorded.

Test files that run in parallel have separate clusters. A start takes two seconds.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import boto3
import pytest

from keyhole.sources.s3_access import S3Access
from tests.ceph.notifying import Notifier
from tests.ceph.record_messages import notifying
from tests.servers.access import CREDENTIALS, s3_access
from tests.servers.ceph_rgw import CephRgw, ceph_rgw
from tests.servers.rabbitmq import RabbitMQ, rabbitmq_server
from tests.servers.recording_proxy import RecordingProxy, recording_proxy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="session")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephRgw]:
    """The running gateway."""
    with ceph_rgw(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture(scope="session")
def s3(rgw: CephRgw) -> "Iterator[S3Client]":
    """A client of the bucket's owner. Its requests are not recorded."""
    client = boto3.client(
        "s3",
        endpoint_url=rgw.url,
        region_name="us-east-1",
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )
    yield client
    client.close()


@pytest.fixture
def bucket(s3: "S3Client") -> str:
    """The name of an empty bucket that only this test uses."""
    name = f"test-{uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def versioned(s3: "S3Client", bucket: str) -> None:
    """Enable versioning for the bucket."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """The RabbitMQ that receives the events of buckets."""
    with rabbitmq_server() as server:
        yield server


@pytest.fixture(scope="session")
def notifier(rgw: CephRgw, rabbitmq: RabbitMQ) -> Iterator[Notifier]:
    """Configures the gateway to send events to RabbitMQ."""
    with notifying(rgw, rabbitmq) as notifier:
        yield notifier


@pytest.fixture(scope="session")
def _proxy(rgw: CephRgw) -> Iterator[RecordingProxy]:
    with recording_proxy(rgw.url) as proxy:
        yield proxy


@pytest.fixture
def recorded(_proxy: RecordingProxy) -> RecordingProxy:
    """The proxy that records every request that this test makes through `access`."""
    _proxy.reset()
    return _proxy


@pytest.fixture(scope="session")
def access(_proxy: RecordingProxy) -> Iterator[S3Access]:
    """Keyhole's S3 client for the server."""
    with s3_access(_proxy.url) as access:
        yield access
