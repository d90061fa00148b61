"""Keyhole with a real Valkey Cluster of three nodes for the verdicts, and RabbitMQ as the broker."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import amqp  # type: ignore[import-untyped] # it has no types
import pytest

from keyhole.builders import qcow2
from keyhole.jobs.queues import JOBS
from keyhole.store import keys
from keyhole.store.connection import connect
from tests.e2e import commands
from tests.e2e.held_s3 import HeldS3
from tests.servers.access import aws_client
from tests.servers.cluster import Cluster, valkey_cluster
from tests.servers.rabbitmq import RabbitMQ

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**3).to_bytes()
UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()
VHOST = "keyhole"


@dataclass
class Site:
    """The settings of all processes. Their URL names a node that does not have Keyhole's keys."""

    cluster: Cluster
    rabbitmq: RabbitMQ
    env: dict[str, str]
    s3: Any
    log: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command."""
        return commands.keyhole(*arguments, env=self.env)

    def told(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command that prints JSON, and return what it prints."""
        done = self.run(*arguments, "--json")
        assert done.returncode in {0, 1}, (done.stdout, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def tags(self, bucket: str, key: str) -> dict[str, str]:
        """An object's tags."""
        found = self.s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in found}


@pytest.fixture
def site(s3_server: HeldS3, rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        cluster = stack.enter_context(valkey_cluster())
        s3 = aws_client("s3", s3_server.url)
        stack.callback(s3.close)
        env = commands.environment(
            KEYHOLE_BROKER_URL=rabbitmq.url(VHOST),
            KEYHOLE_REDIS_URL=cluster.others[0].url,
            KEYHOLE_S3_ENDPOINT_URL=s3_server.url,
            KEYHOLE_SINKS="redis,tags",
            XDG_RUNTIME_DIR=tmp_path,
            **commands.S3_CREDENTIALS,
        )
        yield Site(cluster, rabbitmq, env, s3, tmp_path / "worker.log")


def test_verdicts_audits_and_dead_letters_and_a_node_that_is_lost(site: Site) -> None:
    bucket = f"test-{uuid4().hex}"
    site.s3.create_bucket(Bucket=bucket)
    site.s3.put_object(Bucket=bucket, Key="a.qcow2", Body=SAFE)
    site.s3.put_object(Bucket=bucket, Key="b.qcow2", Body=UNSAFE)
    with commands.worker(site.env, site.log):
        # When an object is submitted, then it has its verdict and its tag
        (report,) = site.told("submit", "--wait", f"s3://{bucket}/a.qcow2")
        assert report["status"] == "safe"
        commands.until(lambda: site.tags(bucket, "a.qcow2").get("keyhole-status") == "safe")

        # When the bucket is audited, then the other object is scanned, too
        site.told("audit", f"s3://{bucket}/")

        # When a message is garbage, then it is a dead letter
        with site.rabbitmq.channel(VHOST) as channel:
            channel.basic_publish(amqp.Message("garbage"), routing_key=JOBS)
        with connect(str(site.env["KEYHOLE_REDIS_URL"])) as client:
            commands.until(lambda: client.zcard(keys.DEAD))

        # And the doctor reports no problem
        found = {one["what"]: one for one in site.told("doctor")}
        assert found["redis cluster"]["state"] == "ok"
        assert "bad" not in {one["state"] for one in found.values()}

        # When the node with the keys is killed, then commands end and say so
        site.cluster.owner.kill()
        site.s3.put_object(Bucket=bucket, Key="c.qcow2", Body=UNSAFE)
        done = site.run("submit", f"s3://{bucket}/c.qcow2")
        assert done.returncode == 3
        assert b"the Redis cluster does not serve Keyhole's keys (" in done.stderr

        # When the node is back, then the same worker goes on, and no verdict is lost
        site.cluster.owner.start()
        commands.until(site.cluster.is_well)
        (report,) = site.told("submit", "--wait", f"s3://{bucket}/c.qcow2")
        assert report["status"] == "unsafe"
        reports = {one["key"]: one["status"] for one in site.told("results")}
        assert reports == {"a.qcow2": "safe", "b.qcow2": "unsafe", "c.qcow2": "unsafe"}
