"""By TLS, as a user with the least rules: from `submit` to verdict and tag, and a worker that is killed."""

import json
import signal
from pathlib import Path

import boto3
import pytest

from tests.e2e import commands
from tests.e2e.conftest import UNACKNOWLEDGED_SINCE
from tests.e2e.held_s3 import HeldS3
from tests.servers.redis_server import QUOTED, redis_server
from worker.demo.images import qcow2
from worker.limits import VISIBILITY

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**3).to_bytes()


def environment(url: str, s3_server: HeldS3) -> dict[str, str]:
    return commands.environment(
        KEYHOLE_REDIS_URL=url,
        KEYHOLE_S3_ENDPOINT_URL=s3_server.url,
        KEYHOLE_SINKS="redis,tags",
        **commands.S3_CREDENTIALS,
    )


def test_the_whole_way(s3_server: HeldS3, tmp_path: Path) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=s3_server.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    log = tmp_path / "worker.log"
    s3.create_bucket(Bucket="least")
    s3.put_object(Bucket="least", Key="held/a.qcow2", Body=SAFE)
    s3_server.hold()
    with redis_server() as server, server.client() as admin:
        env = environment(server.add_user(), s3_server)
        with commands.worker(env, log) as killed:
            assert commands.keyhole("submit", "s3://least/held/a.qcow2", env=env).returncode == 0
            s3_server.await_request()
            orphans = commands.children(killed.pid)
            killed.send_signal(signal.SIGKILL)
            commands.until(lambda: not any(map(commands.is_alive, orphans)))
        for delivery in admin.zrange(UNACKNOWLEDGED_SINCE, 0, -1):
            admin.zincrby(UNACKNOWLEDGED_SINCE, -VISIBILITY, delivery)
        s3_server.release()
        with commands.worker(env, log):
            commands.until(lambda: commands.keyhole("show", "s3://least/held/a.qcow2", env=env).stdout)
            again = commands.keyhole("submit", "--wait", "--json", "s3://least/held/a.qcow2", env=env)
            for command in (
                ("audit", "s3://least/"),
                ("results",),
                ("dead", "list"),
                ("verify", "s3://least/held/a.qcow2"),
            ):
                done = commands.keyhole(*command, env=env)
                assert done.returncode == 0, (command, done.stderr)
            told = commands.keyhole("doctor", "--json", env=env).stdout.splitlines()
        refused = server.refused()
    assert json.loads(again.stdout)["status"] == "safe"
    tags = s3.get_object_tagging(Bucket="least", Key="held/a.qcow2")["TagSet"]
    assert "safe" in [tag["Value"] for tag in tags]
    assert [line["state"] for line in map(json.loads, told) if line["what"] == "redis user"] == ["ok"]
    # What the doctor asks beyond, and is told to be unknown.
    assert refused <= {"config|get", "command|info"}
    assert QUOTED.encode() not in log.read_bytes()


def test_a_worker_that_lacks_a_channel_says_so_and_ends(s3_server: HeldS3) -> None:
    with redis_server() as server:
        env = environment(server.add_user("resetchannels", "&keyhole:*", "-xadd"), s3_server)

        done = commands.keyhole("worker", env=env)

    assert done.returncode == 2
    assert done.stderr.decode().startswith(
        "Error: the user of KEYHOLE_REDIS_URL lacks +xadd &keyhole:broker:/0.celery.pidbox"
    )
