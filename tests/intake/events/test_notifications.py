"""Every key survives every dialect, equal changes are one job, and unparsable messages have a reason."""

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.intake.events.dialects import LONGEST
from keyhole.intake.events.event import EventKind
from keyhole.intake.events.notifications import LONGEST_MESSAGE, parse, scan_job
from keyhole.jobs.job import ScanJob
from tests.intake.events.messages import (
    ENCODERS,
    OWN,
    PLAIN,
    aws,
    body_of,
    event_of,
    in_sns,
    message,
    reason_of,
    record,
    records,
)
from tests.servers.access import aws_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RULES = "1:default"

Json = Any

#: Keys of up to 1,024 bytes of UTF-8, often with characters that decoding changes.
KEYS = st.text(
    st.one_of(st.sampled_from("+% /\n%2Bü"), st.characters(codec="utf-8")), min_size=1, max_size=1024
).filter(lambda key: len(key.encode()) <= 1024)


@pytest.mark.parametrize("way", ENCODERS)
@given(key=KEYS)
def test_any_key_comes_through_every_dialect(way: str, key: str) -> None:
    event = event_of(ENCODERS[way](key))

    assert (event.kind, event.bucket, event.key) == (EventKind.CREATED, "images", key)
    job = scan_job(event, RULES)
    assert (job.bucket, job.key, job.other_key) == (event.bucket, event.key, event.other_key)


@pytest.mark.parametrize("way", sorted(PLAIN))
@given(key=KEYS)
def test_the_other_reading_of_a_plain_key_is_the_decoded_one(way: str, key: str) -> None:
    """There is another reading only if the decoded key differs and is valid UTF-8."""
    try:
        decoded = unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        decoded = key
    assert event_of(ENCODERS[way](key)).other_key == (None if decoded == key else decoded)


@pytest.mark.parametrize("way", sorted(ENCODERS.keys() - PLAIN - OWN))
@given(key=KEYS)
def test_the_other_reading_of_a_form_s_key_is_what_is_written(way: str, key: str) -> None:
    """There is another reading only if the written key differs and is not too long for a key."""
    other = event_of(ENCODERS[way](key)).other_key
    assert other is None or (other != key and unquote_plus(other) == key)
    assert other or len(quote_plus(key)) > 1024 or quote_plus(key, safe="/") == key


@pytest.mark.parametrize("way", sorted(OWN))
@given(key=KEYS)
def test_our_own_jobs_mean_what_they_say(way: str, key: str) -> None:
    assert event_of(ENCODERS[way](key)).other_key is None


def test_a_key_that_is_no_form_is_read_as_it_is() -> None:
    """`%FF` is not valid UTF-8, so it cannot be an encoded byte of a key."""
    event = event_of(records(record(key="50%FF+1")))
    assert (event.key, event.other_key) == ("50%FF+1", None)


class TestJobs:
    def test_whoever_tells_of_a_change_asks_for_the_same_job(self) -> None:
        """S3's ways of delivery carry the same version, ETag and sequencer, but different times."""
        told = (
            ["documented-aws", "put 2.1"],
            ["documented-aws", "put 2.6"],
            ["documented-eventbridge", "created"],
        )
        wrapped = ["documented-sns", "S3"], ["documented-sns", "EventBridge"]
        assert len({scan_job(event_of(message(*way)), RULES).id for way in [*told, *wrapped]}) == 1

        without = ["documented-aws", "put 2.0"], ["documented-eventbridge", "created unversioned"]
        assert len({scan_job(event_of(message(*way)), RULES).id for way in without}) == 1

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (record(versionId="1"), record(versionId="2")),
            (record(versionId="1"), record(key="b.img", versionId="1")),
            (record(eTag="1", sequencer="1"), record(eTag="2", sequencer="1")),
            (record(eTag="1", sequencer="1"), record(eTag="1", sequencer="2")),
            (record(eTag="1", sequencer="1"), record(eTag="1")),
            (record(eTag="1"), record(sequencer="1")),
            (record(versionId="1"), record(eTag="1")),
            # An archived object could not be read.
            (record(versionId="1"), record(name="ObjectRestore:Completed", versionId="1")),
            # Without a sequencer, the times distinguish the two events.
            ({**record(eTag="1"), "eventTime": "12:00"}, {**record(eTag="1"), "eventTime": "12:01"}),
            # Nothing is known about the objects, so each is scanned.
            (record(), record()),
            (record(versionId="null"), record(versionId="null")),
            (record(versionId=""), record(versionId="")),
        ],
    )
    def test_another_change_is_another_job(self, first: Json, second: Json) -> None:
        assert scan_job(event_of(records(first)), RULES).id != scan_job(event_of(records(second)), RULES).id

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            # A version never changes, even if the events about it differ.
            (record(versionId="1", eTag="1", sequencer="1"), record(versionId="1")),
            (record(eTag='"1"', sequencer="0A"), record(eTag="1", sequencer="0a00")),
            (record(eTag="1", versionId="null"), record(eTag="1", versionId="")),
            (
                {**record(eTag="1", sequencer="1"), "eventTime": "12:00"},
                {**record(eTag="1", sequencer="1"), "eventTime": "12:00.0"},
            ),
            (record(eTag="1", size=1), record("minio:s3", "s3:ObjectCreated:Post", eTag="1")),
        ],
    )
    def test_the_same_change_is_the_same_job(self, first: Json, second: Json) -> None:
        assert scan_job(event_of(records(first)), RULES).id == scan_job(event_of(records(second)), RULES).id

    def test_other_rules_make_another_job(self) -> None:
        event = event_of(records(record(versionId="1")))
        assert scan_job(event, "1:default").id != scan_job(event, "1:azure").id

    def test_the_version_null_is_no_version_but_to_a_job_of_our_own(self) -> None:
        """Reading it by its id needs another permission. But a user who names it wants exactly it."""
        assert scan_job(event_of(records(record(versionId="null"))), RULES).version_id is None
        own = body_of({"bucket": "images", "key": "a", "version_id": "null"})
        assert scan_job(event_of(own), RULES).version_id == "null"

    @pytest.mark.parametrize("name", ["ObjectRemoved:Delete", "ObjectTagging:Put"])
    def test_what_asks_for_no_scan_makes_no_job(self, name: str) -> None:
        with pytest.raises(ValueError, match="does not lead to a scan"):
            scan_job(event_of(records(record(name=name))), RULES)

    def test_the_longest_of_everything_makes_a_job(self) -> None:
        """The parser has the same limits as a job, so every event that it accepts makes a valid job."""
        about = {"key": "k" * LONGEST["key"], "versionId": "v" * LONGEST["version"], "sequencer": "f" * 128}
        entry = record(**about)
        entry["s3"]["bucket"]["name"] = "b" * LONGEST["bucket"]
        job = scan_job(event_of(records(entry)), RULES)
        limits = {
            name: next(limit.max_length for limit in field.metadata if hasattr(limit, "max_length"))
            for name, field in ScanJob.model_fields.items()
        }
        assert len(job.bucket) == limits["bucket"]
        assert len(job.key) == limits["key"] == limits["other_key"]
        assert len(job.version_id or "") == limits["version_id"]
        assert len(job.sequencer or "") == limits["sequencer"]


def deep(opening: str, levels: int = 100_000) -> bytes:
    return opening.encode() * levels


#: Shortened messages of storages whose format is not S3's.
FOREIGN: list[tuple[str, Json]] = [
    ("Google Cloud Storage", {"kind": "storage#object", "bucket": "images", "name": "a", "size": "5"}),
    (
        "Google Cloud Storage",
        {
            "message": {
                "data": "eyJraW5kIjogInN0b3JhZ2Ujb2JqZWN0In0=",
                "attributes": {"eventType": "OBJECT_FINALIZE", "bucketId": "images", "objectId": "a"},
            },
            "subscription": "projects/p/subscriptions/s",
        },
    ),
    ("Google Cloud Storage", {"specversion": "1.0", "type": "google.cloud.storage.object.v1.finalized"}),
    ("Google Pub/Sub", {"message": {"data": "YQ=="}, "subscription": "projects/p/subscriptions/s"}),
    (
        "Azure Event Grid",
        [{"topic": "/subscriptions/s", "eventType": "Microsoft.Storage.BlobCreated", "data": {"url": "u"}}],
    ),
    ("Azure Event Grid", {"specversion": "1.0", "type": "Microsoft.Storage.BlobCreated", "source": "/s"}),
    (
        "Azure Event Grid",
        [{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "1"}}],
    ),
    (
        "Alibaba Cloud OSS",
        {"events": [{"eventName": "ObjectCreated:PutObject", "eventSource": "acs:oss", "oss": {}}]},
    ),
    ("Backblaze B2", {"events": [{"eventType": "b2:ObjectCreated:Upload", "bucketName": "images"}]}),
    ("Huawei Cloud OBS", {"Records": [{"eventVersion": "3.0", "eventSource": "OBS", "obs": {}}]}),
    ("Tencent Cloud COS", {"Records": [{"cos": {}, "event": {"eventSource": "qcs::cos"}}]}),
    (
        "Oracle Cloud",
        {"eventType": "com.oraclecloud.objectstorage.createobject", "cloudEventsVersion": "0.1", "data": {}},
    ),
    ("CloudEvents", {"specversion": "1.0", "type": "com.example.object", "source": "/s"}),
]


class TestNothingInIt:
    @pytest.mark.parametrize(
        "body", [b'{"Records": []}', b"[]", b'[{"Event": []}]', in_sns(b'{"Records": []}')]
    )
    def test_an_empty_list_is_understood_and_asks_for_nothing(self, body: bytes) -> None:
        assert parse(body) == ()


class TestWhatIsNotUnderstood:
    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", "not JSON"),
            (b"\xff\xfe", "UTF-8"),
            (b'{"Records": [', "not JSON"),
            ('{"Records": []}'.encode("utf-16"), "UTF-8"),
            (b"NaN", "NaN"),
            (b'{"Records": [], "x": Infinity}', "Infinity"),
            (b"1" * 5000, "4300"),
            (deep("["), "levels"),
            (deep('{"Records":['), "levels"),
            (b"null", "missing"),
            (b"true", "true"),
            (b"1", "a number"),
            (b"{}", "not in a format that Keyhole knows"),
            (b"[1]", "it is a JSON array, but not in a format that Keyhole knows"),
            (b'[{"Event": {}}]', "its Records are an object"),
            (b'{"Records": {}}', "its Records are an object"),
            (b'{"Records": null}', "missing"),
            (b'{"action": "PutObject", "object": {"key": "a"}}', "it has no bucket"),
            (b'{"action": 5, "object": {}}', "its action is a number"),
            (b'{"action": "PutObject", "bucket": "b", "object": 5}', "its object is a number"),
            (b'{"operation": "Object:Write", "notification": {}, "bucket": "b"}', "it has no key"),
            (b'{"operation": "Object:Write", "notification": 1}', "its notification is a number"),
            (b'{"Records": [[]]}', "record 1 of 1: it is an array"),
            (b'{"Event": "s3:Other"}', "s3:Other"),
            (b'{"detail-type": "Object Created", "source": "aws.ec2"}', "aws.ec2"),
            (b'{"detail-type": "Object Created", "source": "aws.s3"}', "its detail is missing"),
            (b'{"detail-type": {}, "source": "aws.s3"}', "its detail-type is an object"),
            (b'{"Type": "Notification", "Message": {}}', "its Message is an object"),
            (b'{"Type": "Notification", "Message": "hello"}', "not JSON"),
            (b'{"Type": "UnsubscribeConfirmation", "Message": "x"}', "UnsubscribeConfirmation"),
            (b'"hello"', "not s3://bucket/key"),
            (b"s3://", "not s3://bucket/key"),
            (b"s3:///key", "not s3://bucket/key"),
            (b"s3://bucket", "it has no key"),
            (b"s3://bucket/", "it has no key"),
            (b'{"bucket": "images"}', "it has no key"),
            (b'{"bucket": "", "key": "a"}', "it has no bucket"),
            (b'{"bucket": "images", "key": 5}', "its key is a number, not text"),
            (b'{"bucket": "images", "key": "a", "version": "1"}', "'version'"),
            (b'{"bucket": "images", "key": "\\ud800"}', "not valid Unicode"),
            (b'"s3://images/\\ud800"', "not s3://bucket/key"),
            (f"s3://images/{'a' * 1025}".encode(), "1,025 characters; the limit is 1,024"),
            (f"s3://images/{'a' * 5000}".encode(), "5,000 characters"),
            (f"s3://{'b' * 2049}/a".encode(), "its bucket has 2,049 characters"),
            (records(record(key="%41" * 1025)), "3,075 characters"),
            (records(record(key="+" * 1025)), "1,025 characters"),
            (records(record(key="a\ud800")), "its key is 'a\\ud800', which is not valid Unicode"),
            (records(record(versionId="\ud800")), "its version is '\\ud800'"),
            (records(record(name="\ud800")), "its eventName is '\\ud800'"),
            (records(record(source="\ud800:s4")), "its eventSource is '\\ud800:s4'"),
            (records(record(versionId="v" * 1025)), "its version has 1,025"),
            (records(record(versionId=5)), "its version is a number"),
            (records(record(), record(key="")), "record 2 of 2: it has no key"),
            (records(record(source="aws:sqs")), "eventSource"),
            (records(record(source="")), "eventSource"),
            (records({**record(), "eventVersion": "3.0"}), "eventVersion is '3.0'"),
            (records({**record(), "eventVersion": "1.0"}), "eventVersion is '1.0'"),
            (records({**record(), "eventVersion": 2.1}), "eventVersion is a number"),
            (records({**record(), "eventVersion": None}), "eventVersion is missing"),
            (records({**record(), "s3": None}), "its s3 is missing"),
            (records(record(name="")), "its eventName is ''"),
            (records(record(name="x" * 101)), "which is not the name"),
            (records(record(name="a\nb")), "which is not the name"),
        ],
        ids=lambda value: repr(value[:40]),
    )
    def test_the_reason_says_what_is_wrong(self, body: bytes, reason: str) -> None:
        """The reason is one sentence that fits on a line and is safe for a terminal."""
        told = reason_of(body)
        assert reason in told
        assert told.isprintable()
        assert len(told) < 300

    @pytest.mark.parametrize(("sender", "body"), FOREIGN)
    def test_the_reason_names_who_sent_what_is_not_read(self, sender: str, body: Json) -> None:
        for sent in (body_of(body), in_sns(body_of(body))):
            told = reason_of(sent)
            assert f"a notification from {sender}, which" in told
            assert '{"bucket": …, "key": …}' in told

    def test_one_envelope_too_many(self) -> None:
        body = aws("a")
        for _ in range(3):
            body = in_sns(body)
        assert event_of(body).key == "a"
        assert "more than 3 envelopes" in reason_of(in_sns(body))

    def test_a_message_that_is_too_long_is_not_read(self) -> None:
        assert "16,777,217 bytes" in reason_of(b" " * (LONGEST_MESSAGE + 1))

    @pytest.mark.slow
    def test_a_hundred_thousand_records_are_read(self) -> None:
        """The last record is as valid as the first."""
        one = json.dumps(record(key="k")).encode()
        last = json.dumps(record(key="last")).encode()
        events = parse(b'{"Records": [' + b",".join([one] * 99_999 + [last]) + b"]}")
        assert len(events) == 100_000
        assert events[-1].key == "last"

    def test_of_a_name_that_stands_twice_the_last_counts(self) -> None:
        assert event_of(b'{"bucket": "a", "bucket": "b", "key": "k"}').bucket == "b"


@pytest.mark.parametrize(
    "key", ["a/b c+ü%2F.img", "100%", "a+b", "a%20b", "a&b=c?d#e", "日本語 .qcow2", "~!*'()", "x" * 900]
)
def test_what_is_put_into_motos_s3_is_what_its_queue_tells_of(
    s3: "S3Client", bucket: str, moto_url: str, key: str
) -> None:
    sqs = aws_client("sqs", moto_url)
    url = sqs.create_queue(QueueName=bucket)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    s3.put_object(Bucket=bucket, Key=key, Body=b"0123")

    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    sqs.close()

    events = [event_of(entry["Body"].encode()) for entry in received]
    assert [event.name for event in events] == ["TestEvent", "ObjectCreated:Put"]
    assert (events[1].bucket, events[1].key, events[1].size) == (bucket, key, 4)
