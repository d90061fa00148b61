"""Parses the body of a message into events, and makes a job of an event. It uses no queue, clock or network.

    body ──► text ──► JSON ──► its envelope ──► one event for each record ──► a job, if it asks for a scan

| message | meaning |
|---|---|
| `{"Records": […]}` | events of S3 and of compatible storages, one or several |
| `{"detail-type": …, "detail": …}` | an event through EventBridge |
| `{"action": …, "bucket": …, "object": …}` | an event of Cloudflare's R2 |
| `{"operation": …, "bucket": …, "key": …}` | an event of IBM's Cloud Object Storage |
| `{"Type": "Notification", "Message": "…"}` | SNS's envelope around any of these; raw delivery has none |
| `[{"Event": […]}]` | records as MinIO pushes them to a list in Redis |
| `{"Event": "s3:TestEvent"}` | what S3 sends when notifications are configured |
| `{"bucket": …, "key": …, "version_id": …}` | a job of our own; the version can be left out |
| `s3://bucket/key` | a job of our own, with or without JSON's quotes |

Anything else is not understood. If `unsupported` knows the sender, the reason names it. An empty list of
records gives no events. A message is understood as a whole or not at all, so a dead letter that is retried
later does everything that its message asks for.

`keyhole.intake.events.dialects` knows the fields of each dialect.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, NoReturn
from uuid import uuid4

from keyhole.intake.events.dialects import (
    KEYHOLE,
    NotUnderstoodError,
    from_eventbridge,
    from_ibm,
    from_job,
    from_r2,
    from_record,
    from_test,
    shown,
    unsupported_sender,
)
from keyhole.intake.events.event import EventKind, ObjectEvent
from keyhole.intake.events.unsupported import sender_of
from keyhole.jobs.job import ScanJob
from keyhole.sources.s3_uri import parse_s3_uri

__all__ = ["NotUnderstoodError", "parse", "scan_job"]

#: The longest message that is read, in bytes: RabbitMQ's default limit. SQS allows 1 MiB, S3 sends 64 KiB.
#: (Parsed JSON can take about twenty times its length.)
LONGEST_MESSAGE: Final = 16 * 1024**2
#: The most nested envelopes. SNS adds one; forwarders may add others.
MOST_ENVELOPES: Final = 3

#: 128 bits: the probability that any two of a billion jobs share an id is 1 in 10**21.
_JOB_ID_BYTES: Final = 16
_URI: Final = "s3://"
_OWN_FIELDS: Final = {"bucket", "key", "version_id"}


def parse(body: bytes) -> tuple[ObjectEvent, ...]:
    """Return the events of a message, in its order.

    Raises:
        NotUnderstoodError: The message, or one of its records, is not understood. No other error is raised.
    """
    if len(body) > LONGEST_MESSAGE:
        raise NotUnderstoodError(f"it has {len(body):,} bytes, and {LONGEST_MESSAGE:,} are the most")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotUnderstoodError("it is not UTF-8") from None
    return tuple(_events(text, MOST_ENVELOPES))


def scan_job(event: ObjectEvent, ruleset: str) -> ScanJob:
    """Return the job that an event asks for. All reports of the same change lead to the same job.

    The job's id is made of bucket, key and version. Without a version, it is made of the ETag and the
    sequencer, or of the event's time if there is no sequencer. The ETag alone is not enough: two objects
    can be made to share an MD5, and an object that is copied onto itself keeps its ETag while its metadata
    change. The id also has the ruleset, and whether the object was restored, because the scan before that
    could not read it. An event without version, ETag and sequencer gets a random id.

    The version `null` stands for an object without a version, and is read without one, unless it is in a
    job of our own.

    Args:
        event: An event of the kind `CREATED` or `RESTORED`.
        ruleset: The rules of the verdict.

    Raises:
        ValueError: The event asks for no scan.
    """
    if event.kind not in {EventKind.CREATED, EventKind.RESTORED} or not event.bucket or not event.key:
        raise ValueError(f"an event that is {event.kind} asks for no scan")
    version = event.version_id if event.version_id != "null" else None
    identity = _identity(event, version)
    named = json.dumps([event.bucket, event.key, *identity, event.kind is EventKind.RESTORED, ruleset])
    digest = blake2b(named.encode(), digest_size=_JOB_ID_BYTES).hexdigest()
    return ScanJob(
        id=digest if identity else uuid4().hex,
        bucket=event.bucket,
        key=event.key,
        other_key=event.other_key,
        version_id=event.version_id if event.dialect == KEYHOLE.name else version,
        sequencer=event.sequencer,
    )


def _identity(event: ObjectEvent, version: str | None) -> list[str | None]:
    """The fields that, besides its name, identify the object's content; empty if they are unknown."""
    if version is not None:
        return [version]
    if event.etag is None and event.sequencer is None:
        return []
    return [None, event.etag, event.sequencer or event.time]


def _events(text: str, envelopes: int) -> list[ObjectEvent]:
    if text.startswith(_URI):
        return [_from_uri(text)]
    match _json(text):
        case str() as uri:
            return [_from_uri(uri)]
        case list() as pushed:
            return [event for entry in pushed for event in _records(_pushed(entry))]
        case dict() as message:
            return _from_object(message, envelopes)
        case message:
            raise NotUnderstoodError(f"it is {shown(message)}, not an event")


def _from_object(message: Mapping[str, object], envelopes: int) -> list[ObjectEvent]:
    if "Records" in message:
        return _records(message["Records"])
    if sender := sender_of(message):
        raise unsupported_sender(sender)
    if "Type" in message and "detail-type" not in message:
        return _events(_enclosed(message, envelopes), envelopes - 1)
    return [_one(message)]


def _one(message: Mapping[str, object]) -> ObjectEvent:
    """The event of a message without records and without an envelope."""
    if "detail-type" in message:
        return from_eventbridge(message)
    if "Event" in message:
        return from_test(message)
    if "action" in message and "object" in message:
        return from_r2(message)
    if "operation" in message and "notification" in message:
        return from_ibm(message)
    if "bucket" in message:
        return _from_own(message)
    raise NotUnderstoodError("it is an object of JSON, but of no kind that is known")


def _json(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise NotUnderstoodError("it is JSON in too many levels") from None
    except ValueError as error:  # also of a number with more digits than Python reads
        raise NotUnderstoodError(f"it is not JSON: {error}") from None


def _refuse(constant: str) -> NoReturn:
    """Refuse `NaN` and the infinities, which Python accepts but which are not JSON."""
    raise ValueError(f"{constant} is not a value")


def _records(records: object) -> list[ObjectEvent]:
    if not isinstance(records, list):
        raise NotUnderstoodError(f"its Records are {shown(records)}, not an array")
    events = []
    for number, record in enumerate(records, 1):
        try:
            events.append(from_record(record))
        except NotUnderstoodError as error:
            raise NotUnderstoodError(f"of record {number} of {len(records)}: {error.reason}") from None
    return events


def _pushed(entry: object) -> object:
    """The records of an entry in MinIO's format `access`."""
    if sender := sender_of(entry):
        raise unsupported_sender(sender)
    if not isinstance(entry, dict) or "Event" not in entry:
        raise NotUnderstoodError("it is an array of what is not known")
    return entry["Event"]


def _enclosed(message: Mapping[str, object], envelopes: int) -> str:
    """The message in an envelope of SNS."""
    kind, enclosed = message["Type"], message.get("Message")
    if kind == "SubscriptionConfirmation":
        topic = shown(message.get("TopicArn"))
        raise NotUnderstoodError(
            f"SNS asks whether the queue shall get what is published to the topic {topic}: confirm it"
        )
    if kind != "Notification" or not isinstance(enclosed, str):
        raise NotUnderstoodError(
            f"it is of SNS, but its Type is {shown(kind)} and its Message is {shown(enclosed)}"
        )
    if not envelopes:
        raise NotUnderstoodError(f"it is in more than {MOST_ENVELOPES} envelopes")
    return enclosed


def _from_own(message: Mapping[str, object]) -> ObjectEvent:
    if unknown := message.keys() - _OWN_FIELDS:
        raise NotUnderstoodError(f"it is a job with a field that is not known: {shown(min(unknown))}")
    return from_job(message["bucket"], message.get("key"), message.get("version_id"))


def _from_uri(text: str) -> ObjectEvent:
    try:
        bucket, key = parse_s3_uri(text)
    except ValueError:
        raise NotUnderstoodError(f"it is {shown(text)}, not s3://bucket/key") from None
    return from_job(bucket, key, None)
