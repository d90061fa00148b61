"""A worker's heartbeat states which part of the worker hangs."""

import time
from pathlib import Path

import pytest
from celery.worker import state

from keyhole.app import app
from keyhole.fleet.loop_watch import WorkerHeartbeat
from keyhole.health import STALE_SECONDS, check


class Request:
    """A message that a worker has received."""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_a_task_that_is_held_for_longer_than_the_limit_is_not_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.monotonic()
    monkeypatch.setattr("keyhole.fleet.loop_watch.time.monotonic", lambda: now)
    heartbeat = WorkerHeartbeat()
    held = Request()
    state.reserved_requests.add(held)
    with heartbeat.kept():
        heartbeat.beat()
        now += app.conf.task_time_limit + STALE_SECONDS - 1
        heartbeat.beat()
        assert check("worker") == 0

        now += 2
        heartbeat.beat()
        assert check("worker") == 1
        limit = app.conf.task_time_limit
        told = f"has held a task for {limit + STALE_SECONDS + 1:.0f} s, and the limit is {limit} s"
        assert told in capsys.readouterr().err

        state.reserved_requests.discard(held)
        heartbeat.beat()
        assert check("worker") == 0


def test_work_that_ends_and_other_that_begins_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr("keyhole.fleet.loop_watch.time.monotonic", lambda: now)
    heartbeat = WorkerHeartbeat()
    with heartbeat.kept():
        for _ in range(20):
            held = Request()
            state.reserved_requests.add(held)
            heartbeat.beat()
            now += STALE_SECONDS
            heartbeat.beat()
            assert check("worker") == 0
            state.reserved_requests.discard(held)
