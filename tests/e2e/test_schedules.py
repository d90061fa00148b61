"""End to end: a scheduler publishes what is due, workers do the audit, and another scheduler takes over."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen

import pytest
import redis

from keyhole.builders import qcow2
from keyhole.fleet.scheduling import beat_entry
from keyhole.intake.audits.audit import Audit, AuditState
from keyhole.intake.audits.store import AuditStore
from keyhole.intake.schedule_runs import LastRun, ScheduleRuns
from keyhole.reasons import Status
from keyhole.store import keys
from keyhole.store.connection import connect
from tests.e2e import commands
from tests.e2e.commands import PATIENCE, until
from tests.e2e.conftest import Site
from tests.fleet.beat import due_last

GIB = 1024**3
#: The command, with a lock that expires after this many seconds without a heartbeat.
WITH_LOCK_SECONDS = """
from functools import partial
from worker import cli, scheduling
scheduling.run = partial(scheduling.run, lock_seconds={})
cli.main()
"""


class Desk:
    """A Redis for schedulers, and a file with one schedule."""

    def __init__(self, client: redis.Redis, env: dict[str, str], folder: Path, bucket: str) -> None:
        self.client, self.log = client, folder / "scheduler.log"
        self.audits = AuditStore(client, expiry_seconds=None)
        self.name = f"schedule-of-{bucket}"
        file = folder / "schedules.toml"
        file.write_text(f'[[schedules]]\nname = "{self.name}"\nbucket = "{bucket}"\nevery = "6h"\n')
        self.env = env | {"KEYHOLE_SCHEDULES": str(file)}

    def scheduler(self, log: Path | None = None) -> AbstractContextManager[Popen[bytes]]:
        """Start a scheduler. It might only wait for the lock."""
        return commands.started("scheduler", env=self.env, log=log or self.log)

    def lock(self) -> bytes | None:
        """The token of the lock, which the working scheduler holds."""
        return self.client.get(keys.BEAT_LOCK)  # type: ignore[return-value] # bytes, as `connect` asks

    def make_due(self) -> None:
        """Set the last due time to long ago. First wait until the scheduler has recorded it."""
        recently = datetime.now(UTC) - timedelta(hours=1)
        until(lambda: (entry := beat_entry(self.client, self.name)) and entry.due_before > recently)
        due_last(self.client, self.name, datetime.now(UTC) - timedelta(days=1))

    def last(self) -> LastRun:
        """The schedule's last audit."""
        return ScheduleRuns(self.client).last(self.name)

    def next_audit(self, before: str | None = None) -> Audit:
        """Wait until the audit after the one with this id has ended."""
        until(lambda: self.last().audit_id != before)
        return until(
            lambda: (audit := self.audits.get(str(self.last().audit_id))) and audit.state.ended and audit
        )


@pytest.fixture
def desk(site: Site, tmp_path: Path) -> Iterator[Desk]:
    """A desk on the site with a worker. The file of schedules is still empty."""
    for key in site.redis.scan_iter(f"{keys.BEAT_PREFIX}*"):
        site.redis.delete(key)
    bucket = site.bucket()
    site.s3.put_object(Bucket=bucket, Key="safe.qcow2", Body=qcow2(GIB).to_bytes())
    site.s3.put_object(Bucket=bucket, Key="unsafe.qcow2", Body=qcow2(GIB, backing_file="/x").to_bytes())
    yield Desk(site.redis, site.env, tmp_path, bucket)
    site.held.release()


@pytest.mark.slow
def test_what_is_due_is_audited_and_listed(desk: Desk) -> None:
    with desk.scheduler() as scheduler:
        desk.make_due()
        audit = desk.next_audit()
        listed = commands.keyhole("schedules", "--json", env=desk.env)
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(PATIENCE) == 0

    assert audit.state is AuditState.DONE
    assert audit.totals.statuses == {Status.SAFE: 1, Status.UNSAFE: 1}
    assert audit.spec.schedule == desk.name
    assert listed.returncode == 0
    line = json.loads(listed.stdout)
    assert (line["last_audit"], line["last_run"]["state"]) == (audit.id, "done")
    assert datetime.fromisoformat(line["next_run"]) > datetime.now(UTC) + timedelta(hours=5)
    assert desk.lock() is None
    events = [json.loads(entry)["event"] for entry in desk.log.read_text().splitlines()]
    assert f"schedule {desk.name} is due" in events


@pytest.mark.slow
def test_what_is_due_while_the_last_goes_on_is_not_begun(desk: Desk, site: Site) -> None:
    bucket = desk.name.removeprefix("schedule-of-")
    site.s3.put_object(Bucket=bucket, Key="held/slow.qcow2", Body=qcow2(GIB).to_bytes())
    site.held.hold()
    with desk.scheduler():
        desk.make_due()
        site.held.await_request()
        first = desk.last().audit_id

        for times in (1, 2):
            desk.make_due()
            until(lambda: desk.last().skipped == times)  # noqa: B023 - used only in this iteration

        site.held.release()
        assert desk.next_audit().id == first
        desk.make_due()
        assert desk.next_audit(first).totals.unchanged == 3
    assert desk.last().skipped == 2


class TestTwoSchedulers:
    @pytest.fixture
    def pair(self, desk: Desk, tmp_path: Path) -> Iterator[tuple[Popen[bytes], Popen[bytes], bytes]]:
        """A working scheduler, a waiting one, and the token of the first one's lock."""
        second_log = tmp_path / "second.log"
        with desk.scheduler() as first:
            token = until(desk.lock)
            with desk.scheduler(second_log) as second:
                until(
                    lambda: (
                        second_log.exists() and b"another scheduler has the lock" in second_log.read_bytes()
                    )
                )
                yield first, second, token

    @pytest.fixture
    def _long_lock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The lock lasts longer than every wait in these tests."""
        script = WITH_LOCK_SECONDS.format(int(PATIENCE * 10))
        monkeypatch.setattr(commands, "KEYHOLE", (sys.executable, "-c", script))

    @pytest.fixture
    def _short_lock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(commands, "KEYHOLE", (sys.executable, "-c", WITH_LOCK_SECONDS.format(3)))

    @pytest.mark.slow
    @pytest.mark.usefixtures("_long_lock")
    def test_when_one_ends_the_other_works(
        self, desk: Desk, pair: tuple[Popen[bytes], Popen[bytes], bytes]
    ) -> None:
        first, _, token = pair
        first.send_signal(signal.SIGTERM)
        assert first.wait(PATIENCE) == 0

        assert until(desk.lock) != token
        desk.make_due()
        assert desk.next_audit().state is AuditState.DONE

    @pytest.mark.slow
    @pytest.mark.usefixtures("_short_lock")
    def test_when_one_is_killed_the_other_works_once_its_lock_has_run_out(
        self, desk: Desk, pair: tuple[Popen[bytes], Popen[bytes], bytes]
    ) -> None:
        first, _, token = pair
        first.kill()
        first.wait(PATIENCE)
        desk.make_due()

        assert desk.next_audit().state is AuditState.DONE
        assert desk.lock() not in {token, None}

    @pytest.mark.slow
    @pytest.mark.usefixtures("_long_lock")
    def test_one_that_waits_ends_when_it_is_told_to(
        self, desk: Desk, pair: tuple[Popen[bytes], Popen[bytes], bytes]
    ) -> None:
        _, second, token = pair
        second.send_signal(signal.SIGTERM)

        assert second.wait(PATIENCE) == 0
        assert desk.lock() == token


@pytest.mark.slow
def test_with_nothing_configured_it_brings_all_along(site: Site, tmp_path: Path) -> None:
    """The scheduler starts a Valkey and a worker, which end with it."""
    bucket = site.bucket()
    site.s3.put_object(Bucket=bucket, Key="safe.qcow2", Body=qcow2(GIB).to_bytes())
    data = tmp_path / "data"
    env = {name: value for name, value in site.env.items() if name != "KEYHOLE_REDIS_URL"}
    env |= {"KEYHOLE_DATA_DIR": str(data), "KEYHOLE_SINKS": "redis"}
    log = tmp_path / "scheduler.log"
    endpoint = data / "endpoint"
    with commands.started("scheduler", env=Desk(site.redis, env, tmp_path, bucket).env, log=log) as scheduler:
        until(lambda: endpoint.exists() or scheduler.poll() is not None)
        assert scheduler.poll() is None, log.read_text()
        client = connect(endpoint.read_text())
        desk = Desk(client, env, tmp_path, bucket)
        desk.make_due()
        assert desk.next_audit().totals.statuses == {Status.SAFE: 1}
        client.close()
        scheduler.send_signal(signal.SIGINT)
        assert scheduler.wait(PATIENCE) == 0, log.read_text()

    assert commands.marked(str(data)) == []
