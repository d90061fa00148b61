"""`keyhole doctor`: it checks the queue of events, and receives no message."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest
import redis

from keyhole.cli.doctor_check import DEADLINE
from tests.cli.conftest import Keyhole
from tests.e2e.commands import S3_CREDENTIALS
from tests.in_time import ended_by
from tests.ports import free_port
from tests.servers.access import aws_client
from tests.servers.rabbitmq import PASSWORD, USER, RabbitMQ
from tests.servers.redis_server import redis_server
from tests.servers.silent import silent_server


@pytest.fixture
def env(env: dict[str, str], redis_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with a Redis and an S3, and without a worker."""
    monkeypatch.setattr("keyhole.cli.doctor_broker.PING_SECONDS", 0.05)
    env["KEYHOLE_REDIS_URL"] = redis_url
    return env


@contextmanager
def refusing_sqs(code: str) -> Iterator[str]:
    """Yield the URL of an SQS that refuses every request, as AWS does and moto does not."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "as scripted"}).encode()
            self.send_response(403)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def told(keyhole: Keyhole, url: str, **settings: object) -> tuple[str, str]:
    """The doctor's line about a queue: the state and the text."""
    printed = keyhole("doctor", "--json", KEYHOLE_EVENTS_URL=url, **settings)
    (found,) = [found for found in map(json.loads, printed.lines) if found["what"] == "events"]
    assert "jobs" in {found["what"] for found in map(json.loads, printed.lines)}
    return found["state"], found["message"]


class TestSqs:
    @pytest.fixture
    def sqs(self, moto_url: str) -> Iterator[Any]:
        """A client for another program's actions on SQS."""
        client = aws_client("sqs", moto_url)
        yield client
        client.close()

    @pytest.fixture
    def queue(self, sqs: Any) -> str:
        """A queue that only this test uses."""
        url: str = sqs.create_queue(QueueName=uuid4().hex)["QueueUrl"]
        return url

    def test_what_waits_is_counted_and_not_received(self, keyhole: Keyhole, sqs: Any, queue: str) -> None:
        sqs.send_message(QueueUrl=queue, MessageBody="{}")

        state, message = told(keyhole, queue)

        assert (state, "about 1 waiting" in message) == ("ok", True)
        (received,) = sqs.receive_message(
            QueueUrl=queue, MessageSystemAttributeNames=["ApproximateReceiveCount"]
        )["Messages"]
        assert received["Attributes"]["ApproximateReceiveCount"] == "1"

    def test_one_that_is_not_there_is_told_with_its_region(self, keyhole: Keyhole, queue: str) -> None:
        state, message = told(keyhole, queue + "x", KEYHOLE_S3_REGION="eu-north-1")

        assert state == "bad"
        assert "there is no such queue in this region" in message
        assert "(eu-north-1)" in message

    @pytest.mark.parametrize(
        ("code", "state", "words"),
        [
            ("AccessDenied", "advice", "sqs:GetQueueAttributes; listening does not"),
            ("InvalidClientTokenId", "bad", "InvalidClientTokenId"),
        ],
    )
    def test_a_refusal_is_told(self, keyhole: Keyhole, code: str, state: str, words: str) -> None:
        with refusing_sqs(code) as url:
            found = told(keyhole, f"{url}/123456789012/queue")

        assert (found[0], words in found[1]) == (state, True)

    def test_a_profile_that_does_not_exist_is_told(self, keyhole: Keyhole) -> None:
        unset = {**dict.fromkeys(S3_CREDENTIALS, ""), "AWS_PROFILE": "nope"}

        state, message = told(keyhole, "https://sqs.eu-north-1.amazonaws.com/123456789012/q", **unset)

        assert (state, "The config profile (nope) could not be found" in message) == ("bad", True)


class TestRedis:
    def test_what_waits_is_counted_and_left(
        self, keyhole: Keyhole, valkey: redis.Redis, redis_url: str
    ) -> None:
        valkey.rpush("events", "a", "b")
        before = valkey.keys("*events*")

        state, message = told(keyhole, f"{redis_url}/0/events")

        assert (state, ": 2 waiting; " in message) == ("ok", True)
        assert valkey.lrange("events", 0, -1) == [b"a", b"b"]
        assert valkey.keys("*events*") == before

    def test_a_key_that_is_no_list_is_bad(
        self, keyhole: Keyhole, valkey: redis.Redis, redis_url: str
    ) -> None:
        valkey.hset("events", "a", "b")

        state, message = told(keyhole, f"{redis_url}/0/events")

        assert (state, "the key is not a list" in message) == ("bad", True)

    @pytest.mark.parametrize(
        ("denied", "words"),
        [
            ("-llen", "'llen' command"),
            ("-blmove", "'blmove' command; listening needs this permission"),
            ("-script|load", "'script|load' command; listening needs this permission"),
        ],
    )
    def test_a_user_who_may_not_listen_is_told_what_lacks(
        self, keyhole: Keyhole, valkey: redis.Redis, redis_url: str, denied: str, words: str
    ) -> None:
        valkey.execute_command("ACL", "SETUSER", "listener", "reset", "on", ">pw", "~*", "+@all", denied)
        place = redis_url.removeprefix("redis://").rpartition("@")[2]
        try:
            state, message = told(keyhole, f"redis://listener:pw@{place}/0/events")
            valkey.execute_command("ACL", "SETUSER", "listener", "resetkeys", "~keyhole:*", "+@all")
            other = told(keyhole, f"redis://listener:pw@{place}/0/events")
        finally:
            valkey.acl_deluser("listener")

        assert (state, words in message) == ("bad", True)
        assert other[0] == "bad"
        assert "key" in other[1]
        assert valkey.keys("*events*") == []

    def test_a_replica_is_bad(self, keyhole: Keyhole) -> None:
        with redis_server("--replicaof", "127.0.0.1 1") as server:
            state, message = told(keyhole, f"{server.url()}/events")

        assert (state, "a replica; use the primary's address" in message) == ("bad", True)

    @pytest.mark.parametrize("slots", [8000, 16384])
    def test_a_cluster_is_bad(self, keyhole: Keyhole, slots: int) -> None:
        """The doctor reports the cluster whether or not this node serves the key."""
        with redis_server("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
            with server.client() as client:
                client.execute_command("CLUSTER ADDSLOTS", *range(slots))
            state, message = told(keyhole, f"{server.url()}/events")

        assert (state, "belongs to a cluster" in message) == ("bad", True)

    @pytest.mark.slow
    def test_tls_that_the_server_does_not_speak_is_told(self, keyhole: Keyhole) -> None:
        with redis_server() as server:
            plain = told(keyhole, f"{server.url(scheme='rediss').replace('rediss:', 'redis:')}/events")
            tls = told(keyhole, f"{server.url().replace('redis:', 'rediss:')}/events")

        assert (plain[0], "write rediss://" in plain[1]) == ("bad", True)
        assert (tls[0], "write redis://" in tls[1]) == ("bad", True)


@pytest.mark.slow
class TestRabbitMQ:
    def test_what_waits_is_counted_and_left(self, keyhole: Keyhole, rabbitmq: RabbitMQ) -> None:
        name = uuid4().hex
        with rabbitmq.channel("keyhole") as channel:
            channel.queue_declare(name, durable=True, auto_delete=False)
            channel.basic_publish_confirm(_message(), routing_key=name)

            state, message = told(keyhole, f"{rabbitmq.url('keyhole')}/{name}")

            assert (state, "1 waiting, 0 listening" in message) == ("ok", True)
            got = channel.basic_get(name, no_ack=True)
            assert got.delivery_info["redelivered"] is False

    def test_one_that_is_not_there_is_bad(self, keyhole: Keyhole, rabbitmq: RabbitMQ) -> None:
        state, message = told(keyhole, f"{rabbitmq.url('keyhole')}/{uuid4().hex}")

        assert (state, "there is no such queue" in message) == ("bad", True)

    def test_one_that_is_declared_when_it_is_listened_to_is_left_to_that(
        self, keyhole: Keyhole, rabbitmq: RabbitMQ
    ) -> None:
        name = uuid4().hex
        url = f"{rabbitmq.url('keyhole')}/{name}?exchange={name}&routing_key=k"

        assert told(keyhole, url)[0] == "bad"
        state, message = told(keyhole, f"{url}&exchange_type=topic")

        assert (state, "`keyhole listen` declares it" in message) == ("ok", True)
        assert name not in rabbitmq.control("list_queues", "-p", "keyhole", "name")

    def test_a_wrong_password_is_told(self, keyhole: Keyhole, rabbitmq: RabbitMQ) -> None:
        url = f"amqp://{USER}:{PASSWORD}x@127.0.0.1:{rabbitmq.port}/keyhole/q"

        state, message = told(keyhole, url)

        assert (state, "ACCESS_REFUSED" in message) == ("bad", True)

    def test_a_user_who_may_not_read_is_told(self, keyhole: Keyhole, rabbitmq: RabbitMQ) -> None:
        name = uuid4().hex
        rabbitmq.control("add_user", name, "pw")
        try:
            rabbitmq.control("set_permissions", "--vhost", "keyhole", name, ".*", ".*", "^$")
            with rabbitmq.channel("keyhole") as channel:
                channel.queue_declare(name, durable=True, auto_delete=False)

                state, message = told(keyhole, f"amqp://{name}:pw@127.0.0.1:{rabbitmq.port}/keyhole/{name}")
        finally:
            rabbitmq.control("delete_user", name)

        assert (state, "the user cannot read it (ACCESS_REFUSED" in message) == ("bad", True)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["amqp", "redis", "rediss", "http"])
def test_one_that_never_answers_is_told_within_the_deadline(keyhole: Keyhole, scheme: str) -> None:
    with silent_server() as port, ended_by(DEADLINE):
        state, message = told(keyhole, f"{scheme}://127.0.0.1:{port}/0/q")

    assert state == "bad"
    assert "time" in message.lower()


def _message() -> Any:
    import amqp

    return amqp.Message("{}")
