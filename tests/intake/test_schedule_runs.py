"""A due schedule begins an audit, unless its last audit still runs, whoever reports that it is due."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import redis

from keyhole.intake.audits.audit import AuditSpec, AuditState
from keyhole.intake.audits.store import AuditStore
from keyhole.intake.recurrence import LONGEST_SECONDS
from keyhole.intake.schedule_runs import LastRun, ScheduleRuns
from keyhole.store import keys

SPEC = AuditSpec(bucket="images", schedule="nightly")
HOW = {"ruleset": "1:default", "scanner": "keyhole/test"}


@pytest.fixture
def runs(valkey: redis.Redis) -> ScheduleRuns:
    return ScheduleRuns(valkey)


@pytest.fixture
def audits(valkey: redis.Redis) -> AuditStore:
    return AuditStore(valkey, expiry_seconds=None)


def test_it_begins_an_audit_like_any_other(runs: ScheduleRuns, audits: AuditStore) -> None:
    assert runs.begin("nightly", "first", SPEC, **HOW)

    audit = audits.get("first")
    assert audit is not None
    assert (audit.state, audit.spec, audit.ruleset, audit.scanner) == (
        AuditState.RUNNING,
        SPEC,
        "1:default",
        "keyhole/test",
    )
    assert audits.running() == ["first"]
    assert audits.claim("first", "token") is not None
    assert runs.last("nightly") == LastRun("first", 0)


def test_of_a_schedule_that_was_never_due_nothing_is_known(runs: ScheduleRuns) -> None:
    assert runs.last("nightly") == LastRun(None, 0)


@pytest.mark.parametrize("state", [AuditState.RUNNING, AuditState.PAUSED])
def test_while_the_last_goes_on_it_is_skipped_and_counted(
    runs: ScheduleRuns, audits: AuditStore, state: AuditState
) -> None:
    runs.begin("nightly", "first", SPEC, **HOW)
    audits.set_state("first", state)

    assert not runs.begin("nightly", "second", SPEC, **HOW)
    assert not runs.begin("nightly", "third", SPEC, **HOW)

    assert audits.get("second") is None
    assert runs.last("nightly") == LastRun("first", 2)


@pytest.mark.parametrize("state", [AuditState.CANCELLED, AuditState.FAILED])
def test_when_the_last_has_ended_the_next_begins(
    runs: ScheduleRuns, audits: AuditStore, state: AuditState
) -> None:
    runs.begin("nightly", "first", SPEC, **HOW)
    runs.begin("nightly", "second", SPEC, **HOW)
    audits.set_state("first", state)

    assert runs.begin("nightly", "third", SPEC, **HOW)

    assert runs.last("nightly") == LastRun("third", 1)


def test_when_the_last_has_expired_the_next_begins(runs: ScheduleRuns, valkey: redis.Redis) -> None:
    runs.begin("nightly", "first", SPEC, **HOW)
    valkey.delete(keys.audit("first"))

    assert runs.begin("nightly", "second", SPEC, **HOW)


def test_another_schedule_is_not_held_up(runs: ScheduleRuns) -> None:
    assert runs.begin("nightly", "first", SPEC, **HOW)
    assert runs.begin("weekly", "second", SPEC, **HOW)


class TestToldAgain:
    def test_what_was_begun_stays_so(self, runs: ScheduleRuns, audits: AuditStore) -> None:
        runs.begin("nightly", "first", SPEC, **HOW)

        assert runs.begin("nightly", "first", SPEC, **HOW)

        assert len(audits.latest(10)) == 1
        assert runs.last("nightly") == LastRun("first", 0)

    def test_what_was_begun_before_another_stays_so(self, runs: ScheduleRuns, audits: AuditStore) -> None:
        runs.begin("nightly", "first", SPEC, **HOW)
        audits.set_state("first", AuditState.CANCELLED)
        runs.begin("nightly", "second", SPEC, **HOW)

        assert runs.begin("nightly", "first", SPEC, **HOW)

        assert audits.state("first") is AuditState.CANCELLED
        assert runs.last("nightly") == LastRun("second", 0)

    def test_what_was_skipped_is_counted_once_and_does_not_begin_late(
        self, runs: ScheduleRuns, audits: AuditStore
    ) -> None:
        runs.begin("nightly", "first", SPEC, **HOW)
        runs.begin("nightly", "second", SPEC, **HOW)
        audits.set_state("first", AuditState.CANCELLED)

        assert not runs.begin("nightly", "second", SPEC, **HOW)

        assert runs.last("nightly") == LastRun("first", 1)


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("same", [True, False], ids=["delivered twice", "due twice"])
def test_of_many_at_the_same_moment_one_begins(
    runs: ScheduleRuns, audits: AuditStore, number: int, *, same: bool
) -> None:
    many = 16
    together = Barrier(many)

    def due(worker: int) -> bool:
        together.wait()
        return runs.begin("nightly", f"{number}" if same else f"{number}-{worker}", SPEC, **HOW)

    with ThreadPoolExecutor(many) as pool:
        begun = list(pool.map(due, range(many)))

    (audit,) = audits.latest(many)
    assert sum(begun) == (many if same else 1)
    assert runs.last("nightly") == LastRun(audit.id, 0 if same else many - 1)


def test_what_is_known_is_kept_until_it_is_due_again_and_not_for_ever(
    runs: ScheduleRuns, valkey: redis.Redis
) -> None:
    runs.begin("nightly", "first", SPEC, **HOW)

    assert valkey.ttl(keys.schedule("nightly")) > LONGEST_SECONDS
