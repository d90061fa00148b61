"""A job that Keyhole gives up becomes a dead letter: it has no retries left, or it kills its processes."""

import os

import pytest
import redis
from celery.exceptions import Reject

from keyhole import tasks
from keyhole.fleet import services as serving
from keyhole.fleet.entry_runner import MAX_LOST
from keyhole.fleet.ledger_task import REDIS_PAUSE
from keyhole.fleet.scanning import ScanWork
from keyhole.fleet.services import Services, services
from keyhole.intake.audits.audit import AuditSpec, AuditState
from keyhole.intake.dead_letters import DeadLetters, LetterKind
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import AUDITS, EVENTS
from keyhole.scan.report import Report
from keyhole.store import keys
from keyhole.store.round_trips import Step
from keyhole.tasks import scan_batch

pytestmark = pytest.mark.usefixtures("works_here")

JOBS = tuple(ScanJob(id=key, bucket="images", key=key) for key in ("a", "b"))
ENTRY_OF_TWO = Entry("batch", JOBS, EVENTS)


@pytest.fixture
def dead(valkey: redis.Redis) -> DeadLetters:
    return DeadLetters(valkey)


def work_on(entry: Entry) -> None:
    """Work on an entry as a task does. Celery would handle the errors that are raised."""
    message = ENTRY.dump_python(entry, mode="json", exclude_none=True)
    scan_batch.apply(args=[message], throw=False)


def kept(dead: DeadLetters) -> Entry:
    """The entry in the only dead letter."""
    (letter,) = dead.letters()
    assert letter.kind is LetterKind.JOB
    whole = dead.get(letter.id)
    assert whole is not None
    return ENTRY.validate_json(whole.body or b"")


class TestItsVerdictCannotBeRecorded:
    @pytest.fixture(autouse=True)
    def _fail(self, monkeypatch: pytest.MonkeyPatch) -> None:
        recording = ScanWork.recording

        def fail(work: ScanWork, entry: Entry, job: ScanJob, report: Report) -> list[Step]:
            if job.key == "b":
                raise OSError("no room")
            return recording(work, entry, job, report)

        monkeypatch.setattr(ScanWork, "recording", fail)

    def test_what_is_left_of_it_is_a_letter_once_patience_is_spent(
        self, dead: DeadLetters, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hasty = services().settings.model_copy(update={"undecided_seconds": 0})
        monkeypatch.setattr(serving, "_services", Services(hasty, os.getpid()))
        services().ledger.record(ENTRY_OF_TWO)

        work_on(ENTRY_OF_TWO)

        assert kept(dead) == Entry("b", JOBS[1:], EVENTS)
        (letter,) = dead.letters()
        assert "no room" in letter.reason
        assert services().ledger.count() == 0

    def test_and_not_before(self, dead: DeadLetters) -> None:
        services().ledger.record(ENTRY_OF_TWO)

        work_on(ENTRY_OF_TWO)

        assert dead.count() == 0
        assert services().ledger.count_postponed() == 1


def test_what_a_redis_refuses_that_is_full_goes_back_into_its_queue(
    valkey: redis.Redis, dead: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is neither given up nor left for the sweep."""
    pauses: list[float] = []
    monkeypatch.setattr("keyhole.fleet.ledger_task.time.sleep", pauses.append)
    services().ledger.record(ENTRY_OF_TWO)
    valkey.config_set("maxmemory", 1)
    try:
        with pytest.raises(Reject) as rejected:
            scan_batch.run(ENTRY.dump_python(ENTRY_OF_TWO, mode="json", exclude_none=True))
    finally:
        valkey.config_set("maxmemory", 0)

    assert rejected.value.requeue
    assert pauses == [REDIS_PAUSE]
    assert dead.count() == 0
    assert services().ledger.is_open("batch")


def test_a_wrong_call_that_a_full_redis_does_not_keep_goes_back_into_its_queue(
    valkey: redis.Redis, dead: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("keyhole.fleet.ledger_task.time.sleep", pauses.append)
    valkey.config_set("maxmemory", 1)
    try:
        with pytest.raises(Reject) as rejected:
            scan_batch.apply(args=["garbage"], throw=False)
    finally:
        valkey.config_set("maxmemory", 0)

    assert rejected.value.requeue
    assert pauses == [REDIS_PAUSE]

    scan_batch.apply(args=["garbage"], throw=False)
    (letter,) = dead.letters()
    assert "cannot be called with its arguments" in letter.reason


def test_a_cancelled_audit_leaves_no_split_batch_open(dead: DeadLetters) -> None:
    ledger, audits = services().ledger, services().audits
    audits.create("audit", AuditSpec(bucket="images"), ruleset="1", scanner="keyhole/test")
    batch = Entry("batch", JOBS, AUDITS, audit="audit")
    parts = [Entry(f"batch/{job.id}", (job,), AUDITS, audit="audit", part_of="batch") for job in JOBS]
    ledger.record(batch)
    ledger.split(batch, parts)
    audits.set_state("audit", AuditState.CANCELLED)

    for part in parts:
        work_on(part)

    assert ledger.count() == 0
    assert ledger.is_done("batch")
    assert dead.count() == 0


class TestItKillsWhoeverWorksOnIt:
    def test_its_verdict_says_so_and_it_alone_is_a_letter(self, dead: DeadLetters) -> None:
        services().ledger.record(ENTRY_OF_TWO)
        services().redis.hset(keys.attempts("b"), "lost", MAX_LOST)

        work_on(ENTRY_OF_TWO)

        assert kept(dead) == Entry("b", JOBS[1:], EVENTS)
        report = services().store.get("images", "b")
        assert report is not None
        assert report.reasons == ("poison",)
        assert services().ledger.is_done("batch")


class TestItIsSentAgainInVain:
    def test_what_is_left_of_it_is_a_letter(self, dead: DeadLetters) -> None:
        services().ledger.record(ENTRY_OF_TWO)
        services().ledger.mark_done("a")

        tasks.give_up(ENTRY_OF_TWO, "nobody finished it")

        assert kept(dead) == Entry("batch", JOBS[1:], EVENTS)

    def test_nothing_is_left_of_it(self, dead: DeadLetters) -> None:
        for job in JOBS:
            services().ledger.mark_done(job.id)

        tasks.give_up(ENTRY_OF_TWO, "nobody finished it")

        assert dead.count() == 0
