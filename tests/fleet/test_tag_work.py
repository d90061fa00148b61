"""The work on tags: a verdict stays valid even if writing tags fails, and owed tags need no further scan."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import stamina

from keyhole.fleet.scanning import ScanWork
from keyhole.fleet.services import Services
from keyhole.fleet.tagging import PAGE, TagWork
from keyhole.intake.dead_letters import LetterKind
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.rate_limit import RateLimiter
from keyhole.jobs.tag_turn import TagTurn
from keyhole.reasons import Reason, Status
from keyhole.results.tag_writer import TagRequest, TagWriter
from keyhole.results.tags import TAG_DEBT, TagDebt, own_tags
from keyhole.scan.report import Report
from keyhole.settings import Settings
from keyhole.store import keys
from tests.jobs.clock import pass_seconds
from tests.servers.model_s3 import Fault, Killed, ModelS3, Stored

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
#: The requests of a write without conflicts.
USUAL = ["GetObjectTagging", "HeadObject", "PutObjectTagging", "GetObjectTagging", "HeadObject"]
FORGED = {"keyhole-status": "safe", "Keyhole_Status": "safe"}


class Site:
    """An object, and the work on its tags."""

    def __init__(self, valkey: redis.Redis, valkey_url: str, **settings: Any) -> None:
        self.valkey = valkey
        self.s3 = ModelS3(versioned=False)
        given = {"redis_url": valkey_url, "sinks": ("redis", "tags"), **settings}
        self.services = Services(Settings.model_validate(given), os.getpid())
        self.services.__dict__["tags"] = TagWriter(self.s3)  # type: ignore[arg-type] # a model of its client
        self.work = ScanWork(self.services)

    def upload(self, body: bytes = b"image", tags: dict[str, str] | None = None) -> Report:
        """Put the object, and scan it."""
        return self.report(self.s3.put(body, tags))

    def report(self, stored: Stored | None, status: Status = Status.SAFE, **fields: Any) -> Report:
        """A report on an object."""
        given: dict[str, Any] = {
            "etag": None if stored is None else stored.etag,
            "scanned_at": NOON,
            "target": "s3://images/a",
            "bucket": "images",
            "key": "a",
            "scanner": "keyhole/test",
            "ruleset": "1",
        }
        return Report(status=status, **given | fields)

    def record(self, report: Report, job_id: str = "job") -> None:
        """Record a verdict."""
        job = ScanJob(id=job_id, bucket="images", key="a")
        self.work.record(Entry(job_id, (job,)), job, report)

    def record_alone(self, report: Report) -> bool:
        """Record a verdict without its tags."""
        return self.services.store.write(report, job_id="job", sequencer=None)

    def leave_undecided(self) -> None:
        """Let a worker work on an entry whose object cannot be read."""
        job = ScanJob(id="undecided", bucket="images", key="a")
        entry = Entry(job.id, (job,))
        self.services.ledger.record(entry)
        report = self.report(None, Status.FAILED, reasons=("network",))
        replace(self.work.runner(), scan=lambda *_: report).run(entry)
        assert self.services.ledger.count_postponed() == 1

    def pay(self) -> None:
        """Let every debt become due, and write its tags."""
        pass_seconds(self.valkey, 130)
        self.s3.take_effect()
        TagWork(self.services).write_due()

    def fail(self, *faults: Fault | None) -> None:
        """Let the next requests fail in this way, and later requests succeed."""
        left = iter(faults)
        self.s3.before = lambda _: next(left, None)

    def fail_writes(self, fault: Fault | None) -> None:
        """Let all writes fail."""
        self.s3.before = lambda operation: fault if operation.startswith(("Put", "Delete")) else None

    @property
    def tags(self) -> dict[str, str]:
        """The object's tags."""
        assert self.s3.current is not None
        return self.s3.current.tags

    @property
    def recorded(self) -> Report | None:
        """The recorded verdict."""
        return self.services.store.get("images", "a")


@pytest.fixture
def site(valkey: redis.Redis, valkey_url: str) -> Iterator[Site]:
    """A site without waits."""
    with stamina.set_testing(True, attempts=3):
        yield Site(valkey, valkey_url)


class TestInNoTrouble:
    def test_a_verdict_is_recorded_and_its_tags_are_written(self, site: Site) -> None:
        report = site.upload(tags={"owner": "them"})

        site.record(report)

        assert site.recorded == report
        assert site.tags == {"owner": "them", **own_tags(report)}
        assert site.s3.requests == USUAL
        assert site.services.tag_debts.count() == 0

    def test_it_costs_two_round_trips_to_redis(self, site: Site) -> None:
        """A lock would need two round trips by itself."""
        report = site.upload()
        site.record(report)
        before = _commands(site.valkey)

        later = {"status": Status.UNSAFE, "scanned_at": NOON + timedelta(hours=1)}
        site.record(report.model_copy(update=later), "another")

        after = _commands(site.valkey)
        sent = {name: after[name] - before.get(name, 0) for name in after}
        # The commands are: hold, record, settle; and the count itself.
        assert {name: count for name, count in sent.items() if count} == {"evalsha": 3, "info": 1}

    def test_where_only_tags_are_kept_nothing_is_recorded(self, valkey: redis.Redis, valkey_url: str) -> None:
        site = Site(valkey, valkey_url, sinks=("tags",))
        report = site.upload()

        site.record(report)

        assert site.tags == own_tags(report)
        assert site.recorded is None


def _commands(valkey: redis.Redis) -> dict[str, int]:
    """How often a client sent each command. Commands in scripts cannot be separated, and are left out."""
    stats = valkey.info("commandstats")
    return {
        name.removeprefix("cmdstat_"): stats[name]["calls"]
        for name in stats
        if name in {"cmdstat_evalsha", "cmdstat_info", "cmdstat_eval", "cmdstat_mget"}
    }


class TestOwed:
    @pytest.mark.parametrize("fault", list(Fault))
    def test_a_verdict_stands_though_its_tags_cannot_be_written(self, site: Site, fault: Fault) -> None:
        """The job is done, and no worker scans the object again."""
        report = site.upload()
        site.fail_writes(fault)

        site.record(report)

        assert site.recorded == report
        debts = site.services.tag_debts
        # If the answer to a write is lost, Keyhole finds that it was done. It could also have been done late.
        assert debts.count() + debts.count_late() == 1

    @pytest.mark.parametrize("fault", list(Fault))
    def test_they_are_written_later(self, site: Site, fault: Fault) -> None:
        report = site.upload()
        site.fail_writes(fault)
        site.record(report)
        site.pay()

        site.fail_writes(None)
        site.pay()
        site.pay()

        assert site.tags == own_tags(report)
        debts = site.services.tag_debts
        assert (debts.count(), debts.count_late()) == (0, 0)

    @pytest.mark.parametrize("head", ["senseless", "empty"])
    def test_a_look_that_makes_no_sense_holds_up_no_verdict(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, head: str
    ) -> None:
        """A proxy can spoil one kind of answer for hours. Then the tags become a dead letter."""
        report = site.upload()
        if head == "senseless":
            site.s3.before = lambda operation: Fault.SENSELESS if operation == "HeadObject" else None
        else:
            monkeypatch.setattr(site.s3, "head_object", lambda **_: {})

        site.record(report)
        site.pay()

        assert site.recorded == report
        owed = site.services.tag_debts.owed("images", "a", None)
        assert owed is not None
        assert owed.history.reasons == {"server_error": 2}
        pass_seconds(site.valkey, 6 * 3600)
        site.pay()
        assert site.services.dead_letters.count() == 1

    def test_one_answer_that_goes_wrong_is_made_up_for_at_once(self, site: Site) -> None:
        report = site.upload()
        site.fail(Fault.SLOW_DOWN)

        site.record(report)

        assert site.tags == own_tags(report)
        assert site.services.tag_debts.count() == 0

    def test_what_is_denied_is_not_tried_three_times_in_a_row(self, site: Site) -> None:
        report = site.upload()
        site.fail_writes(Fault.DENIED)

        site.record(report)

        assert site.s3.requests.count("PutObjectTagging") == 1

    def test_every_failed_request_is_counted(self, site: Site, failures: Counter[Reason]) -> None:
        report = site.upload()
        site.fail(Fault.SLOW_DOWN, None, None, Fault.DENIED)

        site.record(report)

        assert failures == {Reason.SLOW_DOWN: 1, Reason.ACCESS_DENIED: 1}

    def test_an_object_that_was_replaced_owes_nothing_any_more(self, site: Site) -> None:
        """The new object is scanned separately."""
        report = site.upload()
        site.fail_writes(Fault.DENIED)
        site.record(report)
        site.s3.put(b"another", {"owner": "them"})

        site.fail_writes(None)
        site.pay()

        assert site.tags == {"owner": "them"}
        assert site.services.tag_debts.count() == 0

    def test_a_page_of_them_is_written_at_once(self, site: Site) -> None:
        """A task writes no further page, so that it ends in time."""
        debt = TAG_DEBT.validate_python({"bucket": "images", "key": "a", "etag": "0"})
        for number in range(PAGE + 1):
            site.services.tag_debts.record(
                TAG_DEBT.validate_python({"bucket": debt.bucket, "key": str(number)})
            )

        TagWork(site.services).write_due()

        assert site.services.tag_debts.count() == 1

    def test_as_many_tasks_are_sent_as_are_needed(self, site: Site) -> None:
        """Waiting tasks are not sent again, because while S3 is unreachable they do not end soon."""
        work = TagWork(site.services)
        assert work.tasks_to_send(lambda: 0) == 0

        for number in range(PAGE + 1):
            site.services.tag_debts.record(TagDebt("images", str(number)))

        assert work.tasks_to_send(lambda: 0) == 2
        assert work.tasks_to_send(lambda: 1) == 1
        assert work.tasks_to_send(lambda: 5) == 0

    def test_the_rate_of_an_audit_is_kept(self, site: Site) -> None:
        """The rate also applies to tags that are written later."""
        report = site.upload()
        site.fail_writes(Fault.DENIED)
        TagWork(site.services).tag(report, lambda: True, rate=1000, asked=lambda _: None)
        site.fail_writes(None)

        site.pay()

        assert site.tags == own_tags(report)
        assert [key for key in site.valkey.scan_iter() if b":rate:" in key]

    def test_a_rate_that_leaves_no_time_does_not_hold_up_a_verdict(self, site: Site) -> None:
        """It is no failure, so the debt does not become a dead letter after some hours."""
        report = site.upload()
        RateLimiter(site.valkey, "images", 0.01).reserve(5, first_within=0)

        until = time.monotonic() + 60
        TagWork(site.services).tag(
            report, lambda: site.record_alone(report), rate=0.01, asked=lambda _: None, until=until
        )

        assert site.recorded == report
        assert site.s3.requests == []
        owed = site.services.tag_debts.owed("images", "a", None)
        assert owed is not None
        assert (owed.times, owed.since) == (0, None)

    def test_tags_without_a_slot_are_put_back_until_there_is_one(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A task does not wait while another task waits."""
        _do_not_wait(monkeypatch)
        report = site.upload()
        site.services.tag_debts.record(TagDebt.of(report, rate=0.22))
        TagTurn(site.valkey).reserve(RateLimiter(site.valkey, "other", 0.22))

        site.pay()

        assert site.s3.requests == []
        assert site.services.tag_debts.count() == 1
        site.valkey.delete(keys.debts("tags", "turn"))
        pass_seconds(site.valkey, 600)
        TagWork(site.services).write_due()
        assert site.tags == own_tags(report)
        assert site.services.tag_debts.count() == 0

    def test_who_has_nothing_else_to_do_waits_for_every_slot(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _do_not_wait(monkeypatch)
        report = site.upload()
        site.services.tag_debts.record(TagDebt.of(report, rate=0.01))
        TagTurn(site.valkey).reserve(RateLimiter(site.valkey, "images", 0.01))

        TagWork(site.services).write_due(patient=True)

        assert site.tags == own_tags(report)

    def test_every_request_is_told(self, site: Site) -> None:
        """An audit counts the cost of all requests."""
        asked: list[TagRequest] = []
        report = site.upload()

        TagWork(site.services).tag(report, lambda: True, rate=0, asked=asked.append)

        assert [str(request) for request in asked] == USUAL

    def test_a_server_that_takes_too_long_is_left_alone(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The worker does not wait. The remaining tags are written later."""
        report = site.upload()
        monkeypatch.setattr("keyhole.fleet.tag_attempt.LONGEST_WRITE", 0)

        site.record(report)

        assert site.s3.requests == []
        owed = site.services.tag_debts.owed("images", "a", None)
        assert owed is not None
        assert owed.history.reasons == {"network": 1}


def _do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rate limits give slots without a wait."""
    clock = SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic)
    monkeypatch.setattr("keyhole.jobs.rate_limit.time", clock)


class TestGivenUp:
    def test_what_cannot_be_written_for_hours_is_a_dead_letter(self, site: Site) -> None:
        """The letter contains the errors so far, and a retry owes the tags again."""
        report = site.upload()
        site.fail_writes(Fault.DENIED)
        site.record(report)
        for _ in range(3):
            site.pay()
        assert site.services.dead_letters.count() == 0

        pass_seconds(site.valkey, 6 * 3600)
        site.pay()

        (letter,) = site.services.dead_letters.letters()
        assert letter.kind is LetterKind.TAGS
        assert "attempts that failed with access_denied: 4" in letter.reason
        assert site.services.tag_debts.count() == 0
        site.fail_writes(None)
        whole = site.services.dead_letters.get(letter.id)
        assert whole is not None
        site.services.tag_debts.record(TAG_DEBT.validate_json(whole.body or b""))
        site.pay()
        assert site.tags == own_tags(report)

    def test_without_patience_it_is_one_at_once(self, valkey: redis.Redis, valkey_url: str) -> None:
        site = Site(valkey, valkey_url, undecided_seconds=0)
        report = site.upload()
        site.fail_writes(Fault.DENIED)

        site.record(report)

        assert site.services.dead_letters.count() == 1
        assert site.recorded == report


class TestTagsFollowTheRecord:
    def test_a_scan_that_fails_leaves_the_tags_of_the_verdict(self, site: Site) -> None:
        """The record also keeps the verdict."""
        report = site.upload()
        site.record(report)
        failed = site.report(site.s3.current, Status.FAILED, reasons=("network",))

        site.record(failed, "another")

        assert site.tags == own_tags(report)
        assert site.recorded is not None
        assert site.recorded.status is Status.SAFE

    def test_an_older_scan_that_comes_late_leaves_the_tags_of_the_newer_one(self, site: Site) -> None:
        newer = site.upload().model_copy(
            update={"status": Status.UNSAFE, "scanned_at": NOON + timedelta(hours=1)}
        )
        site.record(newer, "newer")

        site.record(site.report(site.s3.current), "older")

        assert site.tags == own_tags(newer)
        assert site.recorded == newer

    def test_so_it_is_where_the_newer_one_is_recorded_while_the_tags_are_owed(self, site: Site) -> None:
        older = site.upload()
        newer = older.model_copy(update={"status": Status.UNSAFE, "scanned_at": NOON + timedelta(hours=1)})
        site.fail_writes(Fault.DENIED)
        site.record(older, "older")
        site.services.store.write(newer, job_id="newer", sequencer=None)

        site.fail_writes(None)
        site.pay()

        assert site.tags == own_tags(newer)


class TestForgeries:
    def test_where_no_scan_is_possible_they_are_removed(self, site: Site) -> None:
        site.upload(tags={"owner": "them", **FORGED})

        site.record(site.report(None, Status.UNREADABLE, reasons=("archived",)))

        assert site.tags == {"owner": "them"}

    def test_they_are_removed_later_if_that_fails(self, site: Site) -> None:
        site.upload(tags=FORGED)
        site.fail_writes(Fault.SLOW_DOWN)
        site.record(site.report(None, Status.UNREADABLE, reasons=("archived",)))
        assert site.tags == FORGED

        site.fail_writes(None)
        site.pay()

        assert site.tags == {}

    def test_they_are_removed_though_the_object_was_scanned_meanwhile(self, site: Site) -> None:
        """The new scan's verdict replaces them."""
        report = site.upload(tags=FORGED)
        site.fail_writes(Fault.SLOW_DOWN)
        site.record(site.report(None, Status.UNREADABLE, reasons=("access_denied",)))
        report = report.model_copy(update={"scanned_at": NOON + timedelta(hours=1)})
        site.services.store.write(report, job_id="another", sequencer=None)

        site.fail_writes(None)
        site.pay()

        assert site.tags == own_tags(report)


class TestUndecided:
    """While an object's content is undecided, it must not be tagged `safe`."""

    def test_forged_tags_are_removed_without_a_scan(self, site: Site) -> None:
        site.upload(tags={"owner": "them", **FORGED})

        site.leave_undecided()
        assert site.s3.requests == []
        site.pay()

        assert site.tags == {"owner": "them"}
        assert site.recorded is None

    def test_while_s3_is_away_the_removal_is_owed(self, site: Site) -> None:
        site.upload(tags=FORGED)
        site.leave_undecided()
        site.s3.before = lambda _: Fault.RESET
        site.pay()
        assert site.services.tag_debts.count() == 1

        site.s3.before = lambda _: None
        site.pay()

        assert site.tags == {}
        assert site.services.dead_letters.count() == 0

    def test_a_scan_that_decides_meanwhile_writes_its_tags(self, site: Site) -> None:
        report = site.upload(tags=FORGED)
        site.leave_undecided()

        site.record(report)
        site.pay()

        assert site.tags == own_tags(report)
        assert site.services.tag_debts.count() == 0

    def test_the_tags_of_a_verdict_on_the_same_object_stay(self, site: Site) -> None:
        report = site.upload()
        site.record(report)
        site.s3.requests.clear()

        site.leave_undecided()
        site.pay()

        assert site.tags == own_tags(report)
        assert site.s3.requests == ["GetObjectTagging", "HeadObject"]

    def test_a_verdict_on_another_object_confirms_no_tags(self, site: Site) -> None:
        site.record(site.upload(b"old"))
        site.upload(b"new", tags=FORGED)

        site.leave_undecided()
        site.pay()

        assert site.tags == {}

    def test_a_verdict_on_another_version_confirms_no_tags(self, site: Site) -> None:
        """The scan got no answer, so it does not know the version."""
        site.s3.versioned = True
        report = site.upload(b"old").model_copy(update={"version_id": "v1"})
        site.record(report)
        site.upload(b"new", tags=FORGED)

        site.leave_undecided()
        site.pay()

        assert site.tags == {}
        assert site.s3.versions[0].tags == own_tags(report)

    def test_a_removal_at_the_same_time_as_a_scan_is_made_up_for(self, site: Site) -> None:
        """The scan knows the version, so it does not wait for the removal."""
        site.s3.versioned = True
        report = site.upload(tags=FORGED).model_copy(update={"version_id": "v1"})
        site.leave_undecided()

        def scan(operation: str) -> None:
            if operation == "DeleteObjectTagging":
                site.s3.before = lambda _: None
                site.record(report)

        site.s3.before = scan
        site.pay()
        assert site.tags == {}
        site.pay()

        assert site.tags == own_tags(report)
        debts = site.services.tag_debts
        assert (debts.count(), debts.count_late()) == (0, 0)

    def test_without_records_nobody_knows_which_tags_are_forged(
        self, valkey: redis.Redis, valkey_url: str
    ) -> None:
        site = Site(valkey, valkey_url, sinks=("tags",))
        report = site.upload()
        site.record(report)

        site.leave_undecided()
        site.pay()

        assert site.tags == own_tags(report)


class TestAKilledWorker:
    @pytest.mark.parametrize("step", range(len(USUAL) + 1))
    @pytest.mark.parametrize("replaced_before", ["PutObjectTagging", "the end"])
    def test_leaves_no_tag_on_an_object_that_took_the_place(
        self, site: Site, step: int, replaced_before: str
    ) -> None:
        """The process is killed at a request or while recording. A later check corrects the tags."""
        report = site.upload(b"old")
        steps = iter(range(100))

        def kill(operation: str) -> None:
            if replaced_before == operation:
                site.s3.put(b"new")
            if next(steps) == step:
                raise Killed

        site.s3.before = kill

        with suppress(Killed):
            TagWork(site.services).tag(report, lambda: bool(kill("record")), rate=0, asked=lambda _: None)
        site.s3.before = lambda _: None
        if site.s3.current is None or site.s3.current.body == b"old":
            # Another client reads the object with its tags, and copies it over the new object.
            site.s3.put(b"new", dict(site.tags))
        site.pay()

        assert site.tags == {}

    def test_leaves_the_tags_of_its_scan_on_the_object_that_is_still_there(self, site: Site) -> None:
        """The scan is repeated, because nothing was recorded."""
        report = site.upload()
        site.s3.before = lambda _: _kill() if len(site.s3.requests) == len(USUAL) else None

        with suppress(Killed):
            site.record(report)
        site.s3.before = lambda _: None
        site.pay()

        assert site.tags == own_tags(report)


def _kill() -> None:
    raise Killed


def test_a_replacement_before_the_write_leaves_nothing_though_the_withdrawal_fails(site: Site) -> None:
    """The new bytes are tagged `safe` for a moment, but not longer."""
    report = site.upload(b"old")
    writes = iter(range(100))

    def disturb(operation: str) -> Fault | None:
        if operation == "PutObjectTagging":
            site.s3.put(b"new")
        return Fault.SERVER_ERROR if operation == "DeleteObjectTagging" and next(writes) < 4 else None

    site.s3.before = disturb

    site.record(report)
    assert site.tags["keyhole-status"] == "safe"
    site.pay()

    assert site.tags == {}
