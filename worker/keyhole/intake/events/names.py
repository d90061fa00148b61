"""Maps the names of events to their kinds.

If the name of an event is not in this module, Keyhole ignores the event. Storages report many such events,
for example reads and changed ACLs. MinIO and RustFS report changed tags as `ObjectCreated:PutTagging`.
Keyhole must ignore these events, or else it would scan an object again whenever it writes the object's tags.

Sources: "Supported event types for SQS, SNS, and Lambda" and "Using EventBridge" in S3's user guide; the
lists of names in the source code of MinIO (`internal/event/name.go`) and Ceph (`rgw_notify_event_type.cc`);
the pages about R2 and IBM that `dialects` lists.
"""

from typing import Final

from keyhole.intake.events.event import EventKind

#: The kind for each name of an event, or for each beginning of a name. If several beginnings match a name,
#: the longest one applies. Names are in lower case, because Ceph's documentation and Ceph's code differ in
#: case.
KINDS: Final = {
    "objectcreated": EventKind.CREATED,
    "objectcreated:puttagging": EventKind.IGNORED,
    "objectcreated:deletetagging": EventKind.IGNORED,
    "objectcreated:putretention": EventKind.IGNORED,
    "objectcreated:putlegalhold": EventKind.IGNORED,
    "objectcreated:putacl": EventKind.IGNORED,
    # Ceph: the object was replicated from another zone.
    "objectsynced:create": EventKind.CREATED,
    "objectrestore:completed": EventKind.RESTORED,
    "objectremoved": EventKind.REMOVED,
    # MinIO: a DELETE found no object.
    "objectremoved:noop": EventKind.IGNORED,
    "objectsynced:delete": EventKind.REMOVED,
    "objectsynced:deletionmarkercreated": EventKind.REMOVED,
    "lifecycleexpiration": EventKind.REMOVED,
    "objectlifecycle:expiration:current": EventKind.REMOVED,
    "objectlifecycle:expiration:noncurrent": EventKind.REMOVED,
}
#: The names of events that report a DELETE which added a delete marker. The list includes names from which it
#: is not clear whether the DELETE added a delete marker. An object with a delete marker has no current
#: version, but all its versions still exist.
MARKERS: Final = {
    "objectremoved:deletemarkercreated",
    "objectsynced:deletionmarkercreated",
    "lifecycleexpiration:deletemarkercreated",
    "objectlifecycle:expiration:current",
}
#: The kinds for the names in events from EventBridge.
DETAIL_TYPES: Final = {
    "Object Created": EventKind.CREATED,
    "Object Restore Completed": EventKind.RESTORED,
    "Object Deleted": EventKind.REMOVED,
}

#: The kinds for the actions of R2.
R2_ACTIONS: Final = {
    "PutObject": EventKind.CREATED,
    "CopyObject": EventKind.CREATED,
    "CompleteMultipartUpload": EventKind.CREATED,
    "DeleteObject": EventKind.REMOVED,
    "LifecycleDeletion": EventKind.REMOVED,
}
#: The kinds for the operations of IBM's Cloud Object Storage.
IBM_OPERATIONS: Final = {"Object:Write": EventKind.CREATED, "Object:Delete": EventKind.REMOVED}


def kind_of(name: str) -> EventKind:
    """Return the kind of an event with this name; the name must not have the prefix `s3:`."""
    name = name.lower()
    while name not in KINDS:
        name, separator, _ = name.rpartition(":")
        if not separator:
            return EventKind.IGNORED
    return KINDS[name]


def puts_marker(name: str) -> bool:
    """Return whether an event with this name reports a new delete marker. If so, no version was deleted.

    The version id in an event with such a name identifies the delete marker, or the version below the delete
    marker.
    """
    return name.lower() in MARKERS
