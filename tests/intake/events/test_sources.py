"""Laws for every source of messages, on real servers: moto's SQS, RabbitMQ, Valkey."""

import os
import signal
import subprocess
import sys
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol
from uuid import uuid4

import amqp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyhole.intake.events.open_source import open_source
from keyhole.intake.events.source import Message, MessageSource
from keyhole.store import keys
from keyhole.store.connection import connect
from tests.e2e.commands import PATIENCE, S3_CREDENTIALS
from tests.servers.access import aws_client, isolate
from tests.servers.moto_sqs import let_visibility_lapse
from tests.servers.rabbitmq import RabbitMQ
from tests.slow import slow

#: A program with a listener that is killed while it holds what it received.
ANOTHER = """
import sys
from keyhole.intake.events.open_source import open_source
source = open_source(sys.argv[1], listener_id="another")
print(len(source.receive(int(sys.argv[2]), 30)), flush=True)
sys.stdin.read()
"""
#: SQS accepts the characters that XML can contain, and at least one character.
SQS_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r"),
    min_size=1,
)


class Queue(Protocol):
    """A queue that only this test uses, and that is empty."""

    #: The URL for `keyhole listen`.
    url: str
    #: The bodies that the queue can transport.
    bodies: st.SearchStrategy[bytes]

    @abstractmethod
    def put(self, *bodies: bytes) -> None:
        """Actions of a storage."""

    @abstractmethod
    def let_time_pass(self) -> None:
        """Wait until a killed listener is known to be dead."""


class Sqs(Queue):
    bodies = SQS_TEXT.map(str.encode)

    def __init__(self, moto_url: str) -> None:
        self._client: Any = aws_client("sqs", moto_url)
        self.url = self._client.create_queue(QueueName=uuid4().hex)["QueueUrl"]

    def put(self, *bodies: bytes) -> None:
        for body in bodies:
            self._client.send_message(QueueUrl=self.url, MessageBody=body.decode())

    def let_time_pass(self) -> None:
        let_visibility_lapse([self.url])


class Amqp(Queue):
    bodies = st.binary()

    def __init__(self, server: RabbitMQ) -> None:
        self._server = server
        self._name = f"events/{uuid4().hex}"
        self.url = f"{server.url('a/b c')}/{self._name.replace('/', '%2F')}"
        with server.channel("a/b c") as channel:
            channel.queue_declare(self._name, durable=True, auto_delete=False)

    def put(self, *bodies: bytes) -> None:
        with self._server.channel("a/b c") as channel:
            for body in bodies:
                # Senders can declare a text. It arrives as bytes.
                message = amqp.Message(body, delivery_mode=2, content_encoding="utf-8")
                channel.basic_publish_confirm(message, routing_key=self._name)

    def let_time_pass(self) -> None:
        """The broker notices it at once."""


class RedisList(Queue):
    bodies = st.binary()

    def __init__(self, url: str) -> None:
        self._client = connect(f"{url}/3")
        self._key = f"events/{uuid4().hex}"
        self.url = f"{url}/3/{self._key}"

    def put(self, *bodies: bytes) -> None:
        self._client.rpush(self._key, *bodies)

    def let_time_pass(self) -> None:
        for key in self._client.scan_iter(keys.listener_alive(self._key, "*")):
            self._client.delete(key)

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module", autouse=True)
def _credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        isolate(monkeypatch, **S3_CREDENTIALS)
        yield


@pytest.fixture(params=[slow("sqs"), slow("amqp"), "redis"])
def queue(request: pytest.FixtureRequest) -> Iterator[Queue]:
    """A queue of each kind."""
    if request.param == "sqs":
        yield Sqs(request.getfixturevalue("moto_url"))
    elif request.param == "amqp":
        yield Amqp(request.getfixturevalue("rabbitmq"))
    else:
        lists = RedisList(request.getfixturevalue("valkey_url"))
        yield lists
        lists.close()


@pytest.fixture
def source(queue: Queue) -> Iterator[MessageSource]:
    """A source of that queue's messages."""
    source = open_source(queue.url, listener_id="test")
    yield source
    source.close()


def receive(source: MessageSource, count: int) -> list[Message]:
    """Receive this many messages, in any number of calls."""
    messages: list[Message] = []
    deadline = time.monotonic() + PATIENCE
    while len(messages) < count:
        messages += source.receive(count - len(messages), 5)
        assert time.monotonic() < deadline, f"{len(messages)} of {count} came"
    return messages


def bodies(messages: Sequence[Message]) -> list[bytes]:
    return [message.body for message in messages]


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


def is_empty(queue: Queue) -> bool:
    """Whether no listener receives a message, even after it has waited until others are known to be dead."""
    queue.let_time_pass()
    source = open_source(queue.url, listener_id="last")
    try:
        return not source.receive(10, 1)
    finally:
        source.close()


class TestReceiving:
    def test_what_was_put_comes_in_its_order(self, queue: Queue, source: MessageSource) -> None:
        """The order is not guaranteed, but nothing disturbs it in this test."""
        queue.put(*numbered(7))

        assert bodies(receive(source, 7)) == numbered(7)

    def test_a_first_receive_is_a_first_receive(self, queue: Queue, source: MessageSource) -> None:
        queue.put(b"a")

        assert [message.receives for message in receive(source, 1)] == [1]

    @pytest.mark.parametrize("limit", [1, 3, 10, 25])
    def test_the_limit_is_honoured(self, queue: Queue, source: MessageSource, limit: int) -> None:
        queue.put(*numbered(30))

        batches = []
        while sum(map(len, batches)) < 30:
            batches.append(source.receive(limit, 5))

        assert max(map(len, batches)) <= limit
        assert sorted(body for batch in batches for body in bodies(batch)) == sorted(numbered(30))

    def test_many_come_at_once(self, queue: Queue, source: MessageSource) -> None:
        """One call returns all messages if the server states their number, otherwise one burst."""
        queue.put(*numbered(25))
        receive(source, 5)

        calls = 0
        left = 20
        while left:
            left -= len(source.receive(left, 5))
            calls += 1

        assert calls <= 5

    def test_others_get_what_is_beyond_the_limit(self, queue: Queue, source: MessageSource) -> None:
        """A listener that is busy with its batch holds no further messages."""
        queue.put(*numbered(8))
        first = receive(source, 4)
        other = open_source(queue.url, listener_id="other")

        try:
            second = receive(other, 4)
        finally:
            other.close()

        assert sorted(bodies([*first, *second])) == numbered(8)

    def test_more_can_be_received_while_some_are_out(self, queue: Queue, source: MessageSource) -> None:
        queue.put(*numbered(9))

        messages = [*receive(source, 2), *receive(source, 3), *receive(source, 4)]

        assert bodies(messages) == numbered(9)
        source.acknowledge(messages)
        assert is_empty(queue)

    @pytest.mark.parametrize("seconds", [0, 1])
    def test_the_wait_ends_without_messages(
        self, queue: Queue, source: MessageSource, seconds: float
    ) -> None:
        queue.put(b"to be connected")
        source.acknowledge(receive(source, 1))
        before = time.monotonic()

        assert list(source.receive(10, seconds)) == []

        assert time.monotonic() - before >= 0.9 * seconds

    def test_the_wait_ends_with_a_message(self, queue: Queue, source: MessageSource) -> None:
        assert list(source.receive(10, 0)) == []
        queue.put(b"a")

        assert bodies(source.receive(10, PATIENCE)) == [b"a"]

    def test_bodies_arrive_byte_for_byte(self, queue: Queue, source: MessageSource) -> None:
        @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.lists(queue.bodies, min_size=1, max_size=4))
        def law(sent: list[bytes]) -> None:
            queue.put(*sent)
            messages = receive(source, len(sent))
            source.acknowledge(messages)
            assert Counter(bodies(messages)) == Counter(sent)

        law()

    def test_a_long_body_arrives(self, queue: Queue, source: MessageSource) -> None:
        """The body has the maximum length of SQS."""
        body = b"0123456789abcdef" * (256 * 1024 // 16)
        queue.put(body, b"and the next")

        assert bodies(receive(source, 2)) == [body, b"and the next"]


class TestAcknowledging:
    def test_what_is_acknowledged_never_comes_again(self, queue: Queue, source: MessageSource) -> None:
        queue.put(*numbered(25))

        source.acknowledge(receive(source, 25))

        source.close()
        assert is_empty(queue)

    def test_only_what_is_acknowledged_is_gone(self, queue: Queue, source: MessageSource) -> None:
        queue.put(*numbered(6))
        messages = receive(source, 6)

        source.acknowledge(messages[::2])

        source.close()
        other = open_source(queue.url, listener_id="other")
        assert sorted(bodies(receive(other, 3))) == [b"1", b"3", b"5"]
        other.close()

    def test_twice_is_once(self, queue: Queue, source: MessageSource) -> None:
        queue.put(*numbered(2))
        messages = receive(source, 2)

        source.acknowledge(messages[:1])
        source.acknowledge(messages[:1])

        source.close()
        other = open_source(queue.url, listener_id="other")
        assert bodies(receive(other, 1)) == [b"1"]
        other.close()

    def test_nothing_is_no_trouble(self, source: MessageSource) -> None:
        source.receive(1, 0)

        source.acknowledge([])
        source.give_back([])


class TestGivingBack:
    def test_it_comes_again(self, queue: Queue, source: MessageSource) -> None:
        queue.put(*numbered(25))
        messages = receive(source, 25)

        source.acknowledge(messages[:12])
        source.give_back(messages[12:])

        assert sorted(bodies(receive(source, 13))) == sorted(numbered(25)[12:])

    def test_to_others_as_well(self, queue: Queue, source: MessageSource) -> None:
        queue.put(b"a")
        other = open_source(queue.url, listener_id="other")
        other.receive(1, 1)
        other.give_back([])
        other.close()

        messages = receive(source, 1)
        source.give_back(messages)
        source.close()

        last = open_source(queue.url, listener_id="last")
        assert bodies(receive(last, 1)) == [b"a"]
        last.close()

    def test_what_nobody_can_work_on_holds_up_nothing(self, queue: Queue, source: MessageSource) -> None:
        """One message is given back each time, and the messages after it are delivered."""
        queue.put(b"poison", *numbered(5))

        seen: list[bytes] = []
        deadline = time.monotonic() + PATIENCE
        while len(seen) < 5:
            messages = source.receive(2, 5)
            source.give_back([message for message in messages if message.body == b"poison"])
            good = [message for message in messages if message.body != b"poison"]
            source.acknowledge(good)
            seen += bodies(good)
            assert time.monotonic() < deadline

        assert sorted(seen) == numbered(5)

    def test_it_can_be_acknowledged_after_all(self, queue: Queue, source: MessageSource) -> None:
        queue.put(b"a")
        source.give_back(receive(source, 1))

        source.acknowledge(receive(source, 1))

        source.close()
        assert is_empty(queue)


class TestAnEnd:
    def test_closing_gives_back(self, queue: Queue, source: MessageSource) -> None:
        queue.put(*numbered(5))
        messages = receive(source, 5)
        source.acknowledge(messages[:2])

        source.close()

        other = open_source(queue.url, listener_id="other")
        assert sorted(bodies(receive(other, 3))) == [b"2", b"3", b"4"]
        other.close()

    def test_closing_twice_or_before_all_is_no_trouble(self, queue: Queue) -> None:
        source = open_source(queue.url, listener_id="other")

        source.close()
        source.close()

    def test_of_a_killed_listener_all_comes_again(self, queue: Queue, source: MessageSource) -> None:
        queue.put(*numbered(4))
        process = subprocess.Popen(
            [sys.executable, "-c", ANOTHER, queue.url, "4"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ,
        )
        with process:
            assert process.stdout is not None
            assert int(process.stdout.readline()) > 0
            process.send_signal(signal.SIGKILL)
        queue.let_time_pass()

        messages = receive(source, 4)

        assert sorted(bodies(messages)) == numbered(4)
        source.acknowledge(messages)
        source.close()
        assert is_empty(queue)
