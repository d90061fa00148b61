"""Forgetting: a delete event drops the verdict on the deleted object, and keeps it if that is uncertain."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import redis

from keyhole.intake.events.deletion import VerdictDeleter, is_gone
from keyhole.intake.events.event import EventKind, ObjectEvent
from keyhole.reasons import Status
from keyhole.results.drop import Drops
from keyhole.results.lookup import Name
from keyhole.results.redis_store import RedisStore
from keyhole.scan.report import Report
from keyhole.sources.s3_access import S3Access
from tests.servers.access import s3_access
from tests.servers.recorded_moto import RecordedMoto
from tests.servers.scripted_s3 import BUCKET, Fault, ScriptedS3, refuse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY = "a b.qcow2"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def removed(sequencer: str | None = None, version_id: str | None = None, **more: str | None) -> ObjectEvent:
    """The event that the object or a version of it was deleted."""
    fields = {"bucket": BUCKET, "key": KEY, "sequencer": sequencer, "version_id": version_id, **more}
    return ObjectEvent.model_validate(
        {"kind": EventKind.REMOVED, "dialect": "aws", "name": "ObjectRemoved:Delete", **fields}
    )


class Kept:
    """Verdicts, and the code that forgets them. The objects are in a scripted S3."""

    def __init__(self, valkey: redis.Redis, access: S3Access) -> None:
        self.store = RedisStore(valkey, expiry_seconds=None, stream_length=100)
        self._deleter = VerdictDeleter(Drops(valkey), lambda name: is_gone(lambda: access, name))

    def write(self, sequencer: str | None = None, version_id: str | None = None, key: str = KEY) -> None:
        """Store a verdict, with the event that led to it."""
        report = Report(
            target=f"s3://{BUCKET}/{key}",
            bucket=BUCKET,
            key=key,
            version_id=version_id,
            last_modified=NOON,
            status=Status.SAFE,
            scanned_at=NOON,
            scanner="keyhole/test",
            ruleset="1",
        )
        assert self.store.write(report, job_id=f"{key}{version_id}", sequencer=sequencer)

    def forget(self, *events: ObjectEvent) -> tuple[int, int]:
        """Forget verdicts, and return how many were forgotten and how many kept."""
        return self._deleter.delete(events)

    def has(self, version_id: str | None = None, key: str = KEY) -> bool:
        """Whether there is a verdict."""
        return self.store.get(BUCKET, key, version_id) is not None


@pytest.fixture
def kept(valkey: redis.Redis, scripted: ScriptedS3, scripted_access: S3Access) -> Kept:
    scripted.put(KEY, b"an image")
    return Kept(valkey, scripted_access)


class TestBySequencer:
    @pytest.mark.parametrize(("scanned", "deleted"), [("0A", "0B"), ("0a", "A"), ("0c", "1B")])
    def test_a_verdict_that_is_not_newer_goes_and_nobody_is_asked(
        self, kept: Kept, scripted: ScriptedS3, scanned: str, deleted: str
    ) -> None:
        kept.write(scanned)

        assert kept.forget(removed(deleted)) == (1, 0)

        assert not kept.has()
        assert scripted.requests == []

    def test_a_delete_that_came_late_leaves_the_object_that_is_there_now(
        self, kept: Kept, scripted: ScriptedS3
    ) -> None:
        kept.write("0B")

        assert kept.forget(removed("0A")) == (0, 1)

        assert kept.has()
        assert len(scripted.requests) == 1

    def test_a_late_delete_of_what_is_gone_is_a_delete(self, kept: Kept) -> None:
        kept.write("0B", key="gone")

        assert kept.forget(removed("0A", key="gone")) == (1, 0)


class TestWithoutSequencer:
    """A user submitted the object, or the storage sends no sequencer."""

    @pytest.mark.parametrize(
        ("scanned", "deleted"), [(None, None), (None, "0A"), ("0A", None), ("0A", "xyz")]
    )
    def test_what_is_there_keeps_its_verdict(
        self, kept: Kept, scripted: ScriptedS3, scanned: str | None, deleted: str | None
    ) -> None:
        kept.write(scanned)

        assert kept.forget(removed(deleted)) == (0, 1)

        assert kept.has()
        assert [request.range for request in scripted.requests] == ["bytes=0-0"]

    def test_what_is_gone_is_forgotten(self, kept: Kept) -> None:
        kept.write(key="gone")

        assert kept.forget(removed(key="gone")) == (1, 0)

        assert not kept.has(key="gone")

    @pytest.mark.parametrize(
        "fault",
        [
            refuse(403, "AccessDenied"),
            refuse(403, "InvalidObjectState"),
            refuse(503, "SlowDown"),
            refuse(500, "InternalError"),
            refuse(400, "InvalidRequest"),
        ],
    )
    def test_whatever_else_s3_says_keeps_the_verdict_after_one_question(
        self, kept: Kept, scripted: ScriptedS3, fault: Fault
    ) -> None:
        kept.write()
        scripted.script(then=fault)

        assert kept.forget(removed()) == (0, 1)

        assert kept.has()
        assert len(scripted.requests) == 1

    def test_an_empty_object_is_there(self, kept: Kept, scripted: ScriptedS3) -> None:
        scripted.put(KEY, b"")
        kept.write()

        assert kept.forget(removed()) == (0, 1)

    def test_no_way_to_s3_keeps_the_verdict(self, valkey: redis.Redis) -> None:
        with s3_access("http://127.0.0.1:1") as access:
            kept = Kept(valkey, access)
            kept.write()

            assert kept.forget(removed()) == (0, 1)

    def test_half_of_the_credentials_keep_the_verdict(
        self, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
        kept = Kept(valkey, S3Access(endpoint_url="http://127.0.0.1:1", region="us-east-1", connections=1))
        kept.write()

        assert kept.forget(removed()) == (0, 1)


class TestVersions:
    def test_a_delete_of_one_leaves_the_others(self, kept: Kept) -> None:
        kept.write("1", "v1")
        kept.write("2", "v2")

        assert kept.forget(removed("3", "v1")) == (1, 0)

        assert not kept.has("v1")
        assert kept.has("v2")

    def test_a_delete_of_the_newest_leaves_the_bare_key_without_a_verdict(self, kept: Kept) -> None:
        kept.write("1", "v1")

        assert kept.forget(removed("2", "v1")) == (1, 0)

        assert not kept.has()

    def test_a_delete_marker_takes_the_verdict_of_the_bare_key_alone(self, kept: Kept) -> None:
        kept.write("1", "v1")

        assert kept.forget(removed("2")) == (1, 0)

        assert not kept.has()
        assert kept.has("v1")

    def test_a_version_that_was_never_scanned_is_no_loss(self, kept: Kept, scripted: ScriptedS3) -> None:
        kept.write("1", "v1")

        assert kept.forget(removed("2", "v2")) == (0, 0)

        assert kept.has("v1")
        assert scripted.requests == []


class TestBothReadingsOfAKey:
    EVENT = removed("2", key="a b", other_key="a+b")

    def test_the_other_counts_where_nothing_lies_under_the_first(self, kept: Kept) -> None:
        kept.write("1", key="a+b")

        assert kept.forget(self.EVENT) == (1, 0)

        assert not kept.has(key="a+b")

    def test_the_other_stays_where_something_does(self, kept: Kept) -> None:
        kept.write("1", key="a b")
        kept.write("1", key="a+b")

        assert kept.forget(self.EVENT) == (1, 0)

        assert not kept.has(key="a b")
        assert kept.has(key="a+b")


def test_many_are_forgotten_at_once(kept: Kept) -> None:
    for number in range(250):
        kept.write("1", key=str(number))

    assert kept.forget(*(removed("2", key=str(number)) for number in range(300))) == (250, 0)

    assert list(kept.store.find()) == []


def test_a_real_delete_marker_is_gone_and_the_version_under_it_is_not(
    recorded: RecordedMoto, recorded_access: S3Access, s3: "S3Client", bucket: str
) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=bucket, Key=KEY, Body=b"an image")["VersionId"]
    s3.delete_object(Bucket=bucket, Key=KEY)

    assert is_gone(lambda: recorded_access, Name(bucket, KEY))
    assert not is_gone(lambda: recorded_access, Name(bucket, KEY, version))
    assert is_gone(lambda: recorded_access, Name(bucket, KEY, "no-such-version"))
    assert {request.method for request in recorded.requests} == {"GET"}
