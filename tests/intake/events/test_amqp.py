"""A RabbitMQ queue as a source: exchanges, counts, heartbeats, broken connections, TLS."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import amqp
import pytest

from keyhole.intake.events.amqp import AmqpSource
from keyhole.intake.events.amqp_queue import AmqpQueue, Binding
from keyhole.intake.events.open_source import open_source
from keyhole.intake.events.source import Message, SourceUnavailableError
from tests.e2e.commands import PATIENCE, until
from tests.servers.amqp_relay import AmqpRelay
from tests.servers.rabbitmq import RabbitMQ

pytestmark = pytest.mark.slow

Listen = Callable[..., AmqpSource]


@pytest.fixture
def relay(rabbitmq: RabbitMQ) -> Iterator[AmqpRelay]:
    """A relay to the broker."""
    with closing(AmqpRelay(rabbitmq.port)) as relay:
        yield relay


@pytest.fixture
def channel(rabbitmq: RabbitMQ) -> Iterator[Any]:
    """A channel for another client's actions."""
    with rabbitmq.channel() as channel:
        yield channel


@pytest.fixture
def queue(channel: Any) -> str:
    """A queue that only this test uses."""
    name = uuid4().hex
    channel.queue_declare(name, durable=True, auto_delete=False)
    return name


@pytest.fixture
def listen(rabbitmq: RabbitMQ) -> Iterator[Listen]:
    """Makes sources of a queue, and closes them at the end."""
    opened = []

    def source(**options: Any) -> AmqpSource:
        heartbeat = options.pop("heartbeat_seconds", 30)
        address = AmqpQueue("127.0.0.1", **{"port": rabbitmq.port} | options)
        opened.append(AmqpSource(address, client_name="test", heartbeat_seconds=heartbeat))
        return opened[-1]

    yield source
    for one in opened:
        one.close()


def put(channel: Any, queue: str, *bodies: bytes, exchange: str = "", **headers: Any) -> None:
    """Publish as a storage does, and wait until the broker has the message."""
    for body in bodies:
        message = amqp.Message(body, delivery_mode=2, application_headers=headers)
        channel.basic_publish_confirm(message, exchange=exchange, routing_key=queue)


def bodies(messages: Any) -> list[bytes]:
    return [message.body for message in messages]


def one(source: AmqpSource) -> Message:
    (message,) = source.receive(1, PATIENCE)
    return message


def several(source: AmqpSource, count: int) -> list[Message]:
    """Receive this many messages, in any number of calls."""
    messages: list[Message] = []
    while len(messages) < count:
        batch = source.receive(count - len(messages), PATIENCE)
        assert batch, f"{len(messages)} of {count} came"
        messages += batch
    return messages


class TestTheQueue:
    def test_one_that_is_not_there_is_told_with_what_to_do(self, listen: Listen) -> None:
        with pytest.raises(SourceUnavailableError, match=r"no such queue.*\?exchange=NAME&routing_key=KEY"):
            listen(queue="nowhere").receive(1, 0)

    def test_one_that_appears_later_is_found(self, listen: Listen, channel: Any) -> None:
        name = uuid4().hex
        source = listen(queue=name)
        with pytest.raises(SourceUnavailableError):
            source.receive(1, 0)

        channel.queue_declare(name, durable=True, auto_delete=False)
        put(channel, name, b"a")

        assert one(source).body == b"a"

    def test_one_that_is_deleted_is_missed(self, listen: Listen, channel: Any, queue: str) -> None:
        """The broker ends the subscription without a request."""
        source = listen(queue=queue)
        source.receive(1, 0)

        channel.queue_delete(queue)

        with pytest.raises(SourceUnavailableError):
            source.receive(1, PATIENCE)
        with pytest.raises(SourceUnavailableError, match="no such queue"):
            source.receive(1, PATIENCE)

    def test_is_taken_as_it_was_declared(self, listen: Listen, channel: Any) -> None:
        """Binding it again changes none of its arguments."""
        name = uuid4().hex
        channel.queue_declare(name, durable=True, auto_delete=False, arguments={"x-max-length": 5})
        source = listen(queue=name, binding=Binding("amq.topic", name))
        source.receive(1, 0)

        put(channel, name, b"a", exchange="amq.topic")

        assert one(source).body == b"a"


class TestAnExchange:
    def test_the_queue_is_declared_and_bound(self, listen: Listen, channel: Any) -> None:
        """Ceph publishes to a topic exchange, with the topic's name as routing key."""
        exchange, name = uuid4().hex, uuid4().hex
        channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
        source = listen(queue=name, binding=Binding(exchange, "my.topic"))
        source.receive(1, 0)

        put(channel, "my.topic", b"mine", exchange=exchange)
        put(channel, "other.topic", b"another's", exchange=exchange)

        assert bodies(source.receive(10, PATIENCE)) == [b"mine"]
        source.close()
        assert channel.queue_declare(name, passive=True).message_count == 1

    def test_one_that_is_not_there_is_told_with_what_to_do(self, listen: Listen) -> None:
        source = listen(queue=uuid4().hex, binding=Binding("nowhere", "key"))

        with pytest.raises(SourceUnavailableError, match=r"'nowhere'.*&exchange_type=topic"):
            source.receive(1, 0)

    @pytest.mark.parametrize("kind", ["topic", "fanout", "direct"])
    def test_it_is_declared_if_that_is_wanted(self, listen: Listen, channel: Any, kind: str) -> None:
        exchange = uuid4().hex
        source = listen(queue=uuid4().hex, binding=Binding(exchange, "key", kind))
        source.receive(1, 0)

        put(channel, "key", b"a", exchange=exchange)

        assert one(source).body == b"a"
        # MinIO declares its exchange each time. Another type or durability would be refused.
        channel.exchange_declare(exchange, kind, durable=True, auto_delete=False)

    def test_one_that_is_there_is_taken_as_it_is(self, listen: Listen, channel: Any) -> None:
        """The exchange in MinIO's documentation is a fanout that is not durable."""
        exchange = uuid4().hex
        channel.exchange_declare(exchange, "fanout", durable=False, auto_delete=False)
        source = listen(queue=uuid4().hex, binding=Binding(exchange, "", "topic"))
        source.receive(1, 0)

        put(channel, "whatever", b"a", exchange=exchange)

        assert one(source).body == b"a"


class TestCounting:
    def test_a_classic_queue_knows_whether_it_was_there_before(
        self, listen: Listen, channel: Any, queue: str
    ) -> None:
        put(channel, queue, b"a")
        source = listen(queue=queue)

        receives = []
        for _ in range(4):
            message = one(source)
            receives.append(message.receives)
            source.give_back([message])

        assert receives == [1, 2, 2, 2]

    def test_a_quorum_queue_counts(self, listen: Listen, channel: Any) -> None:
        name = uuid4().hex
        channel.queue_declare(name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
        put(channel, name, b"a")
        source = listen(queue=name)

        receives = []
        for _ in range(4):
            message = one(source)
            receives.append(message.receives)
            source.give_back([message])

        assert receives == [1, 2, 3, 4]

    @pytest.mark.parametrize("claim", [7, 0, -3, "many", None, True])
    def test_what_a_sender_claims_counts_for_nothing_new(
        self, listen: Listen, channel: Any, queue: str, claim: object
    ) -> None:
        """The broker sets this header, but every sender can write it.

        So Keyhole does not trust its first value.
        """
        put(channel, queue, b"a", **{"x-delivery-count": claim, "x-acquired-count": claim})
        source = listen(queue=queue)

        message = one(source)
        source.give_back([message])

        assert message.receives == 1
        assert one(source).receives == (8 if claim == 7 else 2)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({"traceparent": "00-a-b-01"}, "00-a-b-01"), ({"traceparent": 5}, None), ({}, None)],
)
def test_the_trace_of_the_sender_is_a_header(
    listen: Listen, channel: Any, queue: str, headers: dict[str, object], expected: str | None
) -> None:
    put(channel, queue, b"a", **headers)
    assert one(listen(queue=queue)).traceparent == expected


class TestHeartbeats:
    def test_are_sent_while_the_listener_is_busy(
        self, listen: Listen, relay: AmqpRelay, channel: Any, queue: str
    ) -> None:
        """In this test, the broker closes a connection after two seconds of silence."""
        put(channel, queue, b"a")
        source = listen(queue=queue, port=relay.port, heartbeat_seconds=1)
        message = one(source)
        before = relay.heartbeats

        until(lambda: relay.heartbeats >= before + 6)

        source.acknowledge([message])
        source.close()
        assert relay.connections == 1
        assert channel.queue_declare(queue, passive=True).message_count == 0

    def test_are_sent_while_it_waits(
        self, listen: Listen, relay: AmqpRelay, channel: Any, queue: str
    ) -> None:
        source = listen(queue=queue, port=relay.port, heartbeat_seconds=1)
        received: list[Message] = []
        waiting = threading.Thread(target=lambda: received.extend(source.receive(1, PATIENCE)))
        waiting.start()

        until(lambda: relay.heartbeats >= 4)
        put(channel, queue, b"a")

        waiting.join()
        assert bodies(received) == [b"a"]
        assert relay.connections == 1

    def test_a_broker_that_is_silent_is_given_up(self, listen: Listen, relay: AmqpRelay, queue: str) -> None:
        source = listen(queue=queue, port=relay.port, heartbeat_seconds=1)
        source.receive(1, 0)

        relay.go_silent()

        with pytest.raises(SourceUnavailableError, match="heartbeats"):
            source.receive(1, PATIENCE)

    def test_no_thread_stays_behind(self, listen: Listen, queue: str) -> None:
        before = threading.active_count()
        source = listen(queue=queue)
        source.receive(1, 0)
        assert threading.active_count() == before + 1

        source.close()

        assert threading.active_count() == before


class TestABrokenConnection:
    def test_what_was_out_comes_again(
        self, listen: Listen, relay: AmqpRelay, channel: Any, queue: str
    ) -> None:
        put(channel, queue, b"a", b"b", b"c")
        source = listen(queue=queue, port=relay.port)
        several(source, 2)

        relay.cut()

        with pytest.raises(SourceUnavailableError):
            source.receive(2, PATIENCE)
        again = several(source, 3)
        assert sorted(bodies(again)) == [b"a", b"b", b"c"]
        assert max(message.receives for message in again) == 2

    def test_an_old_receipt_settles_nothing_new(
        self, listen: Listen, relay: AmqpRelay, channel: Any, queue: str
    ) -> None:
        """A connection numbers its deliveries from one, so old numbers belong to other messages."""
        put(channel, queue, b"a", b"b")
        source = listen(queue=queue, port=relay.port)
        old = several(source, 2)
        relay.cut()
        with pytest.raises(SourceUnavailableError):
            source.receive(2, PATIENCE)
        new = several(source, 2)

        with pytest.raises(SourceUnavailableError, match="will deliver 2 messages again"):
            source.acknowledge(old)
        source.give_back(old)
        source.acknowledge(new[:1])

        source.close()
        assert channel.queue_declare(queue, passive=True).message_count == 1

    @pytest.mark.parametrize("call", [AmqpSource.acknowledge, AmqpSource.give_back])
    def test_it_is_noticed_by_whoever_settles(
        self,
        listen: Listen,
        relay: AmqpRelay,
        channel: Any,
        queue: str,
        call: Callable[[AmqpSource, list[Message]], None],
    ) -> None:
        put(channel, queue, b"a")
        source = listen(queue=queue, port=relay.port)
        message = one(source)

        relay.cut()

        with pytest.raises(SourceUnavailableError):
            call(source, [message])
        assert one(source).body == b"a"

    def test_a_restart_of_the_broker_loses_nothing(self, listen: Listen, rabbitmq: RabbitMQ) -> None:
        queue = uuid4().hex
        with rabbitmq.channel() as channel:
            channel.queue_declare(queue, durable=True, auto_delete=False)
            put(channel, queue, b"a", b"b", b"c")
        source = listen(queue=queue)
        first = one(source)
        source.acknowledge([first])
        held = one(source)

        rabbitmq.stop()
        try:
            with pytest.raises(SourceUnavailableError):
                source.receive(1, PATIENCE)
            with pytest.raises(SourceUnavailableError, match="refused"):
                source.receive(1, 0)
            with pytest.raises(SourceUnavailableError):
                source.acknowledge([held])
        finally:
            rabbitmq.start()

        assert first.body == b"a"
        assert sorted(bodies([one(source), one(source)])) == [b"b", b"c"]


class TestAccess:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"password": "s3cret"}, "ACCESS_REFUSED"),
            ({"user": "nobody", "password": "s3cret"}, "ACCESS_REFUSED"),
            ({"vhost": "nowhere"}, "nowhere"),
        ],
    )
    def test_what_is_refused_is_told_without_the_password(
        self, listen: Listen, options: dict[str, str], said: str
    ) -> None:
        with pytest.raises(SourceUnavailableError, match=said) as raised:
            listen(queue="events", **options).receive(1, 0)

        assert "s3cret" not in str(raised.value) + str(raised.value.__cause__)
        assert "127.0.0.1" in str(raised.value)

    def test_tls_is_verified(
        self, rabbitmq: RabbitMQ, channel: Any, queue: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(channel, queue, b"a")
        url = f"{rabbitmq.url(scheme='amqps')}/{queue}"
        with (
            closing(open_source(url, listener_id="test")) as source,
            pytest.raises(SourceUnavailableError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            source.receive(1, 0)

        monkeypatch.setenv("SSL_CERT_FILE", str(rabbitmq.ca))

        with closing(open_source(url, listener_id="test")) as source:
            assert bodies(source.receive(1, PATIENCE)) == [b"a"]

    def test_of_a_certificate_the_name_counts(
        self, rabbitmq: RabbitMQ, queue: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The certificate is valid for 127.0.0.1, which is not the name localhost."""
        monkeypatch.setenv("SSL_CERT_FILE", str(rabbitmq.ca))
        url = rabbitmq.url(scheme="amqps").replace("127.0.0.1", "localhost")

        with (
            closing(open_source(f"{url}/{queue}", listener_id="test")) as source,
            pytest.raises(SourceUnavailableError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            source.receive(1, 0)

    def test_people_see_who_listens(self, rabbitmq: RabbitMQ, queue: str) -> None:
        with closing(open_source(f"{rabbitmq.url()}/{queue}", listener_id="it is me")) as source:
            source.receive(1, 0)

            assert source._connection.client_properties["connection_name"] == "keyhole it is me"
            assert source.name == f"amqp://127.0.0.1:{rabbitmq.port}/{queue}"
