"""Keyhole reads Ceph's recorded messages to RabbitMQ as the right events. These tests do not need Ceph."""

from itertools import pairwise

import pytest

from keyhole.intake.events.event import EventKind, ObjectEvent
from tests.ceph.deeds import CREATED, ENCODED_KEY, KEY, QUOTED_KEY, REMOVED, Told, one_event
from tests.ceph.record_messages import RECORDED

#: The expected event for each recorded message: its kind, its name, the key, the size of a created object,
#: and whether it names a version.
RECORDINGS: dict[str, tuple[EventKind, str, str, int | None, bool]] = {
    "put": (CREATED, "ObjectCreated:Put", KEY, 10, False),
    "put_encoded_key": (CREATED, "ObjectCreated:Put", ENCODED_KEY, 0, False),
    "put_quoted_key": (CREATED, "ObjectCreated:Put", QUOTED_KEY, 10, False),
    "put_with_tags": (CREATED, "ObjectCreated:Put", "tagged", 10, False),
    "copy": (CREATED, "ObjectCreated:Copy", "copy", 10, False),
    "multipart": (CREATED, "ObjectCreated:CompleteMultipartUpload", "parts", 10, False),
    "delete": (REMOVED, "ObjectRemoved:Delete", "copy", None, False),
    "delete_missing": (REMOVED, "ObjectRemoved:Delete", "missing", None, False),
    "delete_in_bulk": (REMOVED, "ObjectRemoved:Delete", "parts", None, False),
    "versioned_put": (CREATED, "ObjectCreated:Put", KEY, 10, True),
    "versioned_put_again": (CREATED, "ObjectCreated:Put", KEY, 20, True),
    "versioned_copy": (CREATED, "ObjectCreated:Copy", "copy", 20, False),
    "versioned_multipart": (CREATED, "ObjectCreated:CompleteMultipartUpload", "parts", 10, False),
    "delete_marker": (REMOVED, "ObjectRemoved:DeleteMarkerCreated", KEY, None, False),
    "delete_version": (REMOVED, "ObjectRemoved:Delete", KEY, None, True),
    "delete_delete_marker": (REMOVED, "ObjectRemoved:Delete", KEY, None, True),
    "suspended_put": (CREATED, "ObjectCreated:Put", KEY, 10, False),
}


def recorded(name: str) -> ObjectEvent:
    """Return the event of a recorded message."""
    return one_event((RECORDED / f"ceph_{name}.json").read_bytes())


@pytest.mark.parametrize("name", RECORDINGS)
def test_each_says_what_was_done(name: str) -> None:
    said = recorded(name)
    summary = (*Told.of(said)[:4], said.version_id is not None)
    assert summary == RECORDINGS[name]
    assert (said.dialect, said.bucket) == ("ceph", "images")
    assert said.etag or said.kind is REMOVED


def test_every_recording_is_read() -> None:
    files = {path.stem.removeprefix("ceph_") for path in RECORDED.glob("ceph_*.json")}
    assert files == set(RECORDINGS)


def test_the_version_that_is_removed_is_the_one_that_was_put() -> None:
    assert recorded("delete_version").version_id == recorded("versioned_put").version_id


def test_a_later_one_has_the_greater_sequencer() -> None:
    sequencers = [int(str(recorded(name).sequencer), 16) for name in RECORDINGS]
    assert all(earlier < later for earlier, later in pairwise(sequencers))
