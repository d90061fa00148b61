"""What is logged gives a terminal no command, and shows no secret."""

import json
import logging
import os
import pty
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from tests.attack.hostile import COMMANDS, HOSTILE, SECRET, URL
from worker import logs


@pytest.fixture(params=["terminal", "file"])
def logged(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], str]]:
    """A log that goes to a terminal, or to a file; called, what it says."""
    if request.param == "terminal":
        ours, its = pty.openpty()
        stream = os.fdopen(its, "w")
    else:
        path = tmp_path / "log"
        stream = path.open("w")
        ours = os.open(path, os.O_RDONLY)
    monkeypatch.setattr(sys, "stderr", stream)
    before = logging.getLogger().level
    logs.configure("info")

    def read() -> str:
        stream.flush()
        return os.read(ours, 1 << 20).decode()

    yield read
    stream.close()
    os.close(ours)
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if handler.name != logs.HANDLER]
    root.setLevel(before)
    structlog.reset_defaults()


def fail() -> None:
    password = SECRET  # noqa: F841 - a traceback with the values of variables would show it
    raise ValueError(f"{HOSTILE}\nsecond line {URL}")


def test_nothing_hostile_comes_through(logged: Callable[[], str]) -> None:
    log = logging.getLogger("worker.test")
    log.warning("the key %s of %s", HOSTILE, URL)
    structlog.get_logger("worker.test").warning(
        HOSTILE, key=HOSTILE, url=URL, several=[HOSTILE, {"url": URL}], other=ValueError(HOSTILE, URL)
    )
    structlog.get_logger("worker.test").warning("names", **{HOSTILE: 1})
    try:
        fail()
    except ValueError:
        log.exception("it failed: %s", URL)
        structlog.get_logger("worker.test").exception("it failed", url=URL)

    said = logged()

    assert "second line" in said
    assert "***@host" in said
    assert SECRET not in said
    for command in COMMANDS:
        assert command not in said


def test_json_can_be_read(tmp_path: Path, logged: Callable[[], str]) -> None:  # noqa: ARG001 - as the fixture
    logging.getLogger("worker.test").warning("the key %s", HOSTILE)
    (line, *_) = logged().splitlines()
    if line.startswith("{"):
        assert json.loads(line)["event"] == f"the key {HOSTILE}"
    else:
        assert "the key" in line
