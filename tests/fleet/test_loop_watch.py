"""A worker's sign of life says what hangs."""

import time
from pathlib import Path

import pytest
from celery.worker import state

from keyhole.app import app
from keyhole.fleet.loop_watch import WorkerSign
from keyhole.health import LATELY, check


class Request:
    """Something that a worker holds."""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_a_task_that_is_held_for_longer_than_the_limit_is_not_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.monotonic()
    monkeypatch.setattr("keyhole.fleet.loop_watch.time.monotonic", lambda: now)
    sign = WorkerSign()
    held = Request()
    state.reserved_requests.add(held)
    with sign.shown():
        sign.give()
        now += app.conf.task_time_limit + LATELY - 1
        sign.give()
        assert check("worker") == 0

        now += 2
        sign.give()
        assert check("worker") == 1
        limit = app.conf.task_time_limit
        told = f"has held a task for {limit + LATELY + 1:.0f} s, and the limit is {limit} s"
        assert told in capsys.readouterr().err

        state.reserved_requests.discard(held)
        sign.give()
        assert check("worker") == 0


def test_work_that_ends_and_other_that_begins_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr("keyhole.fleet.loop_watch.time.monotonic", lambda: now)
    sign = WorkerSign()
    with sign.shown():
        for _ in range(20):
            held = Request()
            state.reserved_requests.add(held)
            sign.give()
            now += LATELY
            sign.give()
            assert check("worker") == 0
            state.reserved_requests.discard(held)
