"""Keyhole on each broker and store in the README, over TLS, as the Redis user with the fewest rules.

| row | broker | verdicts and ledger | S3 |
|---|---|---|---|
| valkey | Valkey 9.1 | the same | moto |
| redis | Redis 7.0 | the same | moto |
| rabbitmq | RabbitMQ 3.10, a virtual host of quorum queues | Redis 7.0 | moto |
| ceph | Redis 7.0 | the same | Ceph's RGW 16.2 over HTTPS, with its own CA |

In each row, objects get their verdicts and tags although the worker is killed, and then all servers at once,
which start again with their data. Two things differ from production. The wheel's Valkey was built without
TLS, so a proxy in front of it terminates TLS. moto has no TLS, and is not killed because it stores everything
in memory.
"""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import pytest
import redis

from keyhole.builders import qcow2
from keyhole.jobs.tag_debts import LOST_SECONDS
from keyhole.limits import VISIBILITY
from keyhole.store import keys
from tests.e2e import commands
from tests.e2e.conftest import UNACKNOWLEDGED, UNACKNOWLEDGED_SINCE
from tests.e2e.held_s3 import HeldS3
from tests.jobs.clock import pass_seconds
from tests.servers.access import aws_client
from tests.servers.ceph_rgw import CephRgw, ceph_rgw
from tests.servers.gate import Gate, gate
from tests.servers.rabbitmq import QUORUM_VHOST, RabbitMQ
from tests.servers.redis_server import QUOTED, RedisServer, redis_server, valkey_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

BODIES = {
    "safe": qcow2(1024**3).to_bytes(),
    "unsafe": qcow2(1024**3, backing_file="/etc/shadow").to_bytes(),
}
BUCKET, FIRST = "images", "first.qcow2"
#: The other objects, and the status of each.
STATUSES = {f"{number:02}.qcow2": "unsafe" if number % 5 == 0 else "safe" for number in range(40)}
#: The number of objects in a message.
BATCH = 5
#: Entries that stay in the ledger when all work is done.
LASTING = {"begun", "clock", "done"}


class Server(Protocol):
    """A server that can be started again with its data."""

    def start(self) -> None: ...

    def kill(self) -> None: ...


@dataclass
class Row:
    """Servers, and the settings of all their users.

    The test kills the `servers`. All clients except the test's own `s3` reach S3 through `gate`. The doctor's
    `advice` about these subjects is right.
    """

    env: dict[str, str]
    store: RedisServer
    servers: list[Server]
    rabbitmq: RabbitMQ | None
    gate: Gate
    s3: "S3Client"
    log: Path
    advice: set[str]

    def keyhole(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command, assert that it succeeds, and return its output."""
        done = commands.keyhole(*arguments, "--json", env=self.env)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def tag(self, key: str) -> str | None:
        """The status in an object's tags."""
        tags = self.s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in tags}.get("keyhole-status")

    def hold_in_flight(self, admin: redis.Redis) -> None:
        """Wait for another verdict, and then delay the workers' requests to S3 until one is delayed."""
        before = admin.xlen(keys.VERDICTS)
        commands.until(lambda: admin.xlen(keys.VERDICTS) > before)
        self.gate.hold()
        self.gate.await_held()
        assert admin.hlen(keys.LEDGER_ENTRIES) > 0

    def is_idle(self, admin: redis.Redis) -> bool:
        """Whether all work is done, no message is left, and no tags are owed. Owed tags are made due."""
        if admin.hlen(keys.LEDGER_ENTRIES) or admin.hlen(UNACKNOWLEDGED) or self._in_rabbitmq():
            return False
        owed = sum(admin.zcard(keys.debts("tags", part)) for part in ("held", "owed", "late"))
        if owed:
            pass_seconds(admin, LOST_SECONDS)
        return not owed

    def _in_rabbitmq(self) -> int:
        if self.rabbitmq is None:
            return 0
        counts = self.rabbitmq.control("list_queues", "-p", QUORUM_VHOST, "--no-table-headers", "messages")
        return sum(map(int, counts.split()))


@pytest.fixture(params=["valkey", "redis", "rabbitmq", "ceph"])
def row(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Row]:
    name: str = request.param
    with ExitStack() as stack:
        store = stack.enter_context(_store(name))
        servers: list[Server] = [store]
        settings = {"KEYHOLE_REDIS_URL": store.add_user()}
        rabbitmq: RabbitMQ | None = None
        if name == "rabbitmq":
            rabbitmq = request.getfixturevalue("rabbitmq")
            rabbitmq.add_quorum_vhost()
            servers.append(rabbitmq)
            settings["KEYHOLE_BROKER_URL"] = rabbitmq.url(QUORUM_VHOST, scheme="amqps")
            settings["SSL_CERT_FILE"] = str(rabbitmq.ca)
        if name == "ceph":
            rgw: CephRgw = stack.enter_context(ceph_rgw(tmp_path))
            servers.append(rgw.gateway)
            direct, url = rgw.url, rgw.secure_url
            settings["AWS_CA_BUNDLE"] = str(rgw.ca)
        else:
            moto: HeldS3 = request.getfixturevalue("s3_server")
            direct = url = moto.url
        way = stack.enter_context(gate(int(urlsplit(url).port or 0)))
        settings["KEYHOLE_S3_ENDPOINT_URL"] = f"{urlsplit(url).scheme}://127.0.0.1:{way.port}"
        s3 = aws_client("s3", direct)
        stack.callback(s3.close)
        env = commands.environment(
            KEYHOLE_SINKS="redis,tags", KEYHOLE_BATCH_SIZE=BATCH, **commands.S3_CREDENTIALS, **settings
        )
        # Redis 7.0 has no WAITAOF, and this user must not read the configuration of the append-only file.
        advice = set() if name == "valkey" else {"redis disk"}
        yield Row(env, store, servers, rabbitmq, way, s3, tmp_path / "worker.log", advice)


def _store(name: str) -> Any:
    if name == "valkey":
        return valkey_server("--appendonly", "yes")
    return redis_server("--appendonly", "yes", "--appendfsync", "always")


def test_each_object_gets_its_verdict_and_its_tag_though_worker_and_servers_are_killed(row: Row) -> None:
    row.s3.create_bucket(Bucket=BUCKET)
    for key, status in {FIRST: "safe", **STATUSES}.items():
        row.s3.put_object(Bucket=BUCKET, Key=key, Body=BODIES[status])

    with commands.worker(row.env, row.log) as worker, row.store.client() as admin:
        # When an object is submitted
        (report,) = row.keyhole("submit", "--wait", f"s3://{BUCKET}/{FIRST}")
        # Then it has its verdict and its tag, and the doctor reports no problem
        assert (report["status"], row.tag(FIRST)) == ("safe", "safe")
        told = row.keyhole("doctor", f"s3://{BUCKET}/{FIRST}")
        assert {finding["what"] for finding in told if finding["state"] != "ok"} == row.advice

        # When the worker is killed while it works on further objects
        row.keyhole("submit", *(f"s3://{BUCKET}/{key}" for key in STATUSES))
        row.hold_in_flight(admin)
        scanning = commands.children(worker.pid)
        worker.send_signal(signal.SIGKILL)
        commands.until(lambda: not any(map(commands.is_alive, scanning)))
        row.gate.release()
        # And so much time passes that all processes notice it
        pass_seconds(admin, LOST_SECONDS)
        for delivery in admin.zrange(UNACKNOWLEDGED_SINCE, 0, -1):
            admin.zincrby(UNACKNOWLEDGED_SINCE, -VISIBILITY, delivery)

    with commands.worker(row.env, row.log), row.store.client() as admin:
        # And the servers are killed while the next worker works
        row.hold_in_flight(admin)
        refused = row.store.refused()
        for server in row.servers:
            server.kill()
        row.gate.release()
        for server in row.servers:
            server.start()

        # Then each object has one verdict and its tag, and nothing is left over
        commands.until(lambda: row.is_idle(admin))
        assert {report["key"]: report["status"] for report in row.keyhole("results")} == {
            FIRST: "safe",
            **STATUSES,
        }
        assert {key: row.tag(key) for key in STATUSES} == STATUSES
        announced = (json.loads(fields[b"report"])["key"] for _, fields in admin.xrange(keys.VERDICTS))
        assert Counter(announced) == dict.fromkeys([FIRST, *STATUSES], 1)
        ledger = {key.decode().split(":")[3] for key in admin.scan_iter("keyhole:{v1}:ledger:*")}
        assert ledger <= LASTING
        assert row.keyhole("dead", "list") == []
        row.keyhole("doctor")
    # The doctor sends only this command, and reports that it is refused.
    assert refused | row.store.refused() <= {"config|get"}
    assert QUOTED.encode() not in row.log.read_bytes()
