"""The work on an entry: every job gets one verdict, whatever happens to others and to who works on them."""

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Barrier, Lock

import pytest
import redis
from celery.exceptions import SoftTimeLimitExceeded

from worker.jobs.job import ScanJob
from worker.jobs.ledger import Entry, Ledger
from worker.jobs.perform import MAX_ATTEMPTS, NotBegunError, Performer
from worker.results import keys
from worker.scan.report import Report, Status

JOBS = tuple(ScanJob(id=f"job-{number}", bucket="images", key=f"{number}.qcow2") for number in range(4))
BATCH = Entry("batch", JOBS)


def report(job: ScanJob) -> Report:
    return Report(
        target=f"s3://{job.bucket}/{job.key}",
        bucket=job.bucket,
        key=job.key,
        status=Status.SAFE,
        scanned_at=datetime(2026, 5, 1, tzinfo=UTC),
        scanner="keyhole/test",
        ruleset="1",
    )


class Site:
    """Scans and records as a test wants it, and notes down what was done."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.scanned: list[str] = []
        self.recorded: dict[str, list[Report]] = {}
        self.on_scan: Callable[[ScanJob], object] = lambda _: None
        self.on_record: Callable[[ScanJob], object] = lambda _: None
        self.on_finish: Callable[[Entry], object] = lambda _: None
        self.finished: list[str] = []
        self._lock = Lock()

    def perform(self, entry: Entry, *, alone: bool = False, seconds: float = 60) -> None:
        performer = Performer(
            self._scan, self._record, self._finish, self.ledger, threads=len(JOBS), begin_seconds=seconds
        )
        performer.perform(entry, alone=alone)

    def statuses(self) -> dict[str, list[Status]]:
        return {job_id: [report.status for report in reports] for job_id, reports in self.recorded.items()}

    def _scan(self, _: Entry, job: ScanJob) -> Report:
        with self._lock:
            self.scanned.append(job.id)
        self.on_scan(job)
        return report(job)

    def _record(self, _: Entry, job: ScanJob, report: Report) -> None:
        self.on_record(job)
        with self._lock:
            self.recorded.setdefault(job.id, []).append(report)

    def _finish(self, entry: Entry) -> None:
        self.on_finish(entry)
        self.finished.append(entry.id)


@pytest.fixture
def site(valkey: redis.Redis) -> Site:
    ledger = Ledger(valkey, done_seconds=3600)
    ledger.note(BATCH)
    return Site(ledger)


ALL_SAFE = {job.id: [Status.SAFE] for job in JOBS}


class TestOnce:
    @pytest.mark.parametrize("alone", [True, False])
    def test_every_job_gets_its_verdict_and_the_entry_is_struck(self, site: Site, alone: bool) -> None:
        site.perform(BATCH, alone=alone)

        assert site.statuses() == ALL_SAFE
        assert site.ledger.is_done(BATCH.id)
        assert site.ledger.count() == 0

    def test_a_struck_entry_is_passed_over(self, site: Site) -> None:
        site.perform(BATCH)
        site.perform(BATCH)

        assert site.statuses() == ALL_SAFE
        assert sorted(site.scanned) == sorted(ALL_SAFE)

    def test_jobs_whose_verdict_stands_are_passed_over(self, site: Site) -> None:
        """What the last worker did before it was lost."""
        site.ledger.mark_done("job-0")
        site.ledger.mark_done("job-2")

        site.perform(BATCH, alone=True)

        assert site.scanned == ["job-1", "job-3"]
        assert site.ledger.is_done(BATCH.id)

    def test_an_entry_that_nobody_noted_is_worked_on_all_the_same(self, site: Site) -> None:
        """It was published by its task's name."""
        site.perform(Entry("unknown", JOBS[:1]))

        assert site.statuses() == {"job-0": [Status.SAFE]}

    def test_an_entry_without_jobs_is_done(self, site: Site) -> None:
        site.perform(Entry("empty", ()))

        assert site.ledger.is_done("empty")


class TestFinishing:
    def test_what_follows_is_done_when_all_verdicts_stand_and_before_the_entry_is_struck(
        self, site: Site
    ) -> None:
        seen: list[tuple[int, bool]] = []
        site.on_finish = lambda entry: seen.append((len(site.recorded), site.ledger.is_done(entry.id)))

        site.perform(BATCH)
        site.perform(BATCH)

        assert seen == [(len(JOBS), False)]

    def test_it_is_done_again_where_it_failed(self, site: Site) -> None:
        def fail(_: Entry) -> None:
            raise ConnectionError("Redis is away")

        site.on_finish = fail
        with pytest.raises(ConnectionError):
            site.perform(BATCH)
        site.on_finish = lambda _: None
        site.scanned.clear()

        site.perform(BATCH)

        assert site.finished == [BATCH.id]
        assert site.scanned == []
        assert site.ledger.is_done(BATCH.id)


class TestAtOnceOrAlone:
    def test_the_jobs_of_a_batch_are_scanned_at_once(self, site: Site) -> None:
        """Each waits in its scan until all are there."""
        meeting = Barrier(len(JOBS), timeout=10)
        site.on_scan = lambda _: meeting.wait()

        site.perform(BATCH)

        assert site.statuses() == ALL_SAFE

    def test_alone_each_has_its_verdict_before_the_next_is_begun(self, site: Site) -> None:
        standing: list[list[str]] = []
        site.on_scan = lambda _: standing.append(sorted(site.recorded))

        site.perform(BATCH, alone=True)

        assert standing == [[], ["job-0"], ["job-0", "job-1"], ["job-0", "job-1", "job-2"]]


class TestAttempts:
    def test_a_start_is_counted_before_the_work(self, site: Site, valkey: redis.Redis) -> None:
        """It could not be counted by who is killed by it."""
        counts: list[bytes | None] = []
        site.on_scan = lambda job: counts.append(valkey.get(keys.attempts(job.id)))

        site.perform(BATCH, alone=True)

        assert counts == [b"1"] * len(JOBS)

    def test_a_job_is_given_up_after_so_many_starts_and_the_others_are_not(self, site: Site) -> None:
        for _ in range(MAX_ATTEMPTS):
            site.ledger.attempt(BATCH, "job-1")

        site.perform(BATCH)

        assert site.statuses() == ALL_SAFE | {"job-1": [Status.FAILED]}
        assert site.recorded["job-1"][0].reasons == ("worker_lost",)
        assert "job-1" not in site.scanned
        assert site.ledger.is_done(BATCH.id)

    def test_the_last_start_may_still_succeed(self, site: Site) -> None:
        for _ in range(MAX_ATTEMPTS - 1):
            site.ledger.attempt(BATCH, "job-1")

        site.perform(BATCH)

        assert site.statuses() == ALL_SAFE


class TestFailures:
    @pytest.mark.parametrize("alone", [True, False])
    def test_a_bug_in_a_scan_is_that_objects_verdict(self, site: Site, alone: bool) -> None:
        def fail(job: ScanJob) -> None:
            if job.id == "job-1":
                raise ZeroDivisionError

        site.on_scan = fail

        site.perform(BATCH, alone=alone)

        assert site.statuses() == ALL_SAFE | {"job-1": [Status.FAILED]}
        assert site.recorded["job-1"][0].reasons == ("internal_error",)
        assert site.ledger.is_done(BATCH.id)

    def test_a_verdict_that_is_not_recorded_leaves_the_entry_open(self, site: Site) -> None:
        def fail(job: ScanJob) -> None:
            if job.id == "job-1":
                raise ConnectionError("Redis is away")

        site.on_record = fail

        with pytest.raises(ConnectionError, match="Redis is away"):
            site.perform(BATCH)

        assert not site.ledger.is_done(BATCH.id)
        assert site.ledger.count() == 1
        marked = [job.id for job in JOBS if site.ledger.job_done(job.id)]
        assert marked == ["job-0", "job-2", "job-3"]

    def test_the_next_delivery_does_what_was_left(self, site: Site) -> None:
        def fail(job: ScanJob) -> None:
            if job.id == "job-1":
                raise ConnectionError("Redis is away")

        site.on_record = fail
        with pytest.raises(ConnectionError):
            site.perform(BATCH)
        site.on_record = lambda _: None
        site.scanned.clear()

        site.perform(BATCH, alone=True)

        assert site.scanned == ["job-1"]
        assert site.statuses() == ALL_SAFE
        assert site.ledger.is_done(BATCH.id)

    def test_a_time_limit_leaves_what_has_not_begun_to_the_next_delivery(self, site: Site) -> None:
        """Celery raises it between two lines of whoever works."""

        class TimeLimit(BaseException):
            pass

        def limit(job: ScanJob) -> None:
            if job.id == "job-2":
                raise TimeLimit

        site.on_scan = limit

        with pytest.raises(TimeLimit):
            site.perform(BATCH, alone=True)

        assert site.scanned == ["job-0", "job-1", "job-2"]
        assert not site.ledger.is_done(BATCH.id)
        assert site.ledger.job_done("job-1")
        assert not site.ledger.job_done("job-2")


class TestTimeIsUp:
    """An entry of long scans is done in several deliveries."""

    @pytest.mark.parametrize("alone", [True, False])
    def test_what_was_not_begun_is_left_to_another_delivery(self, site: Site, alone: bool) -> None:
        for number in range(len(JOBS) - 1):
            with pytest.raises(NotBegunError):
                site.perform(BATCH, alone=alone, seconds=-1)
            assert site.scanned == [f"job-{each}" for each in range(number + 1)]
            assert not site.ledger.is_done(BATCH.id)
            assert site.finished == []

        site.perform(BATCH, alone=alone, seconds=-1)

        assert site.statuses() == ALL_SAFE
        assert site.ledger.is_done(BATCH.id)

    def test_what_is_left_is_no_start_of_its(self, site: Site, valkey: redis.Redis) -> None:
        with pytest.raises(NotBegunError):
            site.perform(BATCH, seconds=-1)

        assert valkey.get(keys.attempts("job-0"))
        assert not valkey.exists(keys.attempts("job-1"))

    def test_what_went_wrong_matters_more(self, site: Site) -> None:
        def fail(_: ScanJob) -> None:
            raise ConnectionError("Redis is away")

        site.on_record = fail

        with pytest.raises(ConnectionError):
            site.perform(BATCH, seconds=-1)

    def test_celerys_time_limit_is_no_fault_of_the_object_that_it_hits(self, site: Site) -> None:
        def limit(_: ScanJob) -> None:
            raise SoftTimeLimitExceeded

        site.on_scan = limit

        with pytest.raises(SoftTimeLimitExceeded):
            site.perform(Entry("alone", JOBS[:1]), alone=True)

        assert site.recorded == {}
