"""An event, which describes a change of an object. The messages of all dialects are parsed into this form."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class EventKind(StrEnum):
    """The kind of an event, which determines what Keyhole does."""

    #: The object is new or was replaced. Keyhole scans it.
    CREATED = "created"
    #: An archived object was restored and can be read. Keyhole scans it.
    RESTORED = "restored"
    #: The object, or one version of it, was deleted. Keyhole deletes the verdict on the object or version.
    REMOVED = "removed"
    #: Keyhole does nothing. Examples are events that report changed tags or ACLs, and the event
    #: `s3:TestEvent`.
    IGNORED = "ignored"


class ObjectEvent(BaseModel):
    """One event.

    `size` is in bytes. If the message does not contain the value of a field, the field is `None`.

    If the senders of the dialect URL-encode keys, `key` is the decoded key, and `other_key` is the key as it
    is in the message. In all other dialects, `key` is the key as it is in the message, and `other_key` is the
    decoded key. If both keys are equal, `other_key` is `None`. If no object has the key `key`, the sender may
    encode keys in another way than Keyhole expects, so Keyhole tries `other_key`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: EventKind
    #: The name of the dialect: `aws`, `eventbridge`, `minio`, `ceph`, `r2`, `ibm`, `other` or `keyhole`.
    dialect: str
    #: The event's name in the message, without the prefix `s3:`.
    name: str
    bucket: str | None = None
    key: str | None = None
    other_key: str | None = None
    version_id: str | None = None
    etag: str | None = None
    size: int | None = None
    #: The sequencer, a hexadecimal number without leading zeros. If two events have the same key, the later
    #: event has the greater sequencer.
    sequencer: str | None = None
    #: The time of the event, copied from the message. Keyhole uses the time only to distinguish events that
    #: have no sequencer.
    time: str | None = None
