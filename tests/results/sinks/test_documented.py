"""What the page about notifications shows is true: the event, the signature, the rule, the quarantine."""

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import pytest

from keyhole.api import scan_object
from keyhole.builders import qcow2
from keyhole.results.sinks.aws import EventBridgeBus, SqsQueue
from keyhole.results.sinks.event import Event
from keyhole.results.sinks.signature import parse_secrets, signature_headers
from keyhole.settings import Settings
from tests.deploy.bucket_policy import policy_denies
from tests.pages import REFERENCE, block
from tests.results.sinks.reports import EVENT

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "QUFB" * 16
REGION = "us-east-1"
IMAGE = qcow2(10 * 1024**3, backing_file="/etc/shadow").to_bytes()
KEY = "uploads/server.qcow2"


@pytest.fixture(autouse=True)
def _moto(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def client(service: str) -> Any:
    # The installed type stubs only have S3.
    make: Any = boto3.client
    return make(service)


def queue() -> tuple[str, str]:
    """Make a queue, and return its URL and its ARN."""
    name = f"queue-{uuid4().hex}"
    url = client("sqs").create_queue(QueueName=name)["QueueUrl"]
    return url, f"arn:aws:sqs:{REGION}:123456789012:{name}"


def bodies(url: str) -> list[str]:
    """Receive the bodies of a queue's messages."""
    answer = client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return [message["Body"] for message in answer.get("Messages", [])]


@pytest.fixture
def event(s3: "S3Client", bucket: str, moto_url: str) -> Event:
    """The event about a real image with a backing file."""
    s3.put_object(Bucket=bucket, Key=KEY, Body=IMAGE)
    report = scan_object(f"s3://{bucket}/{KEY}", settings=Settings(s3_endpoint_url=moto_url))
    return Event.of(report, job_id="job")


def test_the_event_is_that_of_a_real_scan(event: Event, bucket: str) -> None:
    shown, real = (
        json.loads(block('{\n  "specversion"')),
        json.loads(event.body.replace(bucket.encode(), b"images")),
    )

    assert list(shown) == list(real)
    assert list(shown["data"]) == list(real["data"])
    for changing in ("id", "time"):
        shown.pop(changing), real.pop(changing)
    for changing in ("last_modified", "scanned_at", "scanner", "job"):
        shown["data"].pop(changing), real["data"].pop(changing)
    assert shown == real


def test_the_statuses_and_sinks_are_those_of_the_settings() -> None:
    page = REFERENCE["notifications"]

    for name in Settings.model_fields:
        if name.startswith(("sns_", "sqs_", "eventbridge_", "webhook_", "notify_")):
            assert f"KEYHOLE_{name.upper()}" in page


def defined(beginning: str) -> dict[str, Any]:
    """Run a Python block of the page, and return the names that it defines."""
    names: dict[str, Any] = {}
    exec(compile(block(beginning), "notifications.md", "exec"), names)  # noqa: S102 - our own page
    return names


class TestSignature:
    @pytest.fixture
    def is_genuine(self) -> Callable[[str, dict[str, str], bytes], bool]:
        found: Callable[[str, dict[str, str], bytes], bool] = defined("import base64, hmac")["is_genuine"]
        return found

    def test_the_code_accepts_a_genuine_request_during_a_change_of_secrets(
        self, is_genuine: Callable[..., bool]
    ) -> None:
        headers = signature_headers(
            parse_secrets(f"{OTHER},{SECRET}"), EVENT.id, int(time.time()), EVENT.body
        )

        assert is_genuine(SECRET, headers, EVENT.body)
        assert is_genuine(OTHER, headers, EVENT.body)

    def test_it_refuses_all_others(self, is_genuine: Callable[..., bool]) -> None:
        now = int(time.time())
        headers = signature_headers(parse_secrets(SECRET), EVENT.id, now, EVENT.body)
        old = signature_headers(parse_secrets(SECRET), EVENT.id, now - 301, EVENT.body)

        assert not is_genuine(SECRET, headers, EVENT.body + b" ")
        assert not is_genuine(OTHER, headers, EVENT.body)
        assert not is_genuine(SECRET, headers | {"webhook-id": "other"}, EVENT.body)
        assert not is_genuine(SECRET, headers | {"webhook-timestamp": str(now + 1)}, EVENT.body)
        assert not is_genuine(SECRET, old, EVENT.body)

    def test_it_has_ten_lines(self) -> None:
        code = [line for line in block("import base64, hmac").splitlines() if line and '"""' not in line]
        assert len(code) <= 10


def test_the_rule_selects_unsafe_images_of_the_bucket(event: Event, bucket: str) -> None:
    url, arn = queue()
    bus = f"bus-{uuid4().hex}"
    pattern = block('{\n  "source"').replace('"images"', f'"{bucket}"')
    events = client("events")
    events.create_event_bus(Name=bus)
    events.put_rule(Name="bad-images", EventBusName=bus, EventPattern=pattern)
    events.put_targets(Rule="bad-images", EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])
    sink = EventBridgeBus(bus, region=REGION)

    sink.send(EVENT)  # is about another bucket
    sink.send(event)

    (message,) = bodies(url)
    assert json.loads(message)["detail"] == json.loads(event.body)


class TestQuarantine:
    def test_a_bad_object_is_copied_marked_and_reported_and_nothing_is_deleted(
        self, event: Event, bucket: str, s3: "S3Client", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        events_url, _ = queue()
        mail_url, mail_arn = queue()
        topic = client("sns").create_topic(Name=f"topic-{uuid4().hex}")["TopicArn"]
        raw = {"RawMessageDelivery": "true"}
        client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=mail_arn, Attributes=raw)
        quarantine = f"quarantine-{uuid4().hex}"
        s3.create_bucket(Bucket=quarantine)
        own = {"TagSet": [{"Key": "keyhole-status", "Value": "unsafe"}, {"Key": "team", "Value": "a"}]}
        s3.put_object_tagging(Bucket=bucket, Key=KEY, Tagging=own)  # type: ignore[arg-type] # a TypedDict
        monkeypatch.setenv("QUARANTINE_BUCKET", quarantine)
        monkeypatch.setenv("QUARANTINE_TOPIC", topic)
        monkeypatch.setenv("QUEUE_URL", events_url)
        receive = defined("import json\nimport os\n\nimport boto3")["receive"]

        # Given the event twice
        for _ in range(2):
            SqsQueue(events_url, region=REGION).send(event)
        receive(0)

        copied = s3.get_object(Bucket=quarantine, Key=f"{event.id}/{KEY}")["Body"].read()
        assert copied == IMAGE
        assert s3.get_object(Bucket=bucket, Key=KEY)["Body"].read() == IMAGE
        tags = {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=bucket, Key=KEY)["TagSet"]}
        assert tags == {"keyhole-status": "unsafe", "team": "a", "quarantine": "unsafe"}
        assert set(bodies(mail_url)) == {f"s3://{bucket}/{KEY} is unsafe: backing_file"}
        assert bodies(events_url) == []

    def test_a_good_object_is_left_alone(self, event: Event) -> None:
        handle = defined("import json\nimport os\n\nimport boto3")["handle"]

        handle(event.body.decode().replace('"unsafe"', '"safe"'))

    @pytest.mark.parametrize(
        ("tags", "who", "is_denied"),
        [
            ({"quarantine": "unsafe"}, "user/somebody", True),
            ({"quarantine": "unsafe"}, "role/quarantine", False),
            ({"keyhole-status": "unsafe"}, "user/somebody", False),
        ],
    )
    def test_the_statement_denies_reading_marked_objects(
        self, tags: dict[str, str], who: str, is_denied: bool
    ) -> None:
        policy = {"Version": "2012-10-17", "Statement": [json.loads(block('{\n  "Sid": "NobodyReads'))]}
        facts = {f"s3:ExistingObjectTag/{name}": value for name, value in tags.items()}
        principal = f"arn:aws:iam::123456789012:{who}"

        assert policy_denies(policy, "s3:GetObject", principal, facts) == is_denied
