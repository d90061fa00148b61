"""What an event asks for, found by its name.

A name that is not here asks for nothing: storages tell of much (who read an object, whose ACL changed), and
of more with every version. Beware of MinIO and RustFS, which call it `ObjectCreated:PutTagging` when tags are
written, for Keyhole writes tags.

Sources: "Supported event types for SQS, SNS, and Lambda" and "Using EventBridge" in S3's user guide; the
lists of names in the sources of MinIO (`internal/event/name.go`) and Ceph (`rgw_notify_event_type.cc`); of R2
and IBM the pages that `dialects` names.
"""

from typing import Final

from keyhole.intake.events.event import EventKind

#: By name, or the longest beginning of it that is here. In lower case: Ceph's documentation and its code
#: differ in their capitals.
KINDS: Final = {
    "objectcreated": EventKind.CREATED,
    "objectcreated:puttagging": EventKind.IGNORED,
    "objectcreated:deletetagging": EventKind.IGNORED,
    "objectcreated:putretention": EventKind.IGNORED,
    "objectcreated:putlegalhold": EventKind.IGNORED,
    "objectcreated:putacl": EventKind.IGNORED,
    # Ceph: it has come from another zone.
    "objectsynced:create": EventKind.CREATED,
    "objectrestore:completed": EventKind.RESTORED,
    "objectremoved": EventKind.REMOVED,
    # MinIO: there was nothing to remove.
    "objectremoved:noop": EventKind.IGNORED,
    "objectsynced:delete": EventKind.REMOVED,
    "objectsynced:deletionmarkercreated": EventKind.REMOVED,
    "lifecycleexpiration": EventKind.REMOVED,
    "objectlifecycle:expiration:current": EventKind.REMOVED,
    "objectlifecycle:expiration:noncurrent": EventKind.REMOVED,
}
#: Events after which a delete marker lies over the object, or may: no version is gone, and the object is.
MARKERS: Final = {
    "objectremoved:deletemarkercreated",
    "objectsynced:deletionmarkercreated",
    "lifecycleexpiration:deletemarkercreated",
    "objectlifecycle:expiration:current",
}
#: The same for EventBridge's names.
DETAIL_TYPES: Final = {
    "Object Created": EventKind.CREATED,
    "Object Restore Completed": EventKind.RESTORED,
    "Object Deleted": EventKind.REMOVED,
}

#: The same for R2's actions.
R2_ACTIONS: Final = {
    "PutObject": EventKind.CREATED,
    "CopyObject": EventKind.CREATED,
    "CompleteMultipartUpload": EventKind.CREATED,
    "DeleteObject": EventKind.REMOVED,
    "LifecycleDeletion": EventKind.REMOVED,
}
#: The same for the operations of IBM's Cloud Object Storage.
IBM_OPERATIONS: Final = {"Object:Write": EventKind.CREATED, "Object:Delete": EventKind.REMOVED}


def kind_of(name: str) -> EventKind:
    """What an event of this name asks for. The name is without `s3:`."""
    name = name.lower()
    while name not in KINDS:
        name, separator, _ = name.rpartition(":")
        if not separator:
            return EventKind.IGNORED
    return KINDS[name]


def puts_marker(name: str) -> bool:
    """Whether the version that an event names is a delete marker, or what lies below it, and none is gone."""
    return name.lower() in MARKERS
