"""Runs the command as a user types it, and returns what it prints."""

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from keyhole.cli import main
from tests.e2e import commands


@dataclass(frozen=True)
class Printed:
    """The output of a command, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of the standard output."""
        return self.out.splitlines()

    @property
    def error(self) -> str:
        """The error message, which must be one line. A worker, a listener and a scheduler log it as JSON."""
        (line,) = self.err.splitlines()
        if line.startswith("{"):
            logged = json.loads(line)
            assert (logged["level"], logged["logger"]) == ("critical", "keyhole.cli.service")
            return str(logged["event"])
        assert line.startswith("Error: ")
        return line.removeprefix("Error: ")


Keyhole = Callable[..., Printed]
#: The seconds that each check of the doctor may take in these tests. A machine with a high load needs more
#: than the usual deadline.
CHECK_SECONDS = 60.0


@pytest.fixture
def env(moto_url: str, tmp_path: Path) -> dict[str, str]:
    """An environment that configures only the local S3."""
    return commands.environment(
        KEYHOLE_S3_ENDPOINT_URL=moto_url, KEYHOLE_DATA_DIR=tmp_path / "data", **commands.S3_CREDENTIALS
    )


@pytest.fixture
def keyhole(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Keyhole]:
    """Runs the command in this process. Settings are given by name, and arguments by position."""
    monkeypatch.setattr("keyhole.cli.doctor_check.DEADLINE", CHECK_SECONDS)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    on_sighup = signal.getsignal(signal.SIGHUP)
    handlers, level = logging.root.handlers[:], logging.root.level

    def run(*arguments: str | Path, **settings: object) -> Printed:
        here = {**env, "COLUMNS": "80", **{name: str(value) for name, value in settings.items()}}
        for name in os.environ.keys() - here.keys():
            monkeypatch.delenv(name)
        for name, value in here.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["keyhole", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        return Printed(int(str(code or 0)), *capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, on_sigterm)
    signal.signal(signal.SIGHUP, on_sighup)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def redis_url(valkey_url: str, valkey: redis.Redis) -> str:
    """The URL of an empty Redis."""
    valkey.ping()
    return valkey_url
