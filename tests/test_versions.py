"""Records of a later version are reported as such, and never misread."""

import json
from datetime import UTC, datetime

import pytest
import redis
from pydantic import ValidationError

from keyhole import versions
from keyhole.intake.audits.audit import AuditSpec
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.tag_debts import TagDebts
from keyhole.reasons import Status
from keyhole.results.lookup import Lookup, Name
from keyhole.results.record import CorruptRecordError, header
from keyhole.results.redis_store import RedisStore
from keyhole.results.tags import TAG_DEBT, TagDebt
from keyhole.scan.report import SCANNER, Report
from keyhole.store import keys

REPORT = Report(
    target="s3://images/a",
    bucket="images",
    key="a",
    status=Status.SAFE,
    scanned_at=datetime(2026, 1, 1, tzinfo=UTC),
    scanner=SCANNER,
    ruleset="5:default",
)
LATER = "a later version of Keyhole wrote it, in format 2; this version of Keyhole reads formats up to 1"


def record(valkey: redis.Redis, **changes: object) -> None:
    """Write a record whose report has these other fields."""
    report = REPORT.model_dump(mode="json") | changes
    head = header(REPORT, job_id="1", sequencer=None)
    valkey.set(keys.record(keys.object_id("images", "a", None)), f"{head}\n{json.dumps(report)}")


@pytest.fixture
def store(valkey: redis.Redis) -> RedisStore:
    return RedisStore(valkey, expiry_seconds=None, stream_length=100)


def test_everything_that_is_written_states_its_version(valkey: redis.Redis, store: RedisStore) -> None:
    store.write(REPORT, job_id="1", sequencer=None)
    ((_, verdict),) = valkey.xrange(keys.VERDICTS)
    written = [
        verdict[b"report"],
        ENTRY.dump_json(Entry("1", ()), exclude_none=True),
        TAG_DEBT.dump_json(TagDebt("images", "a"), exclude_none=True),
        AuditSpec(bucket="images").model_dump_json(),
    ]

    assert [json.loads(text)["version"] for text in written] == [1, 1, 1, 1]


def test_only_an_audit_with_an_owner_tag_states_version_2() -> None:
    """An older worker refuses unknown fields, so the specification of any other audit has none."""
    plain = AuditSpec(bucket="images").model_dump_json()
    owned = AuditSpec(bucket="images", owner_tag="team").model_dump_json()

    assert "owner" not in plain
    assert json.loads(owned)["version"] == 2
    assert AuditSpec.model_validate_json(owned).owner_tag == "team"
    assert AuditSpec.model_validate_json(plain).version == 1


def test_a_report_with_an_unknown_field_is_read(valkey: redis.Redis, store: RedisStore) -> None:
    record(valkey, mood="cheerful", findings=[{"check": "x", "severity": "info", "message": "y", "z": 1}])

    found = store.get("images", "a")

    assert found is not None
    assert found.status is Status.SAFE
    assert found.findings[0].check == "x"


def test_a_report_of_a_later_version_is_an_error_for_readers(valkey: redis.Redis, store: RedisStore) -> None:
    record(valkey, version=2)

    with pytest.raises(CorruptRecordError, match=LATER):
        store.get("images", "a")


def test_an_audit_scans_the_object_of_such_a_report_again(valkey: redis.Redis) -> None:
    record(valkey, version=2)

    assert Lookup(valkey).reports([Name("images", "a")]) == [None]


def test_an_older_verdict_does_not_replace_one_of_a_later_version(
    valkey: redis.Redis, store: RedisStore
) -> None:
    """The script compares the header lines, which all versions write in the same way."""
    record(valkey, version=2)
    older = REPORT.model_copy(update={"scanned_at": datetime(2025, 1, 1, tzinfo=UTC)})

    assert not store.write(older, job_id="0", sequencer=None)
    with pytest.raises(CorruptRecordError, match=LATER):
        store.get("images", "a")


def test_the_stream_skips_a_verdict_of_a_later_version(
    valkey: redis.Redis, store: RedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    newer = json.dumps(REPORT.model_dump(mode="json") | {"version": 2})
    valkey.xadd(keys.VERDICTS, {"job": "1", "report": newer})
    store.write(REPORT, job_id="2", sequencer=None)

    assert [verdict.job_id for verdict in store.read_stream("0-0").verdicts] == ["2"]
    assert LATER in caplog.text


def test_tags_of_a_later_version_stay_owed(valkey: redis.Redis) -> None:
    debts = TagDebts(valkey)
    debts.record(TagDebt("images", "a"))
    debt = keys.debt("tags", keys.object_id("images", "a", None))
    valkey.hset(debt, "debt", '{"bucket": "images", "key": "a", "version": 2, "acl": "private"}')

    with pytest.raises(ValidationError) as error:
        debts.hold_recorded(keys.object_id("images", "a", None))

    assert LATER in versions.why_unreadable(error.value)
    assert valkey.hget(debt, "debt") is not None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"id": "1", "jobs": [], "version": 7}', "in format 7;"),
        ('{"id": "1", "jobs": [], "version": 0}', "version: Input should be greater than or equal to 1"),
        ('{"id": "1"}', "jobs: Field required"),
        ("no JSON", "Invalid JSON"),
    ],
)
def test_the_reason_is_one_line(text: str, why: str) -> None:
    with pytest.raises(ValidationError) as error:
        ENTRY.validate_json(text)

    assert why in versions.why_unreadable(error.value)
    assert "\n" not in versions.why_unreadable(error.value)
