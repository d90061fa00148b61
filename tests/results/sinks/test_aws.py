"""The sinks of AWS, against moto: what they send is read back from queues."""

import json
from typing import Any
from uuid import uuid4

import boto3
import pytest

from keyhole.results.sinks.aws import EventBridgeBus, SnsTopic, SqsQueue
from keyhole.results.sinks.delivery import DeliveryError
from keyhole.results.sinks.event import Event
from tests.ports import free_port
from tests.results.sinks.reports import EVENT, report
from tests.servers.portal import portal

REGION = "eu-central-1"
ACCOUNT = "123456789012"


class Aws:
    """Clients of moto's SQS, SNS and EventBridge."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, service: str) -> Any:
        # The installed type stubs only have S3.
        client: Any = boto3.client  # type: ignore[assignment]
        return client(service, endpoint_url=self._url, region_name=REGION)

    def queue(self, name: str | None = None, **attributes: str) -> tuple[str, str]:
        """Make a queue, and return its URL and its ARN."""
        name = name or f"queue-{uuid4().hex}"
        url = str(self("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])
        return url, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def messages(self, url: str) -> list[dict[str, Any]]:
        """Receive the messages of a queue."""
        answer = self("sqs").receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            AttributeNames=["All"],
        )
        found: list[dict[str, Any]] = answer.get("Messages", [])
        return found


@pytest.fixture
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """The sinks find moto through boto3's own variables."""
    for name, value in {
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return Aws(moto_url)


def test_a_queue_gets_the_event(aws: Aws) -> None:
    url, _ = aws.queue()

    SqsQueue(url, region=None).send(EVENT)

    (message,) = aws.messages(url)
    assert message["Body"].encode() == EVENT.body


def test_a_fifo_queue_drops_the_second_copy_of_an_event(aws: Aws) -> None:
    url, _ = aws.queue(f"{uuid4().hex}.fifo", FifoQueue="true")
    sink = SqsQueue(url, region=None)

    sink.send(EVENT)
    sink.send(EVENT)
    sink.send(Event.of(report(), job_id="another"))

    messages = aws.messages(url)
    assert len(messages) == 2
    assert len({message["Attributes"]["MessageGroupId"] for message in messages}) == 1


def test_a_topic_passes_the_event_to_its_subscribers(aws: Aws) -> None:
    url, queue_arn = aws.queue()
    arn = aws("sns").create_topic(Name=f"topic-{uuid4().hex}")["TopicArn"]
    aws("sns").subscribe(
        TopicArn=arn, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "true"}
    )

    SnsTopic(arn).send(EVENT)

    (message,) = aws.messages(url)
    assert message["Body"].encode() == EVENT.body
    attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    assert attributes == {"status": "unsafe", "bucket": "images"}


def test_a_subscriber_can_filter_by_status(aws: Aws) -> None:
    url, queue_arn = aws.queue()
    arn = aws("sns").create_topic(Name=f"topic-{uuid4().hex}")["TopicArn"]
    policy = json.dumps({"status": ["unsafe"]})
    aws("sns").subscribe(
        TopicArn=arn,
        Protocol="sqs",
        Endpoint=queue_arn,
        Attributes={"RawMessageDelivery": "true", "FilterPolicy": policy},
    )

    SnsTopic(arn).send(Event.of(report(status="damaged"), job_id="job"))
    SnsTopic(arn).send(EVENT)

    (message,) = aws.messages(url)
    assert message["Body"].encode() == EVENT.body


def test_a_rule_of_a_bus_finds_the_event_by_its_status(aws: Aws) -> None:
    url, queue_arn = aws.queue()
    bus, rule = f"bus-{uuid4().hex}", f"rule-{uuid4().hex}"
    aws("events").create_event_bus(Name=bus)
    pattern = json.dumps({"source": ["keyhole"], "detail": {"data": {"status": ["unsafe"]}}})
    aws("events").put_rule(Name=rule, EventBusName=bus, EventPattern=pattern)
    aws("events").put_targets(Rule=rule, EventBusName=bus, Targets=[{"Id": "queue", "Arn": queue_arn}])
    sink = EventBridgeBus(bus, region=None)

    sink.send(Event.of(report(status="damaged"), job_id="job"))
    sink.send(EVENT)

    (message,) = aws.messages(url)
    event = json.loads(message["Body"])
    assert (event["source"], event["detail-type"]) == ("keyhole", "keyhole.verdict.v1")
    assert event["detail"] == json.loads(EVENT.body)


def test_what_exists_is_found_without_sending(aws: Aws) -> None:
    url, _ = aws.queue()
    arn = aws("sns").create_topic(Name=f"topic-{uuid4().hex}")["TopicArn"]
    bus = f"bus-{uuid4().hex}"
    aws("events").create_event_bus(Name=bus)

    assert "sqs:SendMessage" in SqsQueue(url, region=None).check()
    assert "sns:Publish" in SnsTopic(arn).check()
    assert "events:PutEvents" in EventBridgeBus(bus, region=None).check()
    assert aws.messages(url) == []


def sinks(url: str) -> list[Any]:
    return [
        SqsQueue(f"{url}/{ACCOUNT}/missing", region=None),
        SnsTopic(f"arn:aws:sns:{REGION}:{ACCOUNT}:missing"),
        EventBridgeBus("missing", region=REGION),
    ]


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_does_not_exist_is_an_error_and_is_tried_again(moto_url: str, which: int) -> None:
    sink = sinks(moto_url)[which]

    with pytest.raises(DeliveryError, match="missing"):
        sink.check()
    if which != 2:  # moto accepts events for a bus that does not exist
        with pytest.raises(DeliveryError) as caught:
            sink.send(EVENT)
        assert not caught.value.is_final


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_server_that_does_not_answer_is_tried_again(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)

    with pytest.raises(DeliveryError) as caught:
        sinks(url)[which].send(EVENT)

    assert (caught.value.reason, caught.value.is_final) == ("connection", False)


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_page_of_another_server_is_not_a_delivery(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    with portal() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        sink = sinks(url)[which]

        with pytest.raises(DeliveryError, match=f"{url} answers .* with an HTML page") as caught:
            sink.send(EVENT)
        with pytest.raises(DeliveryError, match=f"{url} answers .* with an HTML page"):
            sink.check()

    assert (caught.value.reason, caught.value.is_final) == ("connection", False)


@pytest.mark.usefixtures("aws")
def test_without_credentials_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    with pytest.raises(DeliveryError, match="credentials") as caught:
        SnsTopic(f"arn:aws:sns:{REGION}:{ACCOUNT}:topic").send(EVENT)

    assert not caught.value.is_final


@pytest.mark.parametrize(
    ("url", "region", "endpoint"),
    [
        (f"https://sqs.{REGION}.amazonaws.com/1/q", REGION, None),
        ("https://sqs-fips.us-west-2.amazonaws.com/1/q", "us-west-2", None),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1", None),
        ("http://localhost:9324/1/q", None, "http://localhost:9324"),
    ],
)
def test_the_region_and_the_server_are_in_the_url(url: str, region: str | None, endpoint: str | None) -> None:
    sink = SqsQueue(url, region=None)

    assert (sink._region, sink._endpoint_url) == (region, endpoint)
