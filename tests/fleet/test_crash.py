"""Redis crashes and loses its last second of writes while the worker continues: no verdict is lost."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keyhole.fleet.entry_runner import EntryRunner
from keyhole.jobs.breaker import Breaker
from keyhole.jobs.entry import Entry
from keyhole.jobs.heartbeat import Heartbeat
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.liveness import Liveness
from keyhole.reasons import Status
from keyhole.results.redis_store import RedisStore
from keyhole.scan.report import Report
from keyhole.store.connection import connect
from keyhole.store.round_trips import Chain, RoundTrips
from tests.faults.valkey import Valkey

JOBS = tuple(ScanJob(id=f"job-{number}", bucket="images", key=f"{number}.qcow2") for number in range(3))
BATCH = Entry("batch", JOBS)


class Site:
    """A worker whose Redis crashes when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.valkey = Valkey(folder)
        self.valkey.start()
        self.client = connect(self.valkey.url)
        self.ledger = Ledger(self.client, done_seconds=3600)
        self.store = RedisStore(self.client, expiry_seconds=None, stream_length=100)
        self.crashes: dict[str, str] = {}

    def run(self) -> list[Entry]:
        liveness = Liveness(self.client)
        return EntryRunner(
            scan=self._scan,
            record=self._record,
            on_undecided=lambda *_: None,
            dead_letter=lambda *_: None,
            on_complete=self._finish,
            on_verdict=lambda *_: None,
            ledger=self.ledger,
            round_trips=RoundTrips(self.client),
            heartbeat=Heartbeat(self.ledger, liveness),
            breaker=Breaker(),
            liveness=liveness,
            threads=1,
            begin_seconds=60,
            retry_seconds=3600,
            cpu_seconds=60,
        ).run(BATCH)

    def verdicts(self) -> list[str]:
        return sorted(verdict.job_id for verdict in self.store.read_stream("0-0").verdicts)

    def _scan(self, _: Entry, job: ScanJob) -> Report:
        if self.crashes.get(job.id) == "scanned":
            del self.crashes[job.id]
            self._crash()
        return Report(
            target=f"s3://{job.bucket}/{job.key}",
            bucket=job.bucket,
            key=job.key,
            status=Status.SAFE,
            scanned_at=datetime.now(UTC),
            scanner="keyhole/test",
            ruleset="1",
        )

    def _record(self, _: Entry, job: ScanJob, report: Report) -> Chain:
        self.store.write(report, job_id=job.id, sequencer=None)
        if self.crashes.get(job.id) == "recorded":
            del self.crashes[job.id]
            self._crash()
        return ()

    def _crash(self) -> None:
        """Lose all writes that were not confirmed to be on the disk."""
        self.valkey.crash_at(lambda floor, _: floor)

    def _finish(self, _: Entry) -> None:
        if self.crashes.pop("all", None):
            self._crash()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.client.close()
    site.valkey.end()


@pytest.mark.parametrize("crash", [("job-1", "scanned"), ("job-1", "recorded"), ("all", "done")])
def test_verdicts_that_redis_lost_are_made_again(site: Site, crash: tuple[str, str]) -> None:
    # Given an accepted entry, and a crash that loses all later writes that were not synced to the disk
    site.ledger.record(BATCH)
    site.valkey.accepted()
    site.crashes = dict([crash])

    # When a worker works on it until nothing must be sent
    rounds = 0
    while site.run():
        rounds += 1
        assert rounds < 5

    # Then every job has exactly one verdict, and the entry is complete
    assert site.verdicts() == [job.id for job in JOBS]
    assert site.ledger.is_done(BATCH.id)
    assert site.ledger.count() == 0
