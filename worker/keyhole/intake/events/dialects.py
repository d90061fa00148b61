"""The dialects in which storages write events, and the fields of each that are read.

| dialect | sender | keys | other differences |
|---|---|---|---|
| `aws` | S3, to SQS and SNS | form | |
| `eventbridge` | S3, to EventBridge | plain | other names, other fields |
| `minio` | MinIO | form | names begin with `s3:`; empty fields are left out |
| `ceph` | Ceph's RGW | plain | unknown fields are `""`, a size may be text; sequencers are reversed |
| `r2` | Cloudflare's R2, to its queues | plain | a structure of its own: `action`, `bucket`, `object` |
| `ibm` | IBM's Cloud Object Storage, through Code Engine | plain | a structure of its own: `operation`, `bucket`, `key` |
| `other` | any other sender of S3's structure, with an `eventSource` that ends in `:s3` | form | |
| `keyhole` | our own jobs | plain | |

"Form" is the encoding of web forms, which S3 documents and uses: a space is `+`, other special characters are `%`
and two digits. `other` includes RustFS, StorageGRID, VAST and future ones: a sender that uses S3's structure
probably uses its encoding. If it does not, the other reading of the key is tried. A message with another
structure, a major version other than 2, or another source is not understood; Keyhole never guesses.

If an event asks for no action, only its dialect and its name are read. R2 and IBM also have an S3 API, with
the same buckets and keys.

Sources: "Event message structure" and "EventBridge event message structure" in S3's user guide; documents
and sources of MinIO, RustFS and Ceph; messages of moto and Ceph 16.2; Cloudflare, R2, "Event notifications";
IBM, Code Engine, "Working with the IBM Cloud Object Storage event producer".
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

#: The longest values of a scan job, in characters.
LONGEST: Final = {"bucket": 2048, "key": 1024, "version": 1024}
#: A key of 1,024 bytes, which is S3's limit, written with `%` and two digits for each.
_LONGEST_WRITTEN_KEY: Final = 3 * 1024
#: The longest text of a message that is shown, in characters.
_SHOWN: Final = 60
#: The largest accepted size in bytes: 63 bits.
_LARGEST_SIZE: Final = 2**63 - 1

_VERSION: Final = re.compile(r"2(\.[0-9]{1,9}){1,2}")
_NAME: Final = re.compile(r"(?:s3:)?([A-Za-z0-9:*]{1,100})")
#: A name of EventBridge's, or a time.
_PLAIN: Final = re.compile(r"[ -~]{1,128}")
_DIGITS: Final = re.compile(r"[0-9]{1,19}")
_SEQUENCER: Final = re.compile(r"[0-9A-Fa-f]{1,128}")
#: Hexadecimal digits of a sequencer: more than S3 sends (16 after two zeros), and the number that Ceph sends.
_AWS_DIGITS: Final = 32
_CEPH_DIGITS: Final = 16


class NotUnderstoodError(KeyholeError):
    """A message that is not understood.

    Args:
        reason: Why not, in one sentence for a person.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Dialect:
    """A dialect of events, and whether its keys are encoded like a web form."""

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
    """The fields of a message about an object, unchecked."""

    bucket: object
    key: object
    version_id: object = None
    etag: object = None
    size: object = None
    sequencer: object = None
    time: object = None


def from_record(record: object) -> ObjectEvent:
    """Read one of the `Records` of S3's structure.

    Raises:
        NotUnderstoodError: It is not a record, or a field that its event needs is missing or invalid.
    """
    fields = _mapping(record, "it")
    if sender := sender_of(record):
        raise unsupported_sender(sender)
    dialect = _dialect(fields.get("eventSource"))
    version = fields.get("eventVersion")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise NotUnderstoodError(f"its eventVersion is {shown(version)}; from 2.0 on, below 3, all are known")
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
    """Read an event of EventBridge.

    Raises:
        NotUnderstoodError: It is not S3's, or a field that it needs is missing or invalid.
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
        etag=about.get("etag", about.get("eTag")),  # the second is moto's
        size=about.get("size"),
        sequencer=about.get("sequencer"),
        time=message.get("time"),
    )
    return _event(kind, EVENTBRIDGE, name, said)


def from_r2(message: Mapping[str, object]) -> ObjectEvent:
    """Read an event of Cloudflare's R2.

    Raises:
        NotUnderstoodError: A field that it needs is missing or invalid.
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
    """Read an event of IBM's Cloud Object Storage.

    Raises:
        NotUnderstoodError: A field that it needs is missing or invalid.
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
    """Return the reason why a message of a sender in `unsupported` is not understood."""
    return NotUnderstoodError(
        f"it is a notification of {sender}, which Keyhole does not read; what forwards it can send "
        '{"bucket": …, "key": …} in its place'
    )


def from_test(message: Mapping[str, object]) -> ObjectEvent:
    """The event that S3 sends when notifications are configured. It has no records.

    Raises:
        NotUnderstoodError: It is something else.
    """
    name = message.get("Event")
    if name != "s3:TestEvent":
        raise NotUnderstoodError(f"its Event is {shown(name)}, and s3:TestEvent alone has no records")
    return ObjectEvent(kind=EventKind.IGNORED, dialect=AWS.name, name="TestEvent")


def from_job(bucket: object, key: object, version_id: object) -> ObjectEvent:
    """A job of our own; its key is never decoded.

    Raises:
        NotUnderstoodError: It names no object.
    """
    return _event(EventKind.CREATED, KEYHOLE, "job", _Said(bucket, key, version_id))


def shown(value: object) -> str:
    """A JSON value for an error message: text is cut and escaped; other values are named by type only."""
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
    raise NotUnderstoodError(f"its eventSource is {shown(source)}, which does not send S3's events")


def _event(kind: EventKind, dialect: Dialect, name: str, said: _Said) -> ObjectEvent:
    bucket = _text(said.bucket, "bucket", LONGEST["bucket"])
    written = _text(said.key, "key", _LONGEST_WRITTEN_KEY)
    if bucket is None or written is None:
        raise NotUnderstoodError(f"it names no {'bucket' if bucket is None else 'key'}")
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
    """The key in the dialect's encoding, and the other reading if that is a different, valid key."""
    try:
        decoded = unquote_plus(written, errors="strict")
    except UnicodeDecodeError:
        decoded = written  # a key is UTF-8, so this text was not encoded
    key, other = (decoded, written) if dialect.form_encoded else (written, decoded)
    if len(key) > LONGEST["key"]:
        raise NotUnderstoodError(f"its key has {len(key):,} characters, and {LONGEST['key']:,} are the most")
    if dialect is KEYHOLE or other == key or len(other) > LONGEST["key"]:
        return key, None
    return key, other


def _text(value: object, what: str, longest: int) -> str | None:
    """A text of the message, of at most `longest` characters; `None` if it is missing or empty."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise NotUnderstoodError(f"its {what} is {shown(value)}, not text")
    if len(value) > longest:
        raise NotUnderstoodError(f"its {what} has {len(value):,} characters, and {longest:,} are the most")
    if SURROGATE.search(value):
        raise NotUnderstoodError(f"its {what} is {shown(value)}, which is not Unicode")
    return value


def _etag(value: object) -> str | None:
    """An ETag without quotes, which only some senders write; `None` if it is invalid."""
    if not isinstance(value, str) or SURROGATE.search(value):
        return None
    return value.strip('"') or None


def _size(value: object) -> int | None:
    """A size in bytes, from a number or a text; `None` if it is invalid."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    return value if type(value) is int and 0 <= value <= _LARGEST_SIZE else None


def _sequencer(value: object, dialect: Dialect) -> str | None:
    """The sequencer without leading zeros. A later event of the same key has a greater number."""
    if not isinstance(value, str) or not _SEQUENCER.fullmatch(value):
        return None
    digits = value.lower()
    if dialect in {AWS, EVENTBRIDGE}:
        # Sequencers "can be of different lengths", and must be padded on the right (S3's user guide).
        digits = digits.ljust(_AWS_DIGITS, "0")
    elif dialect is CEPH and len(value) == _CEPH_DIGITS:
        # Seconds and nanoseconds in little-endian order (rgw_notify.cc of Ceph 16.2).
        memory = bytes.fromhex(value)
        digits = (memory[3::-1] + memory[:3:-1]).hex()
    return digits.lstrip("0") or "0"


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise NotUnderstoodError(f"{what} is {shown(value)}, not an object of JSON")
    return value
