"""The work on an entry: every job gets one verdict, even if other jobs or the worker fail."""

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from threading import Barrier, Event, Lock, Thread, main_thread
from typing import cast
from unittest.mock import patch

import pytest
import redis
from celery.exceptions import SoftTimeLimitExceeded

from keyhole.fleet import attempt_pool
from keyhole.fleet.attempt_pool import HungError
from keyhole.fleet.entry_runner import MAX_INTERNAL_ERRORS, MAX_LOST, EntryRunner
from keyhole.jobs.breaker import MIN_SCANS, Breaker
from keyhole.jobs.delays import LONGEST_DELAY
from keyhole.jobs.entry import Entry
from keyhole.jobs.heartbeat import Heartbeat
from keyhole.jobs.job import ScanJob
from keyhole.jobs.lease_length import LEASE_SECONDS
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.liveness import Liveness
from keyhole.reasons import Status
from keyhole.results.redis_store import RedisStore
from keyhole.scan.report import Report
from keyhole.store import keys
from keyhole.store.round_trips import Chain, RoundTrips, Step
from tests.e2e import commands

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


class Workers(Liveness):
    """Worker processes: the working one, and others, of which some live."""

    living: frozenset[str] = frozenset()

    def is_alive(self, name: str) -> bool:
        return name in self.living


class Site:
    """Simulates scans and records as a test specifies, and records what happened."""

    def __init__(self, valkey: redis.Redis) -> None:
        self._valkey = valkey
        self.ledger = Ledger(valkey, done_seconds=3600)
        self.liveness = Workers(valkey)
        self.scanned: list[str] = []
        self.recorded: dict[str, list[Report]] = {}
        self.told: list[tuple[str, Status]] = []
        self.on_scan: Callable[[ScanJob], object] = lambda _: None
        self.on_record: Callable[[ScanJob], object] = lambda _: None
        self.on_finish: Callable[[Entry], object] = lambda _: None
        self.steps: Callable[[ScanJob, Report], Chain] = lambda *_: ()
        self.finished: list[str] = []
        self.given_up: dict[str, str] = {}
        self.undecided: list[str] = []
        self.breaker = Breaker()
        self._lock = Lock()

        self.heartbeat = Heartbeat(self.ledger, self.liveness)

    def run(
        self,
        entry: Entry,
        *,
        seconds: float = 60,
        patience: float = 3600,
        cpu: float = 60,
        threads: int = len(JOBS),
    ) -> list[Entry]:
        runner = EntryRunner(
            scan=self._scan,
            record=self._record,
            on_undecided=self._on_undecided,
            dead_letter=self._give_up,
            on_complete=self._finish,
            on_verdict=lambda _entry, job, report: self.told.append((job.id, report.status)),
            ledger=self.ledger,
            round_trips=RoundTrips(self._valkey),
            heartbeat=self.heartbeat,
            breaker=self.breaker,
            liveness=self.liveness,
            threads=threads,
            begin_seconds=seconds,
            retry_seconds=patience,
            cpu_seconds=cpu,
        )
        return runner.run(entry)

    def _on_undecided(self, _: Entry, job: ScanJob, report: Report) -> None:
        assert report.status is Status.FAILED
        self.undecided.append(job.id)

    def _give_up(self, _: Entry, job: ScanJob, report: Report, history: str) -> None:
        self.given_up[job.id] = f"{(*report.reasons, report.status)[0]}: {history}"

    def statuses(self) -> dict[str, list[Status]]:
        return {job_id: [report.status for report in reports] for job_id, reports in self.recorded.items()}

    def _scan(self, _: Entry, job: ScanJob) -> Report:
        with self._lock:
            self.scanned.append(job.id)
        found = self.on_scan(job)
        return found if isinstance(found, Report) else report(job)

    def _record(self, _: Entry, job: ScanJob, report: Report) -> Chain:
        self.on_record(job)
        with self._lock:
            self.recorded.setdefault(job.id, []).append(report)
        return self.steps(job, report)

    def _finish(self, entry: Entry) -> None:
        self.on_finish(entry)
        self.finished.append(entry.id)


@pytest.fixture
def site(valkey: redis.Redis) -> Site:
    site = Site(valkey)
    site.ledger.record(BATCH)
    return site


ALL_SAFE = {job.id: [Status.SAFE] for job in JOBS}


def undecided(job: ScanJob, reason: str = "network") -> Report:
    return report(job).model_copy(
        update={"status": Status.FAILED, "reasons": (reason,), "details": {"error": "no route"}}
    )


class TestOnce:
    def test_every_job_gets_its_verdict_and_the_entry_is_complete(self, site: Site) -> None:
        assert site.run(BATCH) == []

        assert site.statuses() == ALL_SAFE
        assert sorted(site.told) == sorted((job.id, Status.SAFE) for job in JOBS)
        assert site.ledger.is_done(BATCH.id)
        assert site.ledger.count() == 0

    def test_a_complete_entry_is_skipped(self, site: Site) -> None:
        site.run(BATCH)
        site.run(BATCH)

        assert site.statuses() == ALL_SAFE
        assert sorted(site.scanned) == sorted(ALL_SAFE)

    def test_jobs_with_a_verdict_are_skipped(self, site: Site) -> None:
        """The last worker stored these verdicts before it was lost."""
        site.ledger.mark_done("job-0")
        site.ledger.mark_done("job-2")

        site.run(BATCH)

        assert sorted(site.scanned) == ["job-1", "job-3"]
        assert site.ledger.is_done(BATCH.id)

    def test_an_entry_that_nobody_noted_is_worked_on_all_the_same(self, site: Site) -> None:
        """The entry was published directly, by its task's name."""
        site.run(Entry("unknown", JOBS[:1]))

        assert site.statuses() == {"job-0": [Status.SAFE]}

    def test_an_entry_without_jobs_is_done(self, site: Site) -> None:
        site.run(Entry("empty", ()))

        assert site.ledger.is_done("empty")

    def test_the_jobs_of_a_batch_are_scanned_at_once(self, site: Site) -> None:
        """Each scan waits until all scans have started."""
        meeting = Barrier(len(JOBS), timeout=commands.PATIENCE)
        site.on_scan = lambda _: meeting.wait() and None

        site.run(BATCH)

        assert site.statuses() == ALL_SAFE


class TestFinishing:
    def test_on_complete_is_called_after_the_verdicts_and_before_the_entry_is_complete(
        self, site: Site
    ) -> None:
        seen: list[tuple[int, bool]] = []
        site.on_finish = lambda entry: seen.append((len(site.recorded), site.ledger.is_done(entry.id)))

        site.run(BATCH)
        site.run(BATCH)

        assert seen == [(len(JOBS), False)]

    def test_it_is_done_again_where_it_failed(self, site: Site) -> None:
        def fail(_: Entry) -> None:
            raise ConnectionError("Redis is away")

        site.on_finish = fail
        with pytest.raises(ConnectionError):
            site.run(BATCH)
        site.on_finish = lambda _: None
        site.scanned.clear()

        site.run(BATCH)

        assert site.finished == [BATCH.id]
        assert site.scanned == []
        assert site.ledger.is_done(BATCH.id)


class TestUndecided:
    """A fault of Keyhole, the network or S3 is not a verdict."""

    @pytest.mark.parametrize(
        "reason",
        ["network", "server_error", "slow_down", "credentials", "clock", "truncated_body", "wrong_range"],
    )
    def test_nothing_is_recorded_and_the_entry_is_postponed(self, site: Site, reason: str) -> None:
        site.on_scan = lambda job: undecided(job, reason) if job.id == "job-1" else None

        assert site.run(BATCH) == []

        assert site.statuses() == {name: found for name, found in ALL_SAFE.items() if name != "job-1"}
        assert not site.ledger.is_done(BATCH.id)
        assert site.ledger.count_postponed() == 1
        assert site.given_up == {}

    def test_the_next_time_only_what_was_undecided_is_scanned(self, site: Site) -> None:
        site.on_scan = lambda job: undecided(job) if job.id == "job-1" else None
        site.run(BATCH)
        site.scanned.clear()
        site.on_scan = lambda _: None

        site.run(BATCH)

        assert site.scanned == ["job-1"]
        assert site.statuses() == ALL_SAFE
        assert site.ledger.is_done(BATCH.id)

    def test_on_undecided_is_called_the_first_time(self, site: Site) -> None:
        site.on_scan = lambda job: undecided(job) if job.id == "job-1" else None

        for _ in range(3):
            site.run(BATCH)

        assert site.undecided == ["job-1"]

    def test_the_delay_grows(self, site: Site, valkey: redis.Redis) -> None:
        site.on_scan = undecided
        delays = []
        for _ in range(8):
            site.run(BATCH)
            (_, due), (_, ledger_now) = (
                valkey.zrange(keys.LEDGER_LATER, 0, -1, withscores=True)[0],
                ("now", float(valkey.hget(keys.LEDGER_CLOCK, "ledger") or 0)),
            )
            delays.append(due - ledger_now)
            site.breaker = Breaker()

        assert 3 < delays[0] < 7
        assert delays[3] > 2 * delays[0]
        assert max(delays) <= LONGEST_DELAY * 1.25

    def test_what_stays_undecided_for_too_long_is_given_up_with_its_history(self, site: Site) -> None:
        site.on_scan = lambda job: undecided(job) if job.id == "job-1" else None
        site.run(BATCH)

        site.run(BATCH, patience=0)

        assert site.statuses() == ALL_SAFE | {"job-1": [Status.FAILED]}
        assert site.given_up == {
            "job-1": "network: attempts that failed with network: 2. The last error: no route"
        }
        assert site.ledger.is_done(BATCH.id)

    def test_a_bug_of_ours_is_given_up_after_a_few_times(self, site: Site) -> None:
        def fail(job: ScanJob) -> None:
            if job.id == "job-1":
                raise ZeroDivisionError("a bug")

        site.on_scan = fail
        for _ in range(MAX_INTERNAL_ERRORS - 1):
            site.run(BATCH)
            assert "job-1" not in site.recorded

        site.run(BATCH)

        assert site.statuses() == ALL_SAFE | {"job-1": [Status.FAILED]}
        assert site.recorded["job-1"][0].reasons == ("internal_error",)
        assert "ZeroDivisionError: a bug" in site.given_up["job-1"]

    def test_a_request_that_is_refused_whatever_the_object_is_a_verdict(self, site: Site) -> None:
        site.on_scan = lambda job: undecided(job, "request")

        site.run(BATCH)

        assert {found for statuses in site.statuses().values() for found in statuses} == {Status.FAILED}
        assert site.ledger.is_done(BATCH.id)

    def test_a_bucket_whose_breaker_is_open_is_not_scanned(self, site: Site) -> None:
        for _ in range(MIN_SCANS):
            site.breaker.record("images", decided=False)

        site.run(BATCH)

        assert site.scanned == []
        assert site.ledger.count_postponed() == 1


class TestLostWorkers:
    def lose(self, site: Site, entry: Entry, *job_ids: str) -> None:
        """Simulate a worker that began an entry and these jobs, and was killed."""
        site.ledger.leases.acquire(entry, "lost", force=True)
        for job_id in job_ids:
            site.ledger.attempts.start(job_id, "lost", site.liveness.is_alive)

    def test_what_it_was_busy_with_goes_on_alone_and_the_rest_in_few_parts(self, site: Site) -> None:
        jobs = tuple(ScanJob(id=f"job-{number}", bucket="images", key="x") for number in range(100))
        entry = Entry("many", jobs)
        site.ledger.record(entry)
        self.lose(site, entry, "job-1")

        parts = site.run(entry)

        assert [len(part.jobs) for part in parts] == [*[10] * 9, 9, 1]
        assert sorted(job.id for part in parts for job in part.jobs) == sorted(job.id for job in jobs)
        self.lose(site, parts[0], "job-0")
        again = site.run(parts[0])
        assert [len(part.jobs) for part in again] == [1] * 10
        assert len({part.id for part in (*parts, *again)}) == 21

    def test_what_was_begun_goes_on_after_what_was_not(self, site: Site) -> None:
        self.lose(site, BATCH, "job-1", "job-3")
        site.ledger.mark_done("job-0")

        parts = site.run(BATCH)

        assert [[job.id for job in part.jobs] for part in parts] == [["job-2"], ["job-1"], ["job-3"]]
        assert {part.part_of for part in parts} == {BATCH.id}
        assert site.scanned == []

    def test_the_last_part_completes_the_whole(self, site: Site) -> None:
        self.lose(site, BATCH, "job-1")
        parts = site.run(BATCH)
        for part in parts[:-1]:
            site.run(part)
        assert site.finished == []
        assert not site.ledger.is_done(BATCH.id)

        site.run(parts[-1])

        assert site.statuses() == ALL_SAFE
        assert site.finished == [BATCH.id]
        assert site.ledger.is_done(BATCH.id)
        assert site.ledger.count() == 0

    def test_the_message_of_the_whole_does_nothing_while_its_parts_go_on(self, site: Site) -> None:
        """The broker delivers the entry's message again."""
        self.lose(site, BATCH, "job-1")
        site.run(BATCH)

        assert site.run(BATCH) == []

        assert site.scanned == []
        assert not site.ledger.is_done(BATCH.id)

    def test_a_job_that_costs_too_many_workers_is_poison(self, site: Site) -> None:
        alone = Entry("alone", JOBS[:1])
        site.ledger.record(alone)
        for number in range(MAX_LOST):
            site.ledger.leases.acquire(alone, f"lost-{number}", force=True)
            site.ledger.attempts.start("job-0", f"lost-{number}", site.liveness.is_alive)

        site.run(alone)

        assert site.recorded["job-0"][0].reasons == ("poison",)
        assert site.given_up == {"job-0": f"poison: workers lost while they scanned it: {MAX_LOST}"}
        assert site.scanned == []
        assert site.ledger.is_done("alone")

    def test_the_last_worker_may_still_succeed(self, site: Site) -> None:
        alone = Entry("alone", JOBS[:1])
        site.ledger.record(alone)
        for number in range(MAX_LOST - 1):
            site.ledger.attempts.start("job-0", f"lost-{number}", site.liveness.is_alive)

        site.run(alone)

        assert site.statuses() == {"job-0": [Status.SAFE]}

    def test_what_another_worker_is_busy_with_is_left_to_it(self, site: Site) -> None:
        """The broker delivered the message twice."""
        site.liveness.living = frozenset({"other"})
        site.ledger.leases.acquire(BATCH, "other")

        assert site.run(BATCH) == []

        assert site.scanned == []
        assert site.ledger.leases.holder(BATCH.id) == "other"

    def test_an_expired_lease_does_not_keep_others_out(self, site: Site, valkey: redis.Redis) -> None:
        """The holder is frozen, or it released the entry and Redis does not know that."""
        site.liveness.living = frozenset({"other"})
        site.ledger.leases.acquire(BATCH, "other")
        valkey.zincrby(keys.ledger_held(BATCH.queue), -2 * LEASE_SECONDS, BATCH.id)

        site.run(BATCH)

        assert site.statuses() == ALL_SAFE

    def test_a_worker_that_stops_in_order_is_not_lost(self, site: Site) -> None:
        class Stop(BaseException):
            pass

        def stop(_: ScanJob) -> None:
            raise Stop

        site.on_scan = stop
        for _ in range(2 * MAX_LOST):
            with pytest.raises(Stop):
                site.run(BATCH)
        site.on_scan = lambda _: None

        site.run(BATCH)

        assert site.statuses() == ALL_SAFE

    def test_a_pending_release_is_done_before_the_entry_is_begun_again(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If it were done later, it would release the entry while a worker works on it."""

        def away(*_: object, **__: object) -> None:
            raise redis.ConnectionError

        def release_late(_: ScanJob) -> None:
            site.heartbeat.release_pending()
            held.append((site.ledger.leases.holder(BATCH.id), site.ledger.count_postponed()))

        held: list[tuple[str | None, int]] = []
        site.ledger.leases.acquire(BATCH, site.liveness.name)
        with monkeypatch.context() as broken:
            broken.setattr(site.ledger.leases, "release", away)
            site.heartbeat.release(BATCH, site.liveness.name, [])
        site.on_scan = release_late

        site.run(BATCH)

        assert held == [(site.liveness.name, 0)] * len(JOBS)
        assert site.ledger.is_done(BATCH.id)

    def test_jobs_that_another_worker_started_meanwhile_stay_its_own(self, site: Site) -> None:
        site.ledger.attempts.start("job-0", "other", site.liveness.is_alive)

        site.heartbeat.release(BATCH, site.liveness.name, ["job-0"])

        assert site.ledger.attempts.unfinished_among(["job-0"]) == {"job-0"}


class TestRecording:
    def fail(self, job: ScanJob) -> None:
        if job.id == "job-1":
            raise OSError("no room")

    def test_a_verdict_that_is_not_recorded_is_tried_again_later(self, site: Site) -> None:
        site.on_record = self.fail

        site.run(BATCH)

        assert site.ledger.count_postponed() == 1
        assert [job.id for job in JOBS if site.ledger.job_done(job.id)] == ["job-0", "job-2", "job-3"]
        site.on_record = lambda _: None
        site.run(BATCH)
        assert site.statuses() == ALL_SAFE
        assert site.ledger.is_done(BATCH.id)

    def test_one_that_cannot_be_recorded_for_too_long_is_given_up(self, site: Site) -> None:
        site.on_record = self.fail

        site.run(BATCH, patience=0)

        assert "no room" in site.given_up["job-1"]
        assert site.ledger.is_done(BATCH.id)

    def test_a_job_whose_verdict_redis_refuses_is_not_marked(self, site: Site, valkey: redis.Redis) -> None:
        """The verdict and the marker are sent together."""
        valkey.set("text", "x")
        refused = Step("return redis.call('INCR', KEYS[1])", ["text"], [])
        site.steps = lambda job, _: [refused] if job.id == "job-1" else ()

        site.run(BATCH)

        assert [job.id for job in JOBS if site.ledger.job_done(job.id)] == ["job-0", "job-2", "job-3"]
        assert site.ledger.count_postponed() == 1
        assert "not an integer" in str(site.ledger.attempts.history("job-1"))


class TestRoundTrips:
    @staticmethod
    def entry(length: int) -> Entry:
        name = f"of-{length}"
        jobs = (ScanJob(id=f"{name}-{number}", bucket="images", key=f"{number}") for number in range(length))
        return Entry(name, tuple(jobs))

    def used(self, site: Site, valkey: redis.Redis, length: int) -> Counter[str]:
        """Return the pipelines sent, and the commands executed, also inside scripts, for an entry."""
        store = RedisStore(valkey, expiry_seconds=None, stream_length=1000)
        site.heartbeat = Heartbeat(site.ledger, site.liveness, seconds=600)  # no heartbeat is counted
        site.steps = lambda job, report: [store.writing(report, job_id=job.id, sequencer=None)]
        entry = self.entry(length)
        site.ledger.record(entry)
        valkey.config_resetstat()
        with patch.object(valkey, "pipeline", wraps=valkey.pipeline) as pipeline:
            site.run(entry, threads=1)
        used = Counter(pipelines=pipeline.call_count)
        # redis-py's type covers the answers of all protocols
        stats = cast("dict[str, dict[str, int]]", valkey.info("commandstats"))
        for name, stat in stats.items():
            used[name.removeprefix("cmdstat_")] = stat["calls"]
        return used

    def test_an_object_takes_one_round_trip_and_fourteen_commands(
        self, site: Site, valkey: redis.Redis
    ) -> None:
        """This is the most: if several threads wait for Redis, they share a round trip."""
        self.used(site, valkey, 5)  # loads the scripts
        of_ten, of_thirty = self.used(site, valkey, 10), self.used(site, valkey, 30)

        # 10 of the 30 objects had a verdict already, and 5 of the 10. Such an object takes one command more,
        # which reads the row of the earlier verdict.
        assert of_thirty - of_ten == Counter(hget=10 - 5) + Counter(
            {
                name: 20 * times
                for name, times in {
                    "pipelines": 1,
                    # For the start, and for the verdict and its marker
                    "evalsha": 2,
                    "info": 2,
                    # The start
                    "hmget": 1,
                    "hset": 1 + 1,  # also the verdict's row
                    "expire": 1,
                    # The verdict
                    "get": 1,
                    "set": 1 + 1,
                    "zadd": 2,
                    "xadd": 1,
                }.items()
            }
        )

    def test_a_verdict_does_not_wait_for_other_scans(self, site: Site) -> None:
        """The thread has begun its next scan, and that takes long."""
        over = Event()
        site.on_scan = lambda job: over.wait() and None if job.key != "0" else None
        entry = self.entry(len(JOBS) + 1)
        site.ledger.record(entry)

        worker = threading.Thread(target=site.run, args=(entry,))
        worker.start()
        commands.until(lambda: len(site.scanned) == len(entry.jobs))

        assert site.ledger.jobs_done(entry) == {entry.jobs[0].id}
        over.set()
        worker.join()
        assert site.ledger.is_done(entry.id)

    def test_a_job_is_recorded_as_started_only_when_its_scan_begins(self, site: Site) -> None:
        """Otherwise jobs that never began would be blamed for the loss of their worker."""
        entry = self.entry(20)
        ids = [job.id for job in entry.jobs]
        site.ledger.record(entry)
        started: list[tuple[str, set[str]]] = []
        site.on_scan = lambda job: started.append((job.id, site.ledger.attempts.unfinished_among(ids)))

        site.run(entry, threads=1)

        assert [before <= set(ids[: number + 1]) for number, (_, before) in enumerate(started)] == [True] * 20
        assert all(job_id in before for job_id, before in started)


class TestTimeIsUp:
    """An entry of long scans is done in several deliveries."""

    def test_what_was_not_begun_is_left_to_another_delivery(self, site: Site) -> None:
        for number in range(len(JOBS) - 1):
            assert site.run(BATCH, seconds=-1) == [BATCH]
            assert site.scanned == [f"job-{each}" for each in range(number + 1)]
            assert not site.ledger.is_done(BATCH.id)
            assert site.finished == []

        assert site.run(BATCH, seconds=-1) == []

        assert site.statuses() == ALL_SAFE
        assert site.ledger.is_done(BATCH.id)

    def test_what_is_left_is_no_attempt_of_its(self, site: Site) -> None:
        site.run(BATCH, seconds=-1)

        assert site.ledger.attempts.unfinished_among([job.id for job in JOBS]) <= {"job-0"}


class TestTheProcessMustEnd:
    """Finished jobs are marked.

    When the entry is delivered again, each suspected job continues in its own entry.
    """

    @pytest.fixture(autouse=True)
    def _hasty(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Shorten all waits. Hanging scans end with the test."""
        monkeypatch.setattr(attempt_pool, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(attempt_pool, "LAST_SECONDS", 0.5)
        self.over = Event()
        yield
        self.over.set()
        # A scan that ends later would mark its job as done in the next test.
        for thread in threading.enumerate():
            if thread.name.startswith("scan"):
                thread.join()

    def hang(self, *job_ids: str) -> Callable[[ScanJob], None]:
        return lambda job: self.over.wait() if job.id in job_ids else None

    def limit_when(self, condition: Callable[[], bool]) -> None:
        """Send the signal of Celery's time limit to the main thread when a condition is true."""
        main = main_thread().ident or 0

        def send() -> None:
            commands.until(condition)
            signal.pthread_kill(main, signal.SIGUSR1)

        Thread(target=send).start()

    def test_a_scan_does_not_end_by_celerys_time_limit(self, site: Site) -> None:
        def limit(*_: object) -> None:
            raise SoftTimeLimitExceeded

        site.on_scan = self.hang("job-0")
        before = signal.signal(signal.SIGUSR1, limit)
        self.limit_when(lambda: len(site.recorded) == len(JOBS) - 1)

        with pytest.raises(HungError):
            site.run(BATCH)
        signal.signal(signal.SIGUSR1, before)

        assert site.statuses() == {job_id: ALL_SAFE[job_id] for job_id in ALL_SAFE if job_id != "job-0"}
        assert site.ledger.attempts.unfinished_among(["job-0"]) == {"job-0"}
        assert "on_scan" in str(site.ledger.attempts.history("job-0"))

    def test_a_scan_uses_more_cpu_time_than_any_may(self, site: Site) -> None:
        def spin(job: ScanJob) -> None:
            while job.id == "job-0" and not self.over.is_set():
                pass
            self.hang("job-1")(job)

        site.on_scan = spin

        with pytest.raises(HungError, match="1 scans"):
            site.run(BATCH, cpu=0.1)

        assert site.ledger.attempts.unfinished_among(["job-0", "job-1"]) == {"job-0"}
        assert "spin" in str(site.ledger.attempts.history("job-0"))

    def test_a_scan_that_redis_broke_off_is_not_to_blame_for_one_that_hangs(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        marking = site.ledger.marking

        def fail(job_id: str, run: str) -> Step:
            if job_id != "job-0":
                return marking(job_id, run)
            self.limit_when(lambda: len(site.recorded) == len(JOBS) - 2)
            raise redis.ConnectionError

        def raise_limit(*_: object) -> None:
            raise SoftTimeLimitExceeded

        monkeypatch.setattr(site.ledger, "marking", fail)
        site.on_scan = self.hang("job-1")
        before = signal.signal(signal.SIGUSR1, raise_limit)

        with pytest.raises(HungError, match="1 scans"):
            site.run(BATCH)
        signal.signal(signal.SIGUSR1, before)

        assert site.ledger.attempts.unfinished_among(["job-0", "job-1"]) == {"job-1"}

    def test_interrupted_attempts_are_released(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> bool:
            raise redis.ConnectionError

        monkeypatch.setattr(site.ledger, "marking", fail)

        with pytest.raises(redis.ConnectionError):
            site.run(BATCH)

        assert site.ledger.attempts.unfinished_among([job.id for job in JOBS]) == set()
        assert site.ledger.count_postponed() == 1

    def test_a_thread_fails_outside_an_attempt(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """The pool does not wait for the attempts of this thread for ever."""

        def fail(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr(RoundTrips, "run", fail)

        with pytest.raises(MemoryError):
            site.run(BATCH)

    def test_memory_runs_out(self, site: Site) -> None:
        """Keyhole cannot detect which job used the memory."""

        other = Event()

        def take(job: ScanJob) -> None:
            if job.id == "job-0":
                other.wait()
                raise MemoryError
            other.set()
            self.over.wait()

        site.on_scan = take

        with pytest.raises(MemoryError):
            site.run(BATCH)

        assert site.ledger.attempts.unfinished_among([job.id for job in JOBS]) > {"job-0"}
        assert "MemoryError" in str(site.ledger.attempts.history("job-0"))
        assert "job-0" not in site.recorded
