"""Maps the names of events to the actions that they ask for.

A name that is not here asks for no action: storages report many other events, such as reads and changed
ACLs. MinIO and RustFS report written tags as `ObjectCreated:PutTagging`, which must be ignored, because
Keyhole writes tags.

Sources: "Supported event types for SQS, SNS, and Lambda" and "Using EventBridge" in S3's user guide; the
lists of names in the sources of MinIO (`internal/event/name.go`) and Ceph (`rgw_notify_event_type.cc`); the
pages about R2 and IBM that `dialects` names.
"""

from typing import Final

from keyhole.intake.events.event import EventKind

#: Actions by name or prefix; the longest one that matches applies. In lower case, because Ceph's
#: documentation and its code differ in case.
KINDS: Final = {
    "objectcreated": EventKind.CREATED,
    "objectcreated:puttagging": EventKind.IGNORED,
    "objectcreated:deletetagging": EventKind.IGNORED,
    "objectcreated:putretention": EventKind.IGNORED,
    "objectcreated:putlegalhold": EventKind.IGNORED,
    "objectcreated:putacl": EventKind.IGNORED,
    # Ceph: replicated from another zone.
    "objectsynced:create": EventKind.CREATED,
    "objectrestore:completed": EventKind.RESTORED,
    "objectremoved": EventKind.REMOVED,
    # MinIO: there was no object to remove.
    "objectremoved:noop": EventKind.IGNORED,
    "objectsynced:delete": EventKind.REMOVED,
    "objectsynced:deletionmarkercreated": EventKind.REMOVED,
    "lifecycleexpiration": EventKind.REMOVED,
    "objectlifecycle:expiration:current": EventKind.REMOVED,
    "objectlifecycle:expiration:noncurrent": EventKind.REMOVED,
}
#: Events that add a delete marker, or may do so: the object is gone, but no version is.
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
    """The action for an event of this name, which is without `s3:`."""
    name = name.lower()
    while name not in KINDS:
        name, separator, _ = name.rpartition(":")
        if not separator:
            return EventKind.IGNORED
    return KINDS[name]


def puts_marker(name: str) -> bool:
    """Whether an event's version is a delete marker or the version below it, so that no version is gone."""
    return name.lower() in MARKERS
