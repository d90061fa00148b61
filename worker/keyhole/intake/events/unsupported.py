"""Recognises notifications from storages that Keyhole does not support, so that dead letters name the sender.

The notifications of the senders in the table do not have S3's structure. Some of these storages also have an
S3 API. But their notifications identify versions in another way than this API, or do not state the kind of
the event. The rows that contain "from memory" were not compared with the vendor's page.

| sender | message | source |
|---|---|---|
| Google Cloud Storage | a resource of kind `storage#object`; it lacks the event's type, which Pub/Sub sends in an attribute; pushed: `message` with `data` (base64) and `attributes` | Cloud Storage, "Pub/Sub notifications"; Pub/Sub, "Push subscriptions" |
| Azure Event Grid | an array of events with `eventType` `Microsoft.Storage…`, or a CloudEvent | Event Grid, "Azure Blob Storage as an Event Grid source" (from memory) |
| Alibaba Cloud OSS | `events` with `eventSource` `acs:oss` | Simple Message Queue, "OSS event notifications" |
| Backblaze B2 | `events` with `eventType` `b2:…` | B2, "Event Notifications" (from memory) |
| Huawei Cloud OBS | `Records` with `eventSource` `OBS` | OBS, "Event notification structure" (from memory) |
| Tencent Cloud COS | `Records` with `cos` and `event` | COS, "Event notification" (from memory) |
| Oracle Cloud | `eventType` `com.oraclecloud.objectstorage…` | Events, "Services that produce events" (from memory) |
| others | CloudEvents: `specversion` and `type` | CloudEvents 1.0, section 3 |
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Mapping
from typing import Final

GOOGLE: Final = "Google Cloud Storage"
#: The sender for each prefix of an event type.
TYPES: Final = {
    "Microsoft.Storage.": "Azure Event Grid",
    "Microsoft.EventGrid.": "Azure Event Grid",
    "google.cloud.storage.": GOOGLE,
    "OBJECT_": GOOGLE,
    "com.oraclecloud.": "Oracle Cloud",
    "b2:": "Backblaze B2",
}
#: The sender for each `eventSource` of a record or an event.
SOURCES: Final = {"acs:oss": "Alibaba Cloud OSS", "OBS": "Huawei Cloud OBS", "qcs::cos": "Tencent Cloud COS"}
#: The fields that contain the type of a message or an event.
_TYPE_FIELDS: Final = ("eventType", "type")


def sender_of(message: object) -> str | None:
    """Return the name of the sender of an unsupported message; `None` if the sender is unknown."""
    if isinstance(message, list):
        return sender_of(message[0]) if message and isinstance(message[0], dict) else None
    if not isinstance(message, dict):
        return None
    if message.get("kind") == "storage#object":
        return GOOGLE
    return (
        _by_source(message)
        or _by_type(message)
        or _by_inner(message.get("events"))
        or _by_inner(message.get("Records"))
        or _pushed_by_google(message)
        or ("CloudEvents" if "specversion" in message or "cloudEventsVersion" in message else None)
    )


def _by_source(event: Mapping[object, object]) -> str | None:
    inner = event.get("event")
    source = (inner if isinstance(inner, dict) else event).get("eventSource")
    return SOURCES.get(source) if isinstance(source, str) else None


def _by_type(event: Mapping[object, object]) -> str | None:
    kinds = [kind for field in _TYPE_FIELDS if isinstance(kind := event.get(field), str)]
    return next((who for kind in kinds for begins, who in TYPES.items() if kind.startswith(begins)), None)


def _by_inner(events: object) -> str | None:
    first = events[0] if isinstance(events, list) and events else None
    return (_by_source(first) or _by_type(first)) if isinstance(first, dict) else None


def _pushed_by_google(message: Mapping[object, object]) -> str | None:
    """Return the sender of a message that Pub/Sub pushes.

    An attribute of the message shows whether Cloud Storage sent it.
    """
    inner = message.get("message")
    if not isinstance(inner, dict) or "subscription" not in message:
        return None
    attributes = inner.get("attributes")
    return (_by_type(attributes) if isinstance(attributes, dict) else None) or "Google Pub/Sub"
