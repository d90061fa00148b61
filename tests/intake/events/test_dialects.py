"""The events of each storage: recorded messages, names, fields."""

from typing import Any

import pytest

from keyhole.intake.events.event import EventKind
from keyhole.intake.events.notifications import parse
from tests.intake.events.messages import MESSAGES, aws, body_of, event_of, message, reason_of, record, records

Json = Any


class TestRecordedMessages:
    @pytest.mark.parametrize(("way", "name"), MESSAGES)
    def test_each_is_understood_or_says_why_not(self, way: str, name: str) -> None:
        if (way, name) == ("documented-sns", "confirmation"):
            reason = reason_of(message(way, name))
            assert "arn:aws:sns:us-west-2:123456789012:images" in reason
            assert "confirm" in reason
            return
        event = event_of(message(way, name))
        if event.kind is not EventKind.IGNORED:
            assert event.bucket == "images"
            assert event.key
        assert not event.name.startswith("s3:")

    @pytest.mark.parametrize("way", ["moto-sqs", "moto-sns", "moto-eventbridge", "ceph"])
    @pytest.mark.parametrize("versioned", ["", "versioned "])
    def test_what_was_really_put_and_deleted_is_found(self, way: str, versioned: str) -> None:
        """The key is the one that `record.py` put. Every wrong decoding gives another key."""
        put = event_of(message(way, f"{versioned}put"))
        assert (put.kind, put.key, put.size) == (EventKind.CREATED, "a/b c+ü%2F.img", 10)
        assert put.etag == "781e5e245d69b566979b86e28d23f2c7"
        assert put.other_key

        for name, key in [
            ("copy", "copy"),
            ("multipart", "parts"),
            ("post", "posted"),
            ("folder", "folder/"),
        ]:
            made = event_of(message(way, f"{versioned}{name}"))
            assert (made.kind, made.key) == (EventKind.CREATED, key)

    @pytest.mark.parametrize("way", ["moto-sqs", "moto-sns", "moto-eventbridge"])
    def test_tags_that_we_write_ask_for_nothing(self, way: str) -> None:
        assert event_of(message(way, "tags")).kind is EventKind.IGNORED

    @pytest.mark.parametrize(
        ("way", "name", "version"),
        [
            ("moto-sqs", "delete", None),
            ("moto-eventbridge", "delete", "null"),
            ("ceph", "delete", None),
            ("ceph", "versioned delete", None),
            ("ceph", "versioned delete version", "put"),
            ("documented-aws", "delete", None),
            ("documented-aws", "delete version", "096fKKXTRTtl3on89fVO.nfljtsv6qko"),
            ("documented-aws", "delete marker", None),
            ("documented-aws", "expired", None),
            ("documented-aws", "expired by marker", None),
            ("documented-eventbridge", "deleted", None),
            ("documented-eventbridge", "deleted version", "096fKKXTRTtl3on89fVO.nfljtsv6qko"),
            ("documented-eventbridge", "delete marker", None),
            ("documented-eventbridge", "expired", None),
            ("documented-minio", "delete", None),
            ("documented-minio", "delete marker", None),
            ("documented-minio", "all versions", None),
        ],
    )
    def test_what_is_removed_is_the_version_that_is_gone(
        self, way: str, name: str, version: str | None
    ) -> None:
        """A delete marker's version is not a version of the object.

        The object is deleted, but none of its versions.
        """
        if version == "put":
            version = event_of(message(way, "versioned put")).version_id
            assert version
        event = event_of(message(way, name))
        assert (event.kind, event.version_id) == (EventKind.REMOVED, version)

    @pytest.mark.parametrize("way", ["documented-aws", "documented-eventbridge", "documented-minio"])
    def test_what_was_restored_is_scanned(self, way: str) -> None:
        assert event_of(message(way, "restore completed")).kind is EventKind.RESTORED

    @pytest.mark.parametrize("version", ["2.0", "2.1", "2.6"])
    def test_every_minor_version_is_read_alike(self, version: str) -> None:
        event = event_of(message("documented-aws", f"put {version}"))
        assert (event.dialect, event.key, event.size) == ("aws", "red flower.img", 1024)
        assert event.sequencer == "55aed6dcd90281e500000000000000"

    def test_what_minio_leaves_out_is_unknown(self) -> None:
        event = event_of(message("documented-minio", "put of nothing"))
        assert (event.dialect, event.size, event.version_id) == ("minio", None, None)

    @pytest.mark.parametrize("name", ["RustFS", "StorageGRID"])
    def test_who_writes_like_s3_is_read_like_s3(self, name: str) -> None:
        event = event_of(message("documented-others", name))
        assert (event.dialect, event.kind) == ("other", EventKind.CREATED)
        assert (event.key, event.other_key) == (
            "a/red flower.img",
            "a%2Fred+flower.img" if name == "RustFS" else "a/red+flower.img",
        )

    def test_r2_and_ibm_write_keys_as_they_are(self) -> None:
        put = event_of(message("documented-r2", "put"))
        assert (put.dialect, put.kind, put.key) == ("r2", EventKind.CREATED, "a/b c+ü%2F.img")
        assert (put.size, put.etag) == (65536, "c846ff7a18f28c2e262116d6e8719ef0")
        assert put.time == "2026-05-24T19:36:44.379Z"
        written = event_of(message("documented-ibm", "write"))
        assert (written.dialect, written.kind, written.key) == ("ibm", EventKind.CREATED, put.key)
        assert (written.size, written.etag) == (1064391, "f3a9dbde30fdf48abc23e5f8b485d6e5")

    @pytest.mark.parametrize(
        ("way", "name", "kind"),
        [
            ("documented-r2", "copy", EventKind.CREATED),
            ("documented-r2", "multipart", EventKind.CREATED),
            ("documented-r2", "delete", EventKind.REMOVED),
            ("documented-r2", "expired", EventKind.REMOVED),
            ("documented-ibm", "delete", EventKind.REMOVED),
        ],
    )
    def test_what_r2_and_ibm_ask_for(self, way: str, name: str, kind: EventKind) -> None:
        assert event_of(message(way, name)).kind is kind

    def test_what_they_say_that_is_not_known_asks_for_nothing(self) -> None:
        r2, ibm = MESSAGES["documented-r2", "put"], MESSAGES["documented-ibm", "write"]
        assert event_of(body_of({**r2, "action": "PutObjectTagging"})).kind is EventKind.IGNORED
        assert event_of(body_of({**ibm, "operation": "Object:Read"})).kind is EventKind.IGNORED

    @pytest.mark.parametrize(
        "name",
        [
            *("Object Restore Initiated", "Object Restore Expired", "Object Storage Class Changed"),
            *("Object Access Tier Changed", "Object ACL Updated", "Object Tags Added", "Object Tags Deleted"),
        ],
    )
    def test_all_else_of_eventbridge_asks_for_nothing(self, name: str) -> None:
        assert event_of(message("documented-eventbridge", name)).kind is EventKind.IGNORED

    def test_ceph_tells_what_came_first(self) -> None:
        """Ceph writes its sequencers in the byte order of memory.

        Compared unchanged, their order would be wrong.
        """
        sequencers = [
            event_of(body_of(sent)).sequencer or ""
            for (way, _), sent in MESSAGES.items()
            if way == "ceph"  # in the order in which they were recorded
        ]
        raw = [
            sent["Records"][0]["s3"]["object"]["sequencer"]
            for (way, _), sent in MESSAGES.items()
            if way == "ceph"
        ]
        assert sequencers == sorted(sequencers)
        assert {len(sequencer) for sequencer in sequencers} == {16}
        assert raw != sorted(raw)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("ObjectCreated:Put", EventKind.CREATED),
            ("s3:ObjectCreated:CompleteMultipartUpload", EventKind.CREATED),
            ("s3:ObjectCreated:*", EventKind.CREATED),
            ("ObjectCreated:SomethingNew", EventKind.CREATED),
            ("ObjectSynced:Create", EventKind.CREATED),
            ("ObjectRestore:Completed", EventKind.RESTORED),
            ("ObjectRestore:Post", EventKind.IGNORED),
            ("ObjectRestore:Delete", EventKind.IGNORED),
            ("ObjectRemoved:Delete", EventKind.REMOVED),
            ("LifecycleExpiration:Delete", EventKind.REMOVED),
            ("ObjectLifecycle:Expiration:NonCurrent", EventKind.REMOVED),
            ("ObjectLifecycle:Expiration:Noncurrent", EventKind.REMOVED),
            ("ObjectLifecycle:Expiration:DeleteMarker", EventKind.IGNORED),
            ("ObjectLifecycle:Expiration:AbortMPU", EventKind.IGNORED),
            ("ObjectLifecycle:Transition:Current", EventKind.IGNORED),
            ("ObjectTagging:Put", EventKind.IGNORED),
            ("ObjectAcl:Put", EventKind.IGNORED),
            ("s3:ObjectCreated:PutTagging", EventKind.IGNORED),
            ("s3:ObjectCreated:PutRetention", EventKind.IGNORED),
            ("s3:ObjectRemoved:NoOP", EventKind.IGNORED),
            ("s3:ObjectAccessed:Get", EventKind.IGNORED),
            ("s3:LifecycleDelMarkerExpiration:Delete", EventKind.IGNORED),
            ("ReducedRedundancyLostObject", EventKind.IGNORED),
            ("Replication:OperationFailedReplication", EventKind.IGNORED),
            ("LifecycleTransition", EventKind.IGNORED),
            ("NobodyKnows", EventKind.IGNORED),
            ("ObjectCreatedAlmost:Put", EventKind.IGNORED),
        ],
    )
    def test_what_a_name_asks_for(self, name: str, kind: EventKind) -> None:
        event = event_of(records(record(name=name)))
        assert (event.kind, event.name) == (kind, name.removeprefix("s3:"))

    @pytest.mark.parametrize("name", ["Delete", "DeleteMarkerCreated"])
    def test_what_asks_for_nothing_needs_no_object(self, name: str) -> None:
        entry = {**record(name=f"ObjectTagging:{name}"), "s3": "gone"}
        assert event_of(records(entry)).kind is EventKind.IGNORED


class TestFields:
    def test_all_records_are_read_in_their_order(self) -> None:
        body = records(record(key="a"), record(name="ObjectRemoved:Delete", key="b"), record(key="c"))
        assert [(event.key, event.kind.value) for event in parse(body)] == [
            ("a", "created"),
            ("b", "removed"),
            ("c", "created"),
        ]

    @pytest.mark.parametrize(
        ("size", "read"),
        [
            (10, 10),
            ("10", 10),
            (0, 0),
            (None, None),
            ("", None),
            (-1, None),
            ("-1", None),
            (1.5, None),
            (True, None),
            ("\u0661", None),
            (2**63, None),
            ("9" * 30, None),
            ([], None),
        ],
    )
    def test_a_size_is_a_number_or_unknown(self, size: Json, read: int | None) -> None:
        assert event_of(records(record(size=size))).size == read

    @pytest.mark.parametrize(
        ("etag", "read"), [('"abc"', "abc"), ("abc", "abc"), ('""', None), (5, None), ("\ud800", None)]
    )
    def test_an_etag_has_no_quotes_and_what_is_none_is_unknown(self, etag: Json, read: str | None) -> None:
        assert event_of(records(record(eTag=etag))).etag == read

    @pytest.mark.parametrize("version", ["", None])
    def test_an_empty_version_is_none(self, version: str | None) -> None:
        assert event_of(records(record(versionId=version))).version_id is None

    @pytest.mark.parametrize(
        ("earlier", "later"), [("0055AED6DCD902", "0055AED7"), ("0055AE", "0055AE01"), ("0F", "10")]
    )
    def test_s3s_sequencers_of_different_lengths_are_padded_at_the_right(
        self, earlier: str, later: str
    ) -> None:
        first, second = (
            event_of(records(record(sequencer=sequencer))).sequencer for sequencer in (earlier, later)
        )
        assert int(first or "", 16) < int(second or "", 16)

    @pytest.mark.parametrize("sequencer", ["", "xyz", 5, None, "0x1", "f" * 129])
    def test_a_sequencer_that_is_none_is_unknown(self, sequencer: Json) -> None:
        assert event_of(records(record(sequencer=sequencer))).sequencer is None

    def test_a_folder_is_an_object(self) -> None:
        event = event_of(records(record(key="folder/", size=0)))
        assert (event.kind, event.key, event.size) == (EventKind.CREATED, "folder/", 0)

    def test_an_own_job_may_name_a_version(self) -> None:
        event = event_of(body_of({"bucket": "images", "key": "a%20b", "version_id": "v1"}))
        assert (event.dialect, event.key, event.version_id) == ("keyhole", "a%20b", "v1")

    def test_an_own_job_may_be_in_an_access_point(self) -> None:
        arn = "arn:aws:s3:us-east-1:123456789012:accesspoint/images"
        event = event_of(f"s3://{arn}/a/b".encode())
        assert (event.bucket, event.key) == (arn, "a/b")

    def test_a_byte_order_mark_is_passed_over(self) -> None:
        assert event_of(b"\xef\xbb\xbf" + aws("a")).key == "a"
