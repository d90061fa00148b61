"""Event messages as each storage writes them: recorded ones, and messages that are made for a key."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from keyhole.intake.events.event import ObjectEvent
from keyhole.intake.events.notifications import NotUnderstoodError, parse


def _named(recorded: Any) -> dict[str, Any]:
    return {"alone": recorded} if "Records" in recorded else recorded


RECORDED = Path(__file__).parent / "recorded"
#: Every recorded message, by the file's name and its own name. A file contains several named messages or a
#: raw one.
MESSAGES: dict[tuple[str, str], Any] = {
    (path.stem, name): message
    for path in sorted(RECORDED.glob("*.json"))
    for name, message in _named(json.loads(path.read_text(encoding="utf-8"))).items()
}

Json = Any
Encoder = Callable[[str], bytes]


def body_of(message: Json) -> bytes:
    return json.dumps(message).encode()


def message(way: str, name: str) -> bytes:
    return body_of(MESSAGES[way, name])


def event_of(body: bytes) -> ObjectEvent:
    """Return the only event of a message."""
    (event,) = parse(body)
    return event


def reason_of(body: bytes) -> str:
    """The reason why Keyhole cannot parse a message."""
    with pytest.raises(NotUnderstoodError) as error:
        parse(body)
    return error.value.reason


def record(source: str = "aws:s3", name: str = "ObjectCreated:Put", **about: Json) -> Json:
    """A record with the required fields. `about` contains its other facts about the object."""
    return {
        "eventVersion": "2.1",
        "eventSource": source,
        "eventName": name,
        "s3": {"bucket": {"name": "images"}, "object": {"key": "a.img", **about}},
    }


def records(*entries: Json) -> bytes:
    return body_of({"Records": entries})


def in_sns(enclosed: bytes) -> bytes:
    return body_of({"Type": "Notification", "TopicArn": "arn:aws:sns:::t", "Message": enclosed.decode()})


def by_eventbridge(key: str, **about: Json) -> bytes:
    detail = {"bucket": {"name": "images"}, "object": {"key": key, **about}}
    return body_of({"source": "aws.s3", "detail-type": "Object Created", "detail": detail})


def aws(key: str) -> bytes:
    """Quote a key as S3 does, which leaves `/` unchanged."""
    return records(record(key=quote_plus(key, safe="/")))


def minio(key: str) -> bytes:
    """Quote a key for AMQP, as Go's `url.QueryEscape` does."""
    entry = record("minio:s3", "s3:ObjectCreated:Put", key=quote_plus(key))
    return body_of({"EventName": "s3:ObjectCreated:Put", "Key": f"images/{key}", "Records": [entry]})


def minio_in_redis(key: str) -> bytes:
    entry = record("minio:s3", "s3:ObjectCreated:Put", key=quote_plus(key))
    return body_of([{"Event": [entry], "EventTime": "2026-01-02T03:04:05.678Z"}])


ENCODERS: dict[str, Encoder] = {
    "aws": aws,
    "aws in SNS": lambda key: in_sns(aws(key)),
    # moto and localstack quote keys in this way. Keyhole reads their messages as S3's.
    "moto": lambda key: records(record(key=quote_plus(key))),
    "localstack": lambda key: records(record(key=quote(key))),
    "eventbridge": by_eventbridge,
    "eventbridge in SNS": lambda key: in_sns(by_eventbridge(key)),
    "minio": minio,
    "minio in Redis": minio_in_redis,
    "ceph": lambda key: records(record("ceph:s3", key=key, versionId="", size="10")),
    "rustfs": lambda key: records(record("rustfs:s3", "s3:ObjectCreated:Put", key=quote_plus(key))),
    "r2": lambda key: body_of(
        {"account": "a", "action": "PutObject", "bucket": "images", "object": {"key": key, "size": 1}}
    ),
    "ibm": lambda key: body_of(
        {"bucket": "images", "key": key, "operation": "Object:Write", "notification": {"object_length": "1"}}
    ),
    "own": lambda key: body_of({"bucket": "images", "key": key}),
    "own URI": lambda key: f"s3://images/{key}".encode(),
    "own URI in quotes": lambda key: body_of(f"s3://images/{key}"),
}
OWN = {"own", "own URI", "own URI in quotes"}
PLAIN = {"eventbridge", "eventbridge in SNS", "ceph", "r2", "ibm"}
