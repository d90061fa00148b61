"""What changed since the last audit of the same objects."""

import pytest
import redis

from keyhole.intake.audits.audit import Audit, AuditSpec, AuditState, How
from keyhole.intake.audits.records import PageResult, Row
from keyhole.intake.audits.store import AuditStore
from keyhole.reasons import Status
from keyhole.reports import changes, contents
from keyhole.reports.changes import Changes, Move, changes_since_last
from keyhole.results.lookup import Lookup
from keyhole.results.redis_store import RedisStore
from keyhole.store import keys
from tests.reports import sample

SPEC = AuditSpec(bucket=sample.BUCKET)
#: An object in a test: its key, its version, and its status.
Object = tuple[str, str | None, Status]


class Bucket:
    """Audits of a bucket, one after the other."""

    def __init__(self, valkey: redis.Redis) -> None:
        self.audits = AuditStore(valkey, expiry_seconds=None)
        self.lookup = Lookup(valkey)
        self._verdicts = RedisStore(valkey, expiry_seconds=None, stream_length=100)
        self._valkey = valkey

    def audit(
        self, name: str, *objects: Object, spec: AuditSpec = SPEC, ends_as: AuditState = AuditState.DONE
    ) -> Audit:
        """Make an audit that found these objects."""
        rows = []
        for number, (key, version, status) in enumerate(objects):
            report = sample.verdict(key, status, version_id=version)
            self._verdicts.write(report, job_id=f"{name}-{number}", sequencer=None)
            rows.append(Row(keys.object_id(sample.BUCKET, key, version), status, How.SCANNED))
        assert self.audits.create(name, spec, ruleset="3:default", scanner="keyhole/test")
        claim = self.audits.claim(name, "test")
        assert claim is not None
        counts = {"listed": len(rows)} | {
            f"status:{of}": sum(row.status is of for row in rows) for of in Status
        }
        assert self.audits.commit(claim, PageResult(counts=counts, rows=tuple(rows), ends_as=ends_as))
        self._valkey.hset(keys.audit(name), "started", len(self.audits.latest(100)))  # one second later
        found = self.audits.get(name)
        assert found is not None
        return found

    def changes(self, audit: Audit) -> Changes | None:
        return changes_since_last(self.audits, self.lookup, audit)

    def forget(self, key: str, version: str | None = None) -> None:
        """Let the verdict on an object expire."""
        self._valkey.delete(keys.record(keys.object_id(sample.BUCKET, key, version)))


@pytest.fixture
def bucket(valkey: redis.Redis) -> Bucket:
    return Bucket(valkey)


def test_objects_change_come_and_go(bucket: Bucket) -> None:
    bucket.audit("first", ("a", None, Status.SAFE), ("b", None, Status.SAFE), ("c", None, Status.SAFE))
    second = bucket.audit(
        "second", ("a", None, Status.SAFE), ("b", None, Status.UNSAFE), ("d", None, Status.DAMAGED)
    )

    found = bucket.changes(second)

    assert found is not None
    assert found.last.id == "first"
    assert found.moves == {Move(Status.SAFE, Status.UNSAFE): 1, Move(None, Status.DAMAGED): 1}
    assert (found.changed, found.new, found.gone, found.gone_keys) == (1, 1, 1, ("c",))
    told = {key: found.change(sample.verdict(key)) for key in "abd"}
    assert told == {"a": "", "b": "safe", "d": "new"}
    assert contents.what_changed(found) == "1 verdict changed, 1 object is new, 1 object is gone."


def test_an_object_with_a_new_version_is_the_same_object(bucket: Bucket) -> None:
    bucket.audit("first", ("a", "v1", Status.SAFE), ("b", "v1", Status.SAFE))
    second = bucket.audit("second", ("a", "v2", Status.UNSAFE), ("b", "v2", Status.SAFE))

    found = bucket.changes(second)

    assert found is not None
    assert found.moves == {Move(Status.SAFE, Status.UNSAFE): 1}
    assert (found.new, found.gone) == (0, 0)
    assert found.change(sample.verdict("a", version_id="v2")) == "safe"


def test_an_audit_of_all_versions_compares_versions(bucket: Bucket) -> None:
    spec = SPEC.model_copy(update={"versions": True})
    bucket.audit("first", ("a", "v1", Status.SAFE), spec=spec)
    second = bucket.audit("second", ("a", "v1", Status.SAFE), ("a", "v2", Status.UNSAFE), spec=spec)

    found = bucket.changes(second)

    assert found is not None
    assert found.moves == {Move(None, Status.UNSAFE): 1}


def test_objects_whose_verdict_has_expired_are_counted(bucket: Bucket) -> None:
    bucket.audit("first", ("a", None, Status.SAFE), ("b", None, Status.SAFE))
    second = bucket.audit("second", ("a", None, Status.SAFE))
    bucket.forget("b")

    found = bucket.changes(second)

    assert found is not None
    assert (found.gone, found.gone_keys) == (1, ())


def test_nothing_changed(bucket: Bucket) -> None:
    bucket.audit("first", ("a", None, Status.SAFE))

    found = bucket.changes(bucket.audit("second", ("a", None, Status.SAFE)))

    assert found is not None
    assert contents.what_changed(found) == "Nothing changed."


def test_an_audit_is_compared_only_with_one_of_the_same_objects_that_is_done(bucket: Bucket) -> None:
    objects: Object = ("a", None, Status.SAFE)
    first = bucket.audit("first", objects)
    bucket.audit("prefix", objects, spec=SPEC.model_copy(update={"prefix": "a"}))
    bucket.audit("limited", objects, spec=SPEC.model_copy(update={"limit": 1}))
    bucket.audit("stopped", objects, ends_as=AuditState.STOPPED)
    last = bucket.audit("last", objects)

    found = bucket.changes(last)

    assert bucket.changes(first) is None
    assert found is not None
    assert found.last.id == "first"


def test_very_large_audits_are_compared_only_by_their_totals(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MOST_COMPARED", 1)
    bucket.audit("first", ("a", None, Status.SAFE), ("b", None, Status.SAFE))

    found = bucket.changes(bucket.audit("second", ("a", None, Status.UNSAFE)))

    assert found is not None
    assert (found.compared, found.moves) == (False, {})
    assert contents.what_changed(found) == "There are too many objects to compare them one by one."
