"""An SQS queue as a source: partial failures of a batch, denied requests, and the number of requests."""

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import stamina

from keyhole.intake.events.source import Message, SourceUnavailableError
from keyhole.intake.events.sqs import SqsQueue, SqsSource
from tests.e2e.commands import S3_CREDENTIALS
from tests.servers.access import aws_client, isolate
from tests.servers.portal import PAGE, portal
from tests.servers.recorded_moto import RecordedMoto


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch, **S3_CREDENTIALS)


@pytest.fixture
def sqs(recorded: RecordedMoto) -> Iterator[Any]:
    """A client for another program's actions on SQS."""
    client = aws_client("sqs", recorded.url)
    yield client
    client.close()


@pytest.fixture
def queue(sqs: Any) -> str:
    """A queue that only this test uses."""
    url: str = sqs.create_queue(QueueName=uuid4().hex)["QueueUrl"]
    return url


@pytest.fixture
def source(recorded: RecordedMoto, queue: str) -> Iterator[SqsSource]:
    """A source of that queue's messages. It has sent one request."""
    source = SqsSource(SqsQueue("queue", url=queue, endpoint_url=recorded.url))
    source.receive(1, 0)
    yield source
    source.close()


def put(sqs: Any, queue: str, count: int) -> None:
    for number in range(count):
        sqs.send_message(QueueUrl=queue, MessageBody=str(number))


def count(sqs: Any, queue: str, which: str = "") -> int:
    """The number of messages in the queue: visible by default, or `NotVisible`."""
    name = f"ApproximateNumberOfMessages{which}"
    return int(sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[name])["Attributes"][name])


def fail(
    source: SqsSource, operation: str, ids: set[str], *, times: int, ours: bool = False
) -> list[list[str]]:
    """Let the first answers to a batch report that these failed. Return the ids in each sent batch."""
    sent: list[list[str]] = []

    def note(params: dict[str, Any], **_: object) -> None:
        sent.append([entry["Id"] for entry in params["Entries"]])

    def answer(parsed: dict[str, Any], **_: object) -> None:
        if len(sent) <= times:
            parsed["Failed"] = [
                {"Id": number, "SenderFault": ours, "Code": "InternalError"}
                for number in sent[-1]
                if number in ids
            ]
            parsed["Successful"] = [entry for entry in parsed["Successful"] if entry["Id"] not in ids]

    source._client.meta.events.register(f"provide-client-params.sqs.{operation}", note)
    source._client.meta.events.register(f"after-call.sqs.{operation}", answer)
    return sent


class TestBatches:
    def test_what_failed_is_told_again_and_it_alone(self, sqs: Any, queue: str, source: SqsSource) -> None:
        put(sqs, queue, 10)
        sent = fail(source, "DeleteMessageBatch", {"3", "7"}, times=2)

        with stamina.set_testing(True, attempts=4):
            source.acknowledge(source.receive(10, 1))

        assert [len(ids) for ids in sent] == [10, 2, 2]
        assert sent[1:] == [["3", "7"], ["3", "7"]]
        assert source._out == {}

    def test_what_fails_each_time_is_an_error(self, sqs: Any, queue: str, source: SqsSource) -> None:
        put(sqs, queue, 12)
        messages = source.receive(12, 1)
        fail(source, "DeleteMessageBatch", {"3"}, times=9)

        with (
            stamina.set_testing(True, attempts=4),
            pytest.raises(SourceUnavailableError, match=r"1 of 12 messages.*InternalError"),
        ):
            source.acknowledge(messages)

        assert len(source._out) == 1

    def test_a_message_without_a_report_is_not_acknowledged(
        self, sqs: Any, queue: str, source: SqsSource
    ) -> None:
        put(sqs, queue, 2)
        messages = source.receive(10, 1)

        with (
            portal(b"{}") as url,
            stamina.set_testing(True, attempts=2),
            pytest.raises(SourceUnavailableError, match=r"2 of 2 messages.*Unreported"),
        ):
            SqsSource(SqsQueue("queue", url=f"{url}/1/queue", endpoint_url=url)).acknowledge(messages)

    def test_what_fails_for_good_is_not_tried_again(self, sqs: Any, queue: str, source: SqsSource) -> None:
        put(sqs, queue, 3)
        messages = source.receive(10, 1)
        sent = fail(source, "DeleteMessageBatch", {"1"}, times=9, ours=True)

        with pytest.raises(SourceUnavailableError, match="1 of 3"):
            source.acknowledge(messages)

        assert sent == [["0", "1", "2"]]

    def test_more_than_ten_are_several(
        self, sqs: Any, queue: str, source: SqsSource, recorded: RecordedMoto
    ) -> None:
        put(sqs, queue, 25)
        recorded.requests.clear()

        messages = source.receive(25, 5)
        source.acknowledge(messages[:13])
        source.give_back(messages[13:])

        assert len(messages) == 25
        # The requests: three receives, two deletions, two changes.
        assert len(recorded.requests) == 7
        assert count(sqs, queue) == 12

    def test_giving_back_what_came_back_already_is_no_error(
        self, sqs: Any, queue: str, source: SqsSource
    ) -> None:
        put(sqs, queue, 2)
        messages = source.receive(2, 1)
        source.acknowledge(messages[:1])

        source.give_back([*messages, Message(b"", "no receipt")])

        assert count(sqs, queue) == 1

    def test_giving_back_tells_again_what_failed(self, sqs: Any, queue: str, source: SqsSource) -> None:
        put(sqs, queue, 3)
        sent = fail(source, "ChangeMessageVisibilityBatch", {"1"}, times=1)

        with stamina.set_testing(True, attempts=4):
            source.give_back(source.receive(3, 1))

        assert sent == [["0", "1", "2"], ["1"]]


@pytest.mark.parametrize("page", [PAGE, b"", b"[]", b'{"status": "ok"}'])
class TestAnotherServer:
    """A server that is not SQS answers every request with the status 200."""

    def test_a_page_is_not_an_empty_queue(self, page: bytes) -> None:
        with portal(page) as url:
            source = SqsSource(SqsQueue("queue", url=f"{url}/1/queue", endpoint_url=url))
            kind = "an HTML page" if page is PAGE else "other content"

            with pytest.raises(SourceUnavailableError, match=f"{url} answers ReceiveMessage with {kind}"):
                source.receive(10, 0)

            source.close()

    def test_a_page_does_not_acknowledge(self, page: bytes) -> None:
        with portal(page) as url:
            source = SqsSource(SqsQueue("queue", url=f"{url}/1/queue", endpoint_url=url))

            with pytest.raises(SourceUnavailableError, match=f"{url} answers DeleteMessageBatch"):
                source.acknowledge([Message(b"", "receipt")])

            source.close()


class TestAsking:
    @pytest.mark.slow
    def test_a_wait_is_one_request(self, source: SqsSource, recorded: RecordedMoto) -> None:
        """Each request costs money."""
        recorded.requests.clear()

        source.receive(10, 2)

        assert len(recorded.requests) == 1

    def test_receives_are_counted_by_the_queue(self, sqs: Any, queue: str, source: SqsSource) -> None:
        put(sqs, queue, 1)

        receives = []
        for _ in range(3):
            (message,) = source.receive(1, 5)
            receives.append(message.receives)
            source.give_back([message])

        assert receives == [1, 2, 3]

    def test_the_trace_of_the_sender_is_an_attribute(self, sqs: Any, queue: str, source: SqsSource) -> None:
        text = {"DataType": "String", "StringValue": "00-a-b-01"}
        binary = {"DataType": "Binary", "BinaryValue": b"\xff"}
        for attribute in (text, binary):
            sqs.send_message(QueueUrl=queue, MessageBody="a", MessageAttributes={"traceparent": attribute})
        put(sqs, queue, 1)

        found = [message.traceparent for _ in range(3) for message in source.receive(1, 5)]
        assert sorted(found, key=str) == ["00-a-b-01", None, None]

    def test_a_queue_is_found_by_its_name(self, sqs: Any, recorded: RecordedMoto) -> None:
        put(sqs, sqs.create_queue(QueueName="by-name")["QueueUrl"], 1)
        source = SqsSource(SqsQueue("by-name", endpoint_url=recorded.url))

        assert [message.body for message in source.receive(1, 5)] == [b"0"]

        source.close()

    @pytest.mark.slow
    def test_pollers_in_threads_get_each_message_once(
        self, sqs: Any, queue: str, recorded: RecordedMoto
    ) -> None:
        """Each thread makes its own source, at the same time as the other threads."""
        put(sqs, queue, 40)
        seen: list[bytes] = []
        begin = threading.Barrier(4)

        def poll() -> None:
            begin.wait()
            source = SqsSource(SqsQueue("queue", url=queue, endpoint_url=recorded.url))
            while messages := source.receive(3, 1):
                source.acknowledge(messages)
                seen.extend(message.body for message in messages)
            source.close()

        pollers = [threading.Thread(target=poll) for _ in range(4)]
        for poller in pollers:
            poller.start()
        for poller in pollers:
            poller.join()

        assert sorted(seen, key=int) == [str(number).encode() for number in range(40)]


class TestRefusals:
    @pytest.mark.parametrize("known", [True, False], ids=["by URL", "by name"])
    def test_a_queue_that_is_not_there_is_told(self, recorded: RecordedMoto, known: bool) -> None:
        url = f"{recorded.url}/123456789012/nowhere" if known else None
        source = SqsSource(SqsQueue("nowhere", url=url, endpoint_url=recorded.url))

        with pytest.raises(SourceUnavailableError, match=r"sqs://.*nowhere: there is no such queue"):
            source.receive(1, 0)

        source.close()

    @pytest.mark.parametrize(
        ("operation", "call"),
        [
            ("ReceiveMessage", lambda source, _: source.receive(1, 0)),
            ("DeleteMessageBatch", lambda source, messages: source.acknowledge(messages)),
            ("ChangeMessageVisibilityBatch", lambda source, messages: source.give_back(messages)),
        ],
    )
    def test_what_is_denied_is_told_with_what_it_takes(
        self,
        sqs: Any,
        queue: str,
        source: SqsSource,
        operation: str,
        call: Callable[[SqsSource, list[Message]], object],
    ) -> None:
        put(sqs, queue, 1)
        messages = list(source.receive(1, 1))

        def deny(http_response: Any, parsed: dict[str, Any], **_: object) -> None:
            http_response.status_code = 403
            parsed["Error"] = {"Code": "AccessDeniedException", "Message": "User is not authorized"}

        source._client.meta.events.register(f"after-call.sqs.{operation}", deny)

        with pytest.raises(SourceUnavailableError, match=f"denied; Keyhole needs .*sqs:{operation[:10]}"):
            call(source, messages)

    def test_a_server_that_is_away_is_told(self) -> None:
        source = SqsSource(SqsQueue("queue", endpoint_url="http://127.0.0.1:1"))

        with pytest.raises(SourceUnavailableError, match=r"127\.0\.0\.1:1"):
            source.receive(1, 0)

        source.close()

    def test_no_credentials_are_told(
        self, recorded: RecordedMoto, queue: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        source = SqsSource(SqsQueue("queue", url=queue, endpoint_url=recorded.url))

        with pytest.raises(SourceUnavailableError, match="credentials"):
            source.receive(1, 0)

        source.close()
