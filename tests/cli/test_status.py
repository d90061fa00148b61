"""`keyhole status`: one screen with the queues, the workers and their work, and what is owed."""

import json
import re
import signal
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from rich.console import Console

from keyhole.cli.status_view import page
from keyhole.fleet.broker import transport_options
from keyhole.intake.audits.audit import AuditSpec, AuditState
from keyhole.intake.audits.store import AuditStore
from keyhole.intake.dead_letters import Dead, DeadLetters
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.presence import Presence
from keyhole.jobs.queues import AUDITS, EVENTS
from keyhole.jobs.tag_debts import TagDebts
from keyhole.jobs.work_now import EntryNow, ProcessNow, read_work
from keyhole.jobs.work_status import Busy
from keyhole.metrics.gauges import StoreGauges
from keyhole.metrics.snapshot import Rates, Snapshot
from keyhole.metrics.store_reader import AuditProgress, Backlog, StoreReader
from keyhole.results.tags import TagDebt
from keyhole.store import keys
from tests.cli.conftest import Keyhole
from tests.cli.terminal import terminal
from tests.e2e.commands import until

HOSTILE = "a\x1b[31m\u202eb"
PROCESS = "host/1:22:33"


def entry(number: int, *jobs: str, queue: str = AUDITS, audit: str | None = None) -> Entry:
    found = tuple(ScanJob(id=f"{number}-{key[:20]}", bucket="images", key=key) for key in jobs)
    return Entry(f"entry-{number}", found, queue, audit)


def progress(audit_id: str, prefix: str, listed: int, handled: int, seconds: float) -> AuditProgress:
    return AuditProgress(
        audit_id,
        AuditState.RUNNING,
        "images",
        prefix,
        listed,
        handled,
        listed_all=False,
        seconds=seconds,
        reason="",
    )


@pytest.fixture
def busy(valkey: redis.Redis, redis_url: str) -> str:
    """The URL of a Redis in which everything happens that the status shows."""
    ledger = Ledger(valkey, done_seconds=1000)
    Presence(valkey).beat("worker@host", "5:default")
    batch = entry(1, "done", HOSTILE, "next", audit="abc")
    ledger.record_many([batch, entry(2, "waits", queue=EVENTS)])
    ledger.leases.acquire(batch, PROCESS)
    for job in batch.jobs[:2]:
        ledger.attempts.start(job.id, PROCESS, lambda _: True)
    ledger.mark_done(batch.jobs[0].id)
    valkey.lpush(
        "keyhole:broker:" + EVENTS,
        json.dumps({"headers": {"keyhole_sent_at": datetime.now(UTC).timestamp() - 90}}),
    )
    DeadLetters(valkey).add(Dead.message(b"?", "sqs://events", "not understood"))
    TagDebts(valkey).record(TagDebt(bucket="images", key="k", version_id=None, tags={}))
    audits = AuditStore(valkey, expiry_seconds=None)
    audits.create("abc", AuditSpec(bucket="images", prefix="many/"), ruleset="1", scanner="test")
    audits.create("def", AuditSpec(bucket="images", prefix=HOSTILE), ruleset="1", scanner="test")
    audits.set_state("def", AuditState.PAUSED, "by hand")
    valkey.hset(keys.audit("abc", "totals"), mapping={"listed": 8, "unchanged": 1, "scanned": 1, "queued": 7})
    return redis_url


def read(keyhole: Keyhole, url: str, *arguments: str) -> dict[str, Any]:
    printed = keyhole("status", "--json", *arguments, KEYHOLE_REDIS_URL=url)
    assert (printed.code, printed.err, len(printed.lines)) == (0, "", 1)
    found: dict[str, Any] = json.loads(printed.out)
    return found


def test_the_json_object_contains_everything(keyhole: Keyhole, busy: str) -> None:
    found = read(keyhole, busy)
    queues = {queue.pop("queue"): queue for queue in found["queues"]}
    assert queues[AUDITS] == {"messages": 0, "unacknowledged": 1, "oldest_seconds": 0}
    assert (queues[EVENTS]["messages"], queues[EVENTS]["unacknowledged"]) == (1, 0)
    assert 90 <= queues[EVENTS]["oldest_seconds"] < 200
    assert found["workers"] == {
        "count": 1,
        "names": ["worker@host"],
        "rulesets": {"worker@host": "5:default"},
    }
    (process,) = found["busy_processes"]
    assert process["name"] == PROCESS
    assert process["entries"] == [
        {
            "id": "entry-1",
            "queue": AUDITS,
            "audit": "abc",
            "objects": 3,
            "done": 1,
            "scanned_now": [f"s3://images/{HOSTILE}"],
        }
    ]
    assert found["dead_letters"] == {"message": 1, "job": 0, "refused": 0, "tags": 0, "event": 0, "other": 0}
    assert found["owed"]["tags"] == 1
    running, paused = sorted(found["audits"], key=lambda audit: str(audit["id"]))
    assert (running["state"], running["handled"], running["listed"], running["progress_ratio"]) == (
        *("running", 2, 8),
        0.25,
    )
    assert (paused["state"], paused["reason"], found["audits_running"]) == ("paused", "by hand", 1)


def test_it_agrees_with_the_metrics(keyhole: Keyhole, busy: str, valkey: redis.Redis) -> None:
    found = read(keyhole, busy)
    prefix = str(transport_options(busy, 60)["global_keyprefix"])
    gauges = StoreGauges(StoreReader(valkey, prefix=prefix).read, nullcontext)
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in gauges.collect()
        for sample in family.samples
    }
    for queue in found["queues"]:
        assert queue["messages"] == values["keyhole_queue_messages", queue["queue"]]
        assert queue["unacknowledged"] == values["keyhole_queue_unacknowledged", queue["queue"]]
        assert queue["oldest_seconds"] == pytest.approx(
            values["keyhole_queue_oldest_seconds", queue["queue"]], abs=60
        )
    assert found["workers"]["count"] == values["keyhole_workers",]
    assert found["undecided_objects"] == values["keyhole_undecided_objects",]
    assert found["audits_running"] == values["keyhole_audits_running",]
    assert values["keyhole_audit_progress_ratio", "images"] == 0.25
    for kind, count in found["dead_letters"].items():
        assert count == values["keyhole_dead_letters", kind]


def test_a_pipe_gets_the_page_once_with_hostile_names_escaped(keyhole: Keyhole, busy: str) -> None:
    printed = keyhole("status", KEYHOLE_REDIS_URL=busy, COLUMNS=120)
    assert (printed.code, printed.err) == (0, "")
    assert "\x1b" not in printed.out
    assert "\u202e" not in printed.out
    assert r"s3://images/a\x1b[31m\u202eb (1 of 3 objects done, audit abc)" in printed.out
    assert r"s3://images/a\x1b[31m\u202eb" in printed.out.partition("audit  ")[2]
    for part in ("worker@host", "1 (message 1)", "1 (tags 1)", "25%", "by hand", "1 min 30 s"):
        assert part in printed.out


def test_the_rules_of_the_workers_are_shown_and_counted_if_they_differ(
    keyhole: Keyhole, redis_url: str, valkey: redis.Redis
) -> None:
    presence = Presence(valkey)

    def rules() -> list[str]:
        printed = keyhole("status", "--once", KEYHOLE_REDIS_URL=redis_url, COLUMNS=200)
        return [line.split(maxsplit=1)[1].rstrip() for line in printed.lines if line.startswith("rules ")]

    assert rules() == []
    presence.beat("one", "5:default")
    presence.beat("two", "5:default")
    assert rules() == ["5:default"]
    presence.beat("old")
    assert rules() == ["5:default (2 workers); not stated (1 worker)"]
    presence.beat("three", f"5:{HOSTILE}")
    assert rules() == [
        r"5:default (2 workers); not stated (1 worker); 5:a\x1b[31m\u202eb (1 worker); see `keyhole doctor`"
    ]
    presence.beat("four", "4:default")
    assert rules()[0].endswith(r"\u202eb (1 worker); 1 other; see `keyhole doctor`")


def test_an_empty_redis_has_a_status(keyhole: Keyhole, redis_url: str) -> None:
    printed = keyhole("status", "--once", KEYHOLE_REDIS_URL=redis_url)
    assert printed.code == 0
    assert "none takes work; start one with `keyhole worker`" in printed.out


def test_without_redis_it_is_one_line(keyhole: Keyhole) -> None:
    printed = keyhole("status", KEYHOLE_REDIS_URL="redis://127.0.0.1:1")
    assert (printed.code, printed.out) == (3, "")
    assert printed.error.startswith("Redis does not answer")


def test_the_lengths_are_unknown_if_the_broker_does_not_answer(keyhole: Keyhole, busy: str) -> None:
    nowhere = "amqp://guest:guest@127.0.0.1:1//"
    printed = keyhole("status", KEYHOLE_REDIS_URL=busy, KEYHOLE_BROKER_URL=nowhere)
    assert printed.code == 0
    assert re.search(r"keyhole.events +unknown +0 +unknown", printed.out)


def test_contradicting_options_are_wrong_usage(keyhole: Keyhole, redis_url: str) -> None:
    printed = keyhole("status", "--once", "--watch", "1", KEYHOLE_REDIS_URL=redis_url)
    assert (printed.code, printed.error) == (
        2,
        "--once and --watch contradict each other; leave one of them out",
    )


@pytest.mark.usefixtures("busy")
def test_the_page_fits_on_the_screen(valkey: redis.Redis) -> None:
    now = EntryNow(entry(1, "a" * 300, "b"), 0, None)
    work = tuple(ProcessNow(Busy(f"host/1:{number}:3", 1, 0.0, 1.0), (now,)) for number in range(200))
    progresses = [progress(f"{number:012}", "p/" * 60, 10, 5, 9.0) for number in range(90)]
    reading = replace(StoreReader(valkey, prefix=None).read(), progresses=progresses)
    console = Console(width=80, height=24)
    snapshot = Snapshot(reading, Backlog({}, {}), work)
    lines = console.render_lines(page(snapshot, Rates(), console, height=24), pad=False)
    text = "\n".join("".join(segment.text for segment in line) for line in lines)
    assert len(lines) < 24
    assert "and 199 more busy processes" in text or "and 200 more busy processes" in text
    whole = console.render_lines(page(snapshot, Rates(), console), pad=False)
    assert "more busy processes" not in str(whole)


def test_the_rate_is_first_the_average_since_the_start_and_then_the_latest(
    valkey: redis.Redis,
) -> None:
    reading, rates = StoreReader(valkey, prefix=None).read(), Rates()

    def at(seconds: float, handled: int) -> AuditProgress:
        audit = progress("x", "", 5000, handled, seconds)
        now = replace(reading, at=1e9 + seconds, progresses=[audit])
        rates.see(Snapshot(now, Backlog({}, {}), ()))
        return audit

    assert rates.of(at(100.0, 50)) == 0.5
    for seconds in range(102, 300, 2):
        audit = at(seconds, 50 + 3 * (seconds - 100))
    assert rates.of(audit) == pytest.approx(3.0)


def test_a_lost_process_is_shown_without_a_heartbeat(
    keyhole: Keyhole, busy: str, valkey: redis.Redis
) -> None:
    valkey.zincrby(keys.ledger_held(AUDITS), -100, "entry-1")
    assert "no heartbeat for 1 min 4" in keyhole("status", KEYHOLE_REDIS_URL=busy, COLUMNS=120).out


@pytest.mark.usefixtures("busy")
def test_an_entry_that_is_complete_is_not_work(valkey: redis.Redis) -> None:
    valkey.hdel(keys.LEDGER_ENTRIES, "entry-1")
    (now,) = read_work(valkey)
    assert now.entries == ()


@pytest.mark.slow
def test_a_terminal_shows_it_again_until_ctrl_c(busy: str, env: dict[str, str], valkey: redis.Redis) -> None:
    with terminal("status", "--watch", "0.5", env={**env, "KEYHOLE_REDIS_URL": busy}) as screen:
        until(lambda: "1 worker takes work" in screen.text)
        Presence(valkey).beat("second@host")
        until(lambda: "2 workers take work" in screen.text)
        screen.process.send_signal(signal.SIGINT)
        assert screen.ended() == 0
