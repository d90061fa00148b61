"""`keyhole schedules` shows the next run and the last result; `keyhole scheduler` checks its settings."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from keyhole.intake.audits.audit import AuditSpec, AuditState
from keyhole.intake.audits.records import PageResult
from keyhole.intake.audits.store import AuditStore
from keyhole.intake.schedule_runs import ScheduleRuns
from keyhole.intake.schedules import parse_schedules
from keyhole.store import keys
from tests.cli.conftest import Keyhole, Printed
from tests.fleet.beat import Scheduling, due_last

NIGHTLY = '[[schedules]]\nname = "nightly"\nbucket = "images"\nprefix = "uploads/"\ncrontab = "15 3 * * *"\n'
OFTEN = '[[schedules]]\nname = "often"\nbucket = "incoming"\nevery = "6h"\n'
HOW = {"ruleset": "1:default", "scanner": "keyhole/test"}
NOBODY_WORKS = "No scheduler is running, so no audit will start; start one with: keyhole scheduler\n"

Run = Callable[..., Printed]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "schedules.toml"
    path.write_text(NIGHTLY + OFTEN)
    return path


@pytest.fixture
def schedules(keyhole: Keyhole, file: Path, redis_url: str) -> Run:
    """Runs `keyhole schedules` with that file and an empty Redis."""

    def run(*arguments: str | Path, **settings: object) -> Printed:
        here = {"KEYHOLE_SCHEDULES": file, "KEYHOLE_REDIS_URL": redis_url} | settings
        return keyhole("schedules", *arguments, **here)

    return run


def as_json(schedules: Run) -> dict[str, dict[str, Any]]:
    """The printed JSON, by the names of the schedules."""
    printed = schedules("--json")
    assert (printed.code, printed.err) == (0, "")
    return {line["name"]: line for line in map(json.loads, printed.lines)}


def begin(client: redis.Redis, name: str, audit_id: str) -> None:
    ScheduleRuns(client).begin(name, audit_id, AuditSpec(bucket="images", schedule=name), **HOW)


def end(client: redis.Redis, audit_id: str, **counts: int) -> None:
    """End an audit with these totals."""
    store = AuditStore(client, expiry_seconds=None)
    claim = store.claim(audit_id, "token")
    assert claim is not None
    assert store.commit(
        claim, PageResult(counts={name.replace("_", ":"): count for name, count in counts.items()})
    )


def read_by_a_scheduler(client: redis.Redis, url: str, file: Path, last: datetime) -> None:
    """Simulate a former scheduler for which all schedules of a file were last due at this time."""
    schedules = parse_schedules(file.read_text(), str(file))
    scheduling = Scheduling(client, url)
    scheduling.scheduler(*schedules)
    scheduling.close()
    for schedule in schedules:
        due_last(client, schedule.name, last)


class TestWithoutAScheduler:
    def test_it_is_said(self, schedules: Run) -> None:
        printed = schedules()

        assert printed.code == 0
        assert printed.err == NOBODY_WORKS
        assert as_json(schedules)["nightly"]["scheduler_running"] is False

    def test_a_crontab_says_when_it_would_be_due(self, schedules: Run) -> None:
        next_run = datetime.fromisoformat(as_json(schedules)["nightly"]["next_run"])

        assert (next_run.hour, next_run.minute, next_run.utcoffset()) == (3, 15, timedelta(0))
        assert timedelta(0) < next_run - datetime.now(UTC) <= timedelta(days=1)

    def test_an_interval_has_not_begun(self, schedules: Run) -> None:
        assert as_json(schedules)["often"]["next_run"] is None
        assert "unknown yet" in schedules().out

    def test_what_was_due_meanwhile_is_overdue(
        self, schedules: Run, file: Path, valkey: redis.Redis, redis_url: str
    ) -> None:
        read_by_a_scheduler(valkey, redis_url, file, datetime.now(UTC) - timedelta(days=2))

        *rows, summary = schedules().lines
        assert "\n".join(rows).count("overdue") == 2
        assert summary == "2 schedules: 2 overdue"


class TestWithAScheduler:
    @pytest.fixture(autouse=True)
    def _scheduler(self, valkey: redis.Redis, file: Path, redis_url: str) -> None:
        self.last = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=40)
        read_by_a_scheduler(valkey, redis_url, file, self.last)
        valkey.set(keys.BEAT_LOCK, "token")

    def test_an_interval_counts_from_the_last_time(self, schedules: Run) -> None:
        often = as_json(schedules)["often"]

        assert datetime.fromisoformat(often["next_run"]) == self.last + timedelta(hours=6)
        assert often["scheduler_running"] is True

    def test_it_says_how_long_that_is_from_now(self, schedules: Run) -> None:
        printed = schedules()

        assert printed.err == ""
        assert f"{self.last + timedelta(hours=6):%m-%d %H:%M}" in printed.out
        assert "in 5 hours" in printed.out

    @pytest.mark.parametrize(
        "changed",
        [
            NIGHTLY + OFTEN.replace("6h", "5h"),
            NIGHTLY,
            NIGHTLY + OFTEN + OFTEN.replace("often", "never").replace("6h", "1d"),
        ],
        ids=["changed", "removed", "added"],
    )
    def test_what_it_has_not_read_is_said(self, schedules: Run, file: Path, changed: str) -> None:
        file.write_text(changed)
        name = "never" if "never" in changed else "often"

        assert schedules().err == f"The scheduler has an older version of {name}; restart it.\n"

    def test_a_changed_time_counts_from_the_restart(self, schedules: Run, file: Path) -> None:
        file.write_text(NIGHTLY + OFTEN.replace("6h", "5h"))

        assert as_json(schedules)["often"]["next_run"] is None


class TestTheLastAudit:
    def test_there_was_none(self, schedules: Run) -> None:
        nightly = as_json(schedules)["nightly"]

        assert (nightly["last_audit"], nightly["last_run"], nightly["skipped"]) == (None, None, 0)

    def test_it_is_told_with_its_state_and_its_counts(self, schedules: Run, valkey: redis.Redis) -> None:
        begin(valkey, "nightly", "3f0c9a1b2c4d")
        end(valkey, "3f0c9a1b2c4d", listed=15, status_safe=12, status_unsafe=2, status_failed=1)

        printed = schedules()
        nightly = as_json(schedules)["nightly"]

        assert "3f0c9a1b2c4d done" in printed.out
        assert "12 safe, 3 not" in printed.out
        assert nightly["last_audit"] == "3f0c9a1b2c4d"
        assert nightly["last_run"]["state"] == AuditState.DONE
        assert nightly["last_run"]["totals"]["statuses"] == {"safe": 12, "unsafe": 2, "failed": 1}

    def test_what_was_skipped_is_counted(self, schedules: Run, valkey: redis.Redis) -> None:
        for audit_id in ("first", "second", "third"):
            begin(valkey, "nightly", audit_id)

        nightly = as_json(schedules)["nightly"]

        assert (nightly["last_audit"], nightly["skipped"]) == ("first", 2)
        assert nightly["last_run"]["state"] == AuditState.RUNNING

    def test_one_that_has_expired_is_told_by_its_id(self, schedules: Run, valkey: redis.Redis) -> None:
        begin(valkey, "nightly", "first")
        valkey.delete(keys.audit("first"))

        assert "no longer stored" in schedules().out
        assert as_json(schedules)["nightly"]["last_audit"] == "first"


class TestTheTable:
    def test_in_a_pipe_each_schedule_is_one_line_and_its_name_is_not_obeyed(
        self, schedules: Run, file: Path, valkey: redis.Redis
    ) -> None:
        name, long = "n" * 64, '"\\u001b[31m日本語' + "a" * 500 + '"'
        file.write_text(NIGHTLY.replace("nightly", name).replace('"uploads/"', long))
        begin(valkey, name, "3f0c9a1b2c4d")
        end(valkey, "3f0c9a1b2c4d", status_safe=1_234_567, status_unsafe=1_234_567, status_notimage=5)

        _, row, summary = schedules().lines

        assert row.startswith(f"{name} ")
        assert "1,234,567 safe, 1,234,567 not " in row
        assert row.endswith(r"\x1b[31m日本語" + "a" * 500)
        assert summary == "1 schedule"


class TestErrors:
    @pytest.mark.parametrize("command", ["schedules", "scheduler"])
    def test_none_are_configured(self, keyhole: Keyhole, command: str) -> None:
        printed = keyhole(command)

        assert printed.code == 2
        assert printed.error == (
            "no schedules: set KEYHOLE_SCHEDULES to a file; `keyhole schedules --help` shows an example"
        )

    @pytest.mark.parametrize("command", ["schedules", "scheduler", "worker"])
    def test_a_file_that_is_wrong(self, keyhole: Keyhole, file: Path, command: str) -> None:
        file.write_text(NIGHTLY.replace("15 3", "61 3"))

        printed = keyhole(command, KEYHOLE_SCHEDULES=file)

        assert printed.code == 2
        assert printed.error.startswith("KEYHOLE_SCHEDULES is set to ")
        assert "nightly: crontab: '61' is not a valid minute; write *, 0 to 59" in printed.error

    @pytest.mark.slow
    @pytest.mark.parametrize("command", ["schedules", "scheduler"])
    def test_redis_is_away(
        self, keyhole: Keyhole, file: Path, monkeypatch: pytest.MonkeyPatch, command: str
    ) -> None:
        monkeypatch.setattr("keyhole.store.connection._RETRIES", 0)

        printed = keyhole(command, KEYHOLE_SCHEDULES=file, KEYHOLE_REDIS_URL="redis://127.0.0.1:1")

        assert printed.code == 3
        assert "check KEYHOLE_REDIS_URL" in printed.err.splitlines()[-1]


class TestCheck:
    def test_a_valid_file(self, keyhole: Keyhole, file: Path) -> None:
        printed = keyhole("schedules", "--check", file)

        assert (printed.code, printed.out, printed.err) == (0, f"{file}: valid, 2 schedules\n", "")

    def test_a_file_that_is_not(self, keyhole: Keyhole, file: Path) -> None:
        file.write_text(OFTEN.replace("6h", "6"))

        printed = keyhole("schedules", "--check", file)

        assert printed.code == 2
        assert printed.error.startswith(f"{file}: often: every: '6' is not an interval; write")

    def test_it_minds_no_other_settings(self, keyhole: Keyhole, file: Path) -> None:
        printed = keyhole(
            "schedules", "--check", file, KEYHOLE_SCHEDULES="nowhere", KEYHOLE_REDIS_URL="redis://127.0.0.1:1"
        )

        assert printed.code == 0

    def test_the_file_that_the_help_shows(self, keyhole: Keyhole, file: Path) -> None:
        helped = keyhole("schedules", "--help").out
        shown = helped[helped.index("[[schedules]]") : helped.index("\nOptions:")]
        file.write_text(shown)

        assert keyhole("schedules", "--check", file).out == f"{file}: valid, 1 schedule\n"
