"""Parses events in the dialects of different storages.

| dialect | sender | keys | other differences |
|---|---|---|---|
| `aws` | S3, to SQS and SNS | form | |
| `eventbridge` | S3, to EventBridge | plain | other event names, other fields |
| `minio` | MinIO | form | event names begin with `s3:`; empty fields are omitted |
| `ceph` | Ceph's RGW | plain | unknown fields are `""`, a size can be text, sequencers are byte-reversed |
| `r2` | Cloudflare's R2, to its queues | plain | a different structure: `action`, `bucket`, `object` |
| `ibm` | IBM's Cloud Object Storage, through Code Engine | plain | a different structure: `operation`, `bucket`, `key` |
| `other` | other senders of S3's structure, with an `eventSource` that ends in `:s3` | form | |
| `keyhole` | jobs that a user or a program sends to the queue | plain | |

"Form" is the encoding of web forms, which S3 documents and uses: a space becomes `+`, and other special
characters become `%` and two digits. The dialect `other` covers RustFS, StorageGRID, VAST and unknown
senders: a sender with S3's structure probably also uses S3's encoding. If no object has the decoded key, the
worker tries the key as it is in the message. If a message has another structure, a major version other than 2
or an unknown source, Keyhole does not understand the message, and it becomes a dead letter.

If an event leads to no action (for example, an event that reports changed tags), Keyhole reads only the
event's dialect and name. R2 and IBM also have an S3 API, through which Keyhole scans the objects.

Sources: "Event message structure" and "EventBridge event message structure" in S3's user guide; documentation
and source code of MinIO, RustFS and Ceph; messages from moto and Ceph 16.2; Cloudflare, R2, "Event
notifications"; IBM, Code Engine, "Working with the IBM Cloud Object Storage event producer".
"""  # noqa: E501 - the rows of the table are one line each

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from keyhole.errors import KeyholeError
from keyhole.intake.events.event import EventKind, ObjectEvent
from keyhole.intake.events.names import DETAIL_TYPES, IBM_OPERATIONS, R2_ACTIONS, kind_of, puts_marker
from keyhole.intake.events.unsupported import sender_of
from keyhole.sources.s3_uri import SURROGATE

#: The maximum lengths of a scan job's fields, in characters.
LONGEST: Final = {"bucket": 2048, "key": 1024, "version": 1024}
#: S3 limits a key to 1,024 bytes. In an event, each byte can be written as `%` and two digits.
_LONGEST_WRITTEN_KEY: Final = 3 * 1024
#: An error message quotes at most this many characters of a text.
_SHOWN: Final = 60
#: The largest accepted size of an object in bytes, a number of 63 bits.
_LARGEST_SIZE: Final = 2**63 - 1

_VERSION: Final = re.compile(r"2(\.[0-9]{1,9}){1,2}")
_NAME: Final = re.compile(r"(?:s3:)?([A-Za-z0-9:*]{1,100})")
#: The characters that Keyhole accepts in times, and in the event names of EventBridge, R2 and IBM.
_PLAIN: Final = re.compile(r"[ -~]{1,128}")
_DIGITS: Final = re.compile(r"[0-9]{1,19}")
_SEQUENCER: Final = re.compile(r"[0-9A-Fa-f]{1,128}")
#: S3's sequencers have 18 hexadecimal digits now, of which the first two are zeros. Keyhole pads them with
#: zeros on the right to _AWS_DIGITS. Ceph's sequencers always have _CEPH_DIGITS digits.
_AWS_DIGITS: Final = 32
_CEPH_DIGITS: Final = 16


class NotUnderstoodError(KeyholeError):
    """Keyhole does not understand a message.

    Args:
        reason: The reason in one sentence, for the user.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Dialect:
    """A dialect of events. `form_encoded` states whether keys in this dialect are encoded like a web form."""

    name: str
    form_encoded: bool


AWS: Final = Dialect("aws", form_encoded=True)
EVENTBRIDGE: Final = Dialect("eventbridge", form_encoded=False)
MINIO: Final = Dialect("minio", form_encoded=True)
CEPH: Final = Dialect("ceph", form_encoded=False)
R2: Final = Dialect("r2", form_encoded=False)
IBM: Final = Dialect("ibm", form_encoded=False)
OTHER: Final = Dialect("other", form_encoded=True)
KEYHOLE: Final = Dialect("keyhole", form_encoded=False)

SOURCES: Final = {"aws:s3": AWS, "minio:s3": MINIO, "ceph:s3": CEPH}


class _Said(NamedTuple):
    """The fields of a message that describe an object, before validation."""

    bucket: object
    key: object
    version_id: object = None
    etag: object = None
    size: object = None
    sequencer: object = None
    time: object = None


def from_record(record: object) -> ObjectEvent:
    """Parse one element of the array `Records` in S3's structure.

    Raises:
        NotUnderstoodError: The element is not a record, or a required field is missing or invalid.
    """
    fields = _mapping(record, "it")
    if sender := sender_of(record):
        raise unsupported_sender(sender)
    dialect = _dialect(fields.get("eventSource"))
    version = fields.get("eventVersion")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise NotUnderstoodError(f"its eventVersion is {shown(version)}; Keyhole reads only versions 2.x")
    written = fields.get("eventName")
    match = _NAME.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise NotUnderstoodError(f"its eventName is {shown(written)}, which is not the name of an event")
    name = match[1]
    kind = kind_of(name)
    if kind is EventKind.IGNORED:
        return ObjectEvent(kind=kind, dialect=dialect.name, name=name)
    s3 = _mapping(fields.get("s3"), "its s3")
    about = _mapping(s3.get("object"), "its s3.object")
    said = _Said(
        bucket=_mapping(s3.get("bucket"), "its s3.bucket").get("name"),
        key=about.get("key"),
        version_id=None if puts_marker(name) else about.get("versionId"),
        etag=about.get("eTag"),
        size=about.get("size"),
        sequencer=about.get("sequencer"),
        time=fields.get("eventTime"),
    )
    return _event(kind, dialect, name, said)


def from_eventbridge(message: Mapping[str, object]) -> ObjectEvent:
    """Parse an event from EventBridge.

    Raises:
        NotUnderstoodError: The event does not come from S3, or a required field is missing or invalid.
    """
    source, name = message.get("source"), message.get("detail-type")
    if source != "aws.s3":
        raise NotUnderstoodError(f"it is an event of EventBridge whose source is {shown(source)}, not aws.s3")
    if not isinstance(name, str) or not _PLAIN.fullmatch(name):
        raise NotUnderstoodError(f"its detail-type is {shown(name)}, which is not the name of an event")
    kind = DETAIL_TYPES.get(name, EventKind.IGNORED)
    if kind is EventKind.IGNORED:
        return ObjectEvent(kind=kind, dialect=EVENTBRIDGE.name, name=name)
    detail = _mapping(message.get("detail"), "its detail")
    about = _mapping(detail.get("object"), "its detail.object")
    said = _Said(
        bucket=_mapping(detail.get("bucket"), "its detail.bucket").get("name"),
        key=about.get("key"),
        version_id=None
        if detail.get("deletion-type") == "Delete Marker Created"
        else about.get("version-id"),
        etag=about.get("etag", about.get("eTag")),  # moto writes `eTag`
        size=about.get("size"),
        sequencer=about.get("sequencer"),
        time=message.get("time"),
    )
    return _event(kind, EVENTBRIDGE, name, said)


def from_r2(message: Mapping[str, object]) -> ObjectEvent:
    """Parse an event from Cloudflare's R2.

    Raises:
        NotUnderstoodError: A required field is missing or invalid.
    """
    name = _plain_name(message.get("action"), "action")
    kind = R2_ACTIONS.get(name, EventKind.IGNORED)
    if kind is EventKind.IGNORED:
        return ObjectEvent(kind=kind, dialect=R2.name, name=name)
    about = _mapping(message.get("object"), "its object")
    said = _Said(
        bucket=message.get("bucket"),
        key=about.get("key"),
        etag=about.get("eTag"),
        size=about.get("size"),
        time=message.get("eventTime"),
    )
    return _event(kind, R2, name, said)


def from_ibm(message: Mapping[str, object]) -> ObjectEvent:
    """Parse an event from IBM's Cloud Object Storage.

    Raises:
        NotUnderstoodError: A required field is missing or invalid.
    """
    name = _plain_name(message.get("operation"), "operation")
    kind = IBM_OPERATIONS.get(name, EventKind.IGNORED)
    if kind is EventKind.IGNORED:
        return ObjectEvent(kind=kind, dialect=IBM.name, name=name)
    about = _mapping(message.get("notification"), "its notification")
    said = _Said(
        bucket=message.get("bucket"),
        key=message.get("key"),
        etag=about.get("object_etag"),
        size=about.get("object_length"),
        time=about.get("request_time"),
    )
    return _event(kind, IBM, name, said)


def unsupported_sender(sender: str) -> NotUnderstoodError:
    """Return the error for a message from a sender that the module `unsupported` recognises."""
    return NotUnderstoodError(
        f"it is a notification from {sender}, which Keyhole does not support; instead, let the program that "
        'forwards it send {"bucket": …, "key": …}'
    )


def from_test(message: Mapping[str, object]) -> ObjectEvent:
    """Parse the test event that S3 sends when a user configures notifications. The test event has no records.

    Raises:
        NotUnderstoodError: The message contains another event.
    """
    name = message.get("Event")
    if name != "s3:TestEvent":
        raise NotUnderstoodError(f"its Event is {shown(name)}, but it has no Records")
    return ObjectEvent(kind=EventKind.IGNORED, dialect=AWS.name, name="TestEvent")


def from_job(bucket: object, key: object, version_id: object) -> ObjectEvent:
    """Return the event for a job in Keyhole's own format, whose key is not URL-encoded.

    Raises:
        NotUnderstoodError: The bucket or the key is missing or invalid.
    """
    return _event(EventKind.CREATED, KEYHOLE, "job", _Said(bucket, key, version_id))


def shown(value: object) -> str:
    """Describe a JSON value for an error message: quote a text, but name only the type of another value."""
    match value:
        case None:
            return "missing"
        case str():
            return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")
        case bool():
            return "true" if value else "false"
        case dict():
            return "an object"
        case list():
            return "an array"
        case _:
            return "a number"


def _plain_name(name: object, field: str) -> str:
    if not isinstance(name, str) or not _PLAIN.fullmatch(name):
        raise NotUnderstoodError(f"its {field} is {shown(name)}, which is not the name of an event")
    return name


def _dialect(source: object) -> Dialect:
    if isinstance(source, str) and source.endswith(":s3"):
        return SOURCES.get(source, OTHER)
    raise NotUnderstoodError(f"its eventSource is {shown(source)}; Keyhole expects a source that ends in :s3")


def _event(kind: EventKind, dialect: Dialect, name: str, said: _Said) -> ObjectEvent:
    bucket = _text(said.bucket, "bucket", LONGEST["bucket"])
    written = _text(said.key, "key", _LONGEST_WRITTEN_KEY)
    if bucket is None or written is None:
        raise NotUnderstoodError(f"it has no {'bucket' if bucket is None else 'key'}")
    key, other_key = _readings(written, dialect)
    return ObjectEvent(
        kind=kind,
        dialect=dialect.name,
        name=name,
        bucket=bucket,
        key=key,
        other_key=other_key,
        version_id=_text(said.version_id, "version", LONGEST["version"]),
        etag=_etag(said.etag),
        size=_size(said.size),
        sequencer=_sequencer(said.sequencer, dialect),
        time=said.time if isinstance(said.time, str) and _PLAIN.fullmatch(said.time) else None,
    )


def _readings(written: str, dialect: Dialect) -> tuple[str, str | None]:
    """Return `key` and `other_key` (see `ObjectEvent`) for a key that was written in a message."""
    try:
        decoded = unquote_plus(written, errors="strict")
    except UnicodeDecodeError:
        decoded = written  # the decoded bytes are not UTF-8, so the key is not URL-encoded
    key, other = (decoded, written) if dialect.form_encoded else (written, decoded)
    if len(key) > LONGEST["key"]:
        raise NotUnderstoodError(f"its key has {len(key):,} characters; the limit is {LONGEST['key']:,}")
    if dialect is KEYHOLE or other == key or len(other) > LONGEST["key"]:
        return key, None
    return key, other


def _text(value: object, what: str, longest: int) -> str | None:
    """Return a field's text, of at most `longest` characters; `None` if the field is missing or empty."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise NotUnderstoodError(f"its {what} is {shown(value)}, not text")
    if len(value) > longest:
        raise NotUnderstoodError(f"its {what} has {len(value):,} characters; the limit is {longest:,}")
    if SURROGATE.search(value):
        raise NotUnderstoodError(f"its {what} is {shown(value)}, which is not valid Unicode")
    return value


def _etag(value: object) -> str | None:
    """Return an ETag without the quotes that some senders include; `None` if the value is invalid."""
    if not isinstance(value, str) or SURROGATE.search(value):
        return None
    return value.strip('"') or None


def _size(value: object) -> int | None:
    """Return a size in bytes, from a number or from text; `None` if the value is invalid."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    return value if type(value) is int and 0 <= value <= _LARGEST_SIZE else None


def _sequencer(value: object, dialect: Dialect) -> str | None:
    """Return the sequencer without leading zeros, so that a later event of a key has a greater number."""
    if not isinstance(value, str) or not _SEQUENCER.fullmatch(value):
        return None
    digits = value.lower()
    if dialect in {AWS, EVENTBRIDGE}:
        # Sequencers "can be of different lengths", and a reader must pad them on the right (S3's user guide).
        digits = digits.ljust(_AWS_DIGITS, "0")
    elif dialect is CEPH and len(value) == _CEPH_DIGITS:
        # Ceph writes seconds and nanoseconds as little-endian numbers (rgw_notify.cc of Ceph 16.2).
        memory = bytes.fromhex(value)
        digits = (memory[3::-1] + memory[:3:-1]).hex()
    return digits.lstrip("0") or "0"


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise NotUnderstoodError(f"{what} is {shown(value)}, not a JSON object")
    return value
