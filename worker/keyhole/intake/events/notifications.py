"""Parses the bodies of messages into events, and creates scan jobs.

This module does no I/O and reads no clock.

    body ──► text ──► JSON ──► its envelope ──► one event per record ──► a job, if the event leads to a scan

| message | meaning |
|---|---|
| `{"Records": […]}` | one or more events from S3 or a compatible storage |
| `{"detail-type": …, "detail": …}` | an event from EventBridge |
| `{"action": …, "bucket": …, "object": …}` | an event from Cloudflare's R2 |
| `{"operation": …, "bucket": …, "key": …}` | an event from IBM's Cloud Object Storage |
| `{"Type": "Notification", "Message": "…"}` | SNS's envelope, which contains one of the other messages; with raw delivery, SNS adds no envelope |
| `[{"Event": […]}]` | records in the format that MinIO pushes to a list in Redis |
| `{"Event": "s3:TestEvent"}` | the test message that S3 sends when a user configures notifications |
| `{"bucket": …, "key": …, "version_id": …}` | a job in Keyhole's own format; `version_id` is optional |
| `s3://bucket/key` | a job in Keyhole's own format, with or without JSON's quotes |

Other messages are not understood. If `unsupported` recognises the sender, the error names the sender. An
empty list of records results in no events. If Keyhole does not understand one record of a message, it scans
no object of the message, and the dead letter contains the whole message. So if a user retries the letter
later, no object is scanned a second time.

`keyhole.intake.events.dialects` parses the fields of each dialect.
"""  # noqa: E501 - the rows of the table are one line each

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

#: The longest accepted message in bytes, which is RabbitMQ's default limit. SQS allows 1 MiB, and S3 sends at
#: most 64 KiB. The limit also bounds the memory that a message needs: parsed JSON can take about twenty times
#: as many bytes as its text.
LONGEST_MESSAGE: Final = 16 * 1024**2
#: The maximum number of nested envelopes. SNS adds one envelope, and a program that forwards messages can add
#: another.
MOST_ENVELOPES: Final = 3

#: The size of a job's id, 128 bits. Among a billion jobs, two have the same id with a probability of 1e-21.
_JOB_ID_BYTES: Final = 16
_URI: Final = "s3://"
_OWN_FIELDS: Final = {"bucket", "key", "version_id"}


def parse(body: bytes) -> tuple[ObjectEvent, ...]:
    """Return the events of a message in the order of its records.

    Raises:
        NotUnderstoodError: The message or one of its records is not understood. The function raises no other
            errors.
    """
    if len(body) > LONGEST_MESSAGE:
        raise NotUnderstoodError(f"it has {len(body):,} bytes; the limit is {LONGEST_MESSAGE:,}")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotUnderstoodError("it is not UTF-8") from None
    return tuple(_events(text, MOST_ENVELOPES))


def scan_job(event: ObjectEvent, ruleset: str) -> ScanJob:
    """Return the scan job for an event. If two events report the same change, their jobs have the same id.

    The id is a hash of these values:

    - bucket and key
    - the version id
    - if there is no version id: the ETag, and the sequencer (or the event's time, if there is no sequencer)
    - the ruleset
    - whether the event reports that the object was restored

    The ETag would not be enough, for two reasons: an attacker can create two objects with the same MD5, and
    if somebody copies an object onto itself, the ETag stays the same although the metadata change. A restored
    object must be scanned again, because a scan before the restoration could not read the object.

    A job for an event without version id, ETag and sequencer gets a random id.

    In an event from a storage, the version id `null` means that the object has no version, so the job gets no
    version id. In Keyhole's own format, the user requests the version `null`, so the job gets this version
    id.

    Args:
        event: An event of the kind `CREATED` or `RESTORED`.
        ruleset: The id of the rules for verdicts: the version of Keyhole's rules, and the policy's name.

    Raises:
        ValueError: The event does not lead to a scan.
    """
    if event.kind not in {EventKind.CREATED, EventKind.RESTORED} or not event.bucket or not event.key:
        raise ValueError(f"an event of the kind {event.kind} does not lead to a scan")
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
    """Return the values (except bucket and key) that identify the object's content; empty if unknown."""
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
    """Return the event of a message that has neither records nor an envelope."""
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
    raise NotUnderstoodError("it is a JSON object, but not in a format that Keyhole knows")


def _json(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise NotUnderstoodError("it is JSON with too many levels") from None
    except ValueError as error:  # Python also raises this error for a number with too many digits
        raise NotUnderstoodError(f"it is not JSON: {error}") from None


def _refuse(constant: str) -> NoReturn:
    """Refuse `NaN` and `Infinity`, which Python accepts although they are not valid JSON."""
    raise ValueError(f"{constant} is not a value")


def _records(records: object) -> list[ObjectEvent]:
    if not isinstance(records, list):
        raise NotUnderstoodError(f"its Records are {shown(records)}, not an array")
    events = []
    for number, record in enumerate(records, 1):
        try:
            events.append(from_record(record))
        except NotUnderstoodError as error:
            raise NotUnderstoodError(f"in record {number} of {len(records)}: {error.reason}") from None
    return events


def _pushed(entry: object) -> object:
    """Return the records of a list entry that MinIO wrote in its format `access`."""
    if sender := sender_of(entry):
        raise unsupported_sender(sender)
    if not isinstance(entry, dict) or "Event" not in entry:
        raise NotUnderstoodError("it is a JSON array, but not in a format that Keyhole knows")
    return entry["Event"]


def _enclosed(message: Mapping[str, object], envelopes: int) -> str:
    """Return the message that SNS's envelope contains."""
    kind, enclosed = message["Type"], message.get("Message")
    if kind == "SubscriptionConfirmation":
        topic = shown(message.get("TopicArn"))
        raise NotUnderstoodError(
            f"SNS requests a confirmation of the queue's subscription to the topic {topic}: confirm it"
        )
    if kind != "Notification" or not isinstance(enclosed, str):
        raise NotUnderstoodError(
            f"it has SNS's structure, but its Type is {shown(kind)} and its Message is {shown(enclosed)}"
        )
    if not envelopes:
        raise NotUnderstoodError(f"it is in more than {MOST_ENVELOPES} envelopes")
    return enclosed


def _from_own(message: Mapping[str, object]) -> ObjectEvent:
    if unknown := message.keys() - _OWN_FIELDS:
        raise NotUnderstoodError(f"it is a job with an unknown field: {shown(min(unknown))}")
    return from_job(message["bucket"], message.get("key"), message.get("version_id"))


def _from_uri(text: str) -> ObjectEvent:
    try:
        bucket, key = parse_s3_uri(text)
    except ValueError:
        raise NotUnderstoodError(f"it is {shown(text)}, not s3://bucket/key") from None
    return from_job(bucket, key, None)
