"""Races for an object's tags: no event at any request leads to a tag `safe` on unsafe bytes.

A seed decides what happens at each request of a scan and of the work on its tags. Another client replaces the
object (also with forged tags), deletes it or tags it, or another process scans it. The request fails in one
of eight ways, or the process is killed. Then the faults end, the system comes to rest, and the tags must be
true.
"""

import os
import random
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
import stamina

from keyhole.fleet.services import Services
from keyhole.fleet.tagging import TagWork
from keyhole.reasons import Status
from keyhole.results.tag_writer import TagWriter
from keyhole.results.tags import OWN_TAGS, STATUS, disagreement, is_own, own_tags
from keyhole.scan.report import Report
from keyhole.settings import Settings
from tests.jobs.clock import pass_seconds
from tests.servers.model_s3 import Fault, Killed, ModelS3, Stored

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
BUCKET = "images"
#: Bodies with this prefix are safe.
GOOD, BAD = b"good", b"bad"
#: The share of requests at which an event happens. Of these, the shares at which the request fails and the
#: process is killed.
HAPPENS, FAILS, KILLED = 0.25, 0.3, 0.1
#: The number of events before a race comes to rest.
MOST_HAPPENINGS = 6


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove all waits and deadlines."""
    monkeypatch.setattr("keyhole.jobs.tag_debts._WAIT_SECONDS", 0)
    monkeypatch.setattr("keyhole.jobs.tag_debts._POLL_SECONDS", 0)
    monkeypatch.setattr("keyhole.results.tag_writer.deadline", lambda _: nullcontext())
    with stamina.set_testing(True, attempts=3):
        yield


class Race:
    """One object, all its clients, and the events."""

    def __init__(self, seed: int, valkey: redis.Redis, valkey_url: str) -> None:
        self.random = random.Random(seed)  # noqa: S311 - not a secret
        self.valkey = valkey
        self.key = f"{seed}-{uuid4().hex}"
        self.s3 = ModelS3(versioned=self.random.random() < 0.3)
        self.s3.before = self._happen
        self.sinks: Any = self.random.choice([("redis", "tags"), ("redis", "tags"), ("tags",)])
        self.site = Services(Settings(redis_url=valkey_url, sinks=self.sinks), os.getpid())
        self.site.__dict__["tags"] = TagWriter(self.s3)  # type: ignore[arg-type] # a model of its client
        self.log: list[str] = []
        #: The ids of jobs, and the versions that they should scan.
        self.scans_due: list[tuple[str, str | None]] = []
        self._happenings = 0
        self._uploads = 0
        self._now = NOON
        self._nested = False

    def run(self) -> None:
        """Let all events happen, and then come to rest."""
        self._upload()
        while self.scans_due:
            self._work()
        for _ in range(30):
            pass_seconds(self.valkey, 130)
            self.s3.take_effect()
            debts = self.site.tag_debts
            if not (debts.count_due() or debts.count() or debts.count_late() or self.scans_due):
                break
            try:
                TagWork(self.site).write_due()
            except Killed:
                self.log.append("killed while it paid")
            while self.scans_due:
                self._work()
        else:
            pytest.fail(f"it does not come to rest: {self.log}")

    def check(self) -> None:
        """Assert that the tags are true."""
        for stored in self.s3.versions:
            own = {name: value for name, value in stored.tags.items() if is_own(name)}
            assert own.get(STATUS) != "safe" or stored.body.startswith(GOOD), self.log
            assert set(own) <= set(OWN_TAGS), self.log
            report = self.site.store.get(BUCKET, self.key, stored.version_id)
            if report is not None and report.etag == stored.etag:
                assert disagreement(report, stored.tags, expected=True) is None, self.log

    def _work(self) -> None:
        """Let a worker take a job. If it is killed, another worker takes the job."""
        job_id, version_id = self.scans_due.pop(0)
        try:
            self._scan(job_id, version_id)
        except Killed:
            self.log.append("killed")
            self.scans_due.append((job_id, version_id))

    def _scan(self, job_id: str, version_id: str | None) -> None:
        stored = self.s3.find(version_id)
        self._now += timedelta(seconds=1)
        report = self._report(stored, version_id)
        self.log.append(f"scan {stored and stored.body!r}: {report.status}")
        self._perhaps_replace()
        TagWork(self.site).tag(report, lambda: self._record(report, job_id), rate=0, asked=lambda _: None)

    def _record(self, report: Report, job_id: str) -> bool:
        if self._something_happens() and self.random.random() < KILLED:
            raise Killed
        self.log.append("record")
        if "redis" not in self.sinks:
            return True
        return self.site.store.write(report, job_id=job_id, sequencer=None)

    def _report(self, stored: Stored | None, version_id: str | None) -> Report:
        found: dict[str, Any] = {"version_id": version_id}
        if stored is None:
            status = Status.UNREADABLE
            found["reasons"] = ("not_found",)
        elif self._something_happens() and self.random.random() < FAILS:
            status, found["reasons"] = Status.UNREADABLE, ("access_denied",)
        else:
            status = Status.SAFE if stored.body.startswith(GOOD) else Status.UNSAFE
            found["etag"] = stored.etag
        return Report(
            target=f"s3://{BUCKET}/{self.key}",
            bucket=BUCKET,
            key=self.key,
            status=status,
            scanned_at=self._now,
            scanner="test",
            ruleset="test",
            **found,
        )

    def _something_happens(self) -> bool:
        if self._happenings >= MOST_HAPPENINGS or self.random.random() > HAPPENS:
            return False
        self._happenings += 1
        return True

    def _happen(self, operation: str) -> Fault | None:
        if not self._something_happens():
            return None
        if self.random.random() < KILLED:
            raise Killed
        if self.random.random() < FAILS:
            fault = self.random.choice(list(Fault))
            self.log.append(f"{operation} fails: {fault.name}")
            return fault
        self.log.append(f"before {operation}:")
        self.random.choice(
            [self._upload, self._upload, self._forge, self._delete, self._tag, self._scan_elsewhere]
        )()
        return None

    def _perhaps_replace(self) -> None:
        if self._something_happens():
            self.random.choice([self._upload, self._forge, self._delete])()

    def _upload(self) -> None:
        """Upload other bytes, or the earlier bytes again."""
        self._uploads += 1
        body = self.random.choice([GOOD, BAD, BAD + b"%d" % self._uploads, GOOD + b"%d" % self._uploads])
        tags = {f"team-{number}": "x" for number in range(self.random.choice([0, 0, 1, 6, 9, 10]))}
        self._put(body, tags)

    def _forge(self) -> None:
        """Upload unsafe bytes with tags that state `safe`."""
        self._uploads += 1
        body = BAD + b"%d" % self._uploads
        forged = own_tags(
            self._report(None, None).model_copy(
                update={"status": Status.SAFE, "etag": Stored(body, None).etag, "reasons": ()}
            )
        )
        if self.random.random() < 0.5:
            forged = {name.upper().replace("-", "_"): value for name, value in forged.items()}
        self._put(body, forged)

    def _put(self, body: bytes, tags: dict[str, str]) -> None:
        self.log.append(f"upload {body!r}, {len(tags)} tags")
        self.scans_due.append((uuid4().hex, self.s3.put(body, tags).version_id))

    def _delete(self) -> None:
        self.log.append("delete")
        self.s3.delete()

    def _tag(self) -> None:
        """Read and write other tags, and keep Keyhole's."""
        if self.s3.current is not None and len(self.s3.current.tags) < 10:
            self.log.append("tag")
            self.s3.current.tags = {**self.s3.current.tags, "owner": "them"}

    def _scan_elsewhere(self) -> None:
        """Let another process take the job that is due."""
        if self.scans_due and not self._nested:
            self._nested = True
            try:
                self.log.append("elsewhere:")
                self._work()
            finally:
                self._nested = False
                self.log.append("back:")


def race(seeds: range, valkey: redis.Redis, valkey_url: str) -> None:
    """Run a race for each seed."""
    for seed in seeds:
        one = Race(seed, valkey, valkey_url)
        try:
            one.run()
            one.check()
        except BaseException as error:
            error.add_note(f"seed {seed}, {one.s3.versioned=}, {one.sinks}:\n" + "\n".join(one.log))
            raise
        finally:
            one.site.redis.close()


def test_no_tag_says_safe_of_other_bytes(valkey: redis.Redis, valkey_url: str) -> None:
    race(range(50), valkey, valkey_url)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 7000, 1000))
def test_it_says_so_in_no_order_of_thousands(valkey: redis.Redis, valkey_url: str, start: int) -> None:
    race(range(start, start + 1000), valkey, valkey_url)
