"""What the manifests for Kubernetes start, run without a cluster: the Valkey and the three roles."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from keyhole.builders import qcow2
from keyhole.store.connection import connect
from keyhole.store.permissions import lacking
from tests.deploy.compose import PASSWORD
from tests.deploy.kubernetes import FOLDER, ROLES, Object, Valkey, built, container, environment, named
from tests.e2e import commands
from tests.metrics.pages import served, value
from tests.ports import free_port

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def found(tmp_path: Path) -> list[Object]:
    """The objects of the overlay with a Valkey."""
    return built(tmp_path, "overlays/redis-inside")


@pytest.fixture
def valkey(found: list[Object], tmp_path: Path) -> Valkey:
    folder = tmp_path / "valkey"
    folder.mkdir()
    return Valkey(named(found, "StatefulSet", "valkey")["spec"]["template"], folder)


def test_the_valkey_lets_in_only_keyhole_and_stores_its_data(valkey: Valkey, tmp_path: Path) -> None:
    with valkey.running() as process:
        with connect(valkey.url, retries=0) as client:
            assert lacking(client, is_broker=True) == []
        with (
            connect(f"redis://127.0.0.1:{valkey.port}/0", retries=0) as anybody,
            pytest.raises(redis.AuthenticationError),
        ):
            anybody.ping()
        assert PASSWORD not in Path(f"/proc/{process.pid}/cmdline").read_text(encoding="utf-8")
        process.terminate()
        assert process.wait(commands.PATIENCE) == 0
    assert (tmp_path / "valkey" / "appendonlydir").is_dir()


class Pod:
    """The container of a role as a process of the tests, with this machine's servers, files and ports."""

    def __init__(
        self, found: list[Object], role: str, folder: Path, stand_ins: dict[str, str], s3_url: str
    ) -> None:
        template = named(found, "Deployment", f"keyhole-{role}")["spec"]["template"]
        self.container, self.grace = container(template), template["spec"]["terminationGracePeriodSeconds"]
        self.port, self.log = free_port(), folder / "log"
        folder.mkdir()
        given = environment(found, template)
        for in_cluster, here in (stand_ins | {given["KEYHOLE_METRICS_PORT"]: str(self.port)}).items():
            given = {name: text.replace(in_cluster, here) for name, text in given.items()}
        given["KEYHOLE_S3_ENDPOINT_URL"] = s3_url
        # The folder contains the heartbeats of only this role.
        given |= {"XDG_RUNTIME_DIR": str(folder), "TMPDIR": str(folder)}
        self.env = commands.environment(**(commands.S3_CREDENTIALS | given))

    def is_healthy(self, probe: str) -> bool:
        """Run a probe, and return its result."""
        program, *arguments = self.container[probe]["exec"]["command"]
        assert program == "keyhole"
        return commands.keyhole(*arguments, env=self.env).returncode == 0

    def reports_redis(self) -> bool:
        """Whether its metrics are served at its port, and say that Redis answers."""
        return value(served(self.port), "keyhole_store_up") == 1


#: The key of the list that stands in for the queue in SQS, and the bucket in the settings of the manifests.
EVENTS, BUCKET = "keyhole:test:notifications", "images"


@pytest.fixture
def event(s3: "S3Client") -> Iterator[str]:
    """The event of S3 about a new object in the bucket, which other tests may have made and still use."""
    is_new = BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    s3.create_bucket(Bucket=BUCKET)
    body = qcow2(1024**3).to_bytes()
    etag = s3.put_object(Bucket=BUCKET, Key="a.qcow2", Body=body)["ETag"].strip('"')
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": "2026-01-01T00:00:00.000Z",
        "awsRegion": "eu-central-1",
        "s3": {"bucket": {"name": BUCKET}, "object": {"key": "a.qcow2", "size": len(body), "eTag": etag}},
    }
    yield json.dumps({"Records": [record]})
    s3.delete_object(Bucket=BUCKET, Key="a.qcow2")
    if is_new:
        s3.delete_bucket(Bucket=BUCKET)


@pytest.mark.slow
def test_the_roles_become_healthy_and_tag_a_new_object_and_stop_in_time(
    found: list[Object], valkey: Valkey, event: str, moto_url: str, s3: "S3Client", tmp_path: Path
) -> None:
    stand_ins = {
        "redis://keyhole:PASSWORD@valkey:6379/0": valkey.url,
        "https://sqs.eu-central-1.amazonaws.com/123456789012/queue": f"{valkey.url}/{EVENTS}",
        "/etc/keyhole": str(FOLDER / "base"),
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - it is replaced
    }
    pods = {role: Pod(found, role, tmp_path / role, stand_ins, moto_url) for role in ROLES}

    def status() -> str | None:
        tags = s3.get_object_tagging(Bucket=BUCKET, Key="a.qcow2")["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in tags}.get("keyhole-status")

    with valkey.running(), ExitStack() as stack:
        # Given the roles, whose probes fail before they start
        assert not pods["worker"].is_healthy("startupProbe")
        started = {
            role: stack.enter_context(commands.started(*pod.container["args"], env=pod.env, log=pod.log))
            for role, pod in pods.items()
        }
        for pod in pods.values():
            commands.until(partial(pod.is_healthy, "startupProbe"))
            assert pod.is_healthy("livenessProbe")
            commands.until(pod.reports_redis)
        # When S3 reports a new object
        with connect(valkey.url) as client:
            client.rpush(EVENTS, event)
        # Then it gets a tag, and all roles end in time when they are stopped
        commands.until(lambda: status() is not None)
        assert status() == "safe"
        for process in started.values():
            process.terminate()
        for role, process in started.items():
            assert process.wait(pods[role].grace) == 0, pods[role].log.read_text()
