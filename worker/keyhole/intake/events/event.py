"""What has happened to one object, whoever told of it."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class EventKind(StrEnum):
    """What an event asks for."""

    #: The object is new, or was replaced: to be scanned.
    CREATED = "created"
    #: An archived object can be read again: to be scanned.
    RESTORED = "restored"
    #: The object, or the version, is gone: its verdict is to be dropped.
    REMOVED = "removed"
    #: Nothing to do: tags, ACLs, lifecycle, `s3:TestEvent`, …
    IGNORED = "ignored"


class ObjectEvent(BaseModel):
    """One event. `size` in bytes; whatever the message does not say is `None`.

    `key` is the object's key as this dialect is known to write it. `other_key` is how the same text reads
    under the other reading (decoded or not), where that is another key: dialects are known by what they
    did when they were tried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: EventKind
    #: Who speaks: `aws`, `eventbridge`, `minio`, `ceph`, `r2`, `ibm`, `other`, `keyhole` (our own jobs).
    #: For counting.
    dialect: str
    #: The event's name as the message has it, without `s3:`.
    name: str
    bucket: str | None = None
    key: str | None = None
    other_key: str | None = None
    version_id: str | None = None
    etag: str | None = None
    size: int | None = None
    #: Hexadecimal, without leading zeros: of the events of one key, the later has the greater number.
    sequencer: str | None = None
    #: When it happened, as the message has it. It only tells events apart where there is no sequencer.
    time: str | None = None
