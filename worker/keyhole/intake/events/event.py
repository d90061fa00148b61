"""One event: a change of an object, independent of the sender's dialect."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class EventKind(StrEnum):
    """The action that an event asks for."""

    #: The object is new, or was replaced: to be scanned.
    CREATED = "created"
    #: An archived object can be read again: to be scanned.
    RESTORED = "restored"
    #: The object, or the version, was deleted: its verdict is to be deleted.
    REMOVED = "removed"
    #: Nothing to do: tags, ACLs, lifecycle, `s3:TestEvent`, …
    IGNORED = "ignored"


class ObjectEvent(BaseModel):
    """One event. `size` is in bytes. A field that the message does not have is `None`.

    `key` is the object's key in the known encoding of the dialect. `other_key` is the same text in the other
    reading (decoded or not), if that is a different key: a sender may change its encoding.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: EventKind
    #: The dialect, for counting: `aws`, `eventbridge`, `minio`, `ceph`, `r2`, `ibm`, `other`, `keyhole`.
    dialect: str
    #: The event's name as the message has it, without `s3:`.
    name: str
    bucket: str | None = None
    key: str | None = None
    other_key: str | None = None
    version_id: str | None = None
    etag: str | None = None
    size: int | None = None
    #: Hexadecimal, without leading zeros: a later event of the same key has a greater number.
    sequencer: str | None = None
    #: The time of the event, as the message has it. It only distinguishes events without a sequencer.
    time: str | None = None
