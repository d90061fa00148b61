"""Runs the command `keyhole` in its own process, as a person or a service manager does."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

import psutil

KEYHOLE = (sys.executable, "-m", "keyhole")
#: The timeout of each step in seconds. The demo has taken 60 seconds on a busy machine.
PATIENCE = 240.0
#: The shortest and the longest time between two looks at a condition, in seconds. Between these limits, looks
#: take at most a fifth of the time, so that the CPU is left to the processes that the test waits for.
POLL_SECONDS, LONGEST_POLL_SECONDS = 0.02, 0.2

S3_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
#: The line that a worker logs when it accepts work.
READY = b" ready."


def environment(**settings: object) -> dict[str, str]:
    """Return this process's environment with these variables.

    Its own variables for Keyhole, AWS, OpenTelemetry and colours are removed.
    """
    foreign = re.compile(r"(KEYHOLE|AWS|OTEL|REMAP)_|(NO_COLOR|FORCE_COLOR|COLUMNS|TERM)$")
    kept = {name: value for name, value in os.environ.items() if not foreign.match(name)}
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    # boto3 and obstore must not ask the network for credentials.
    nowhere |= {"AWS_EC2_METADATA_DISABLED": "true"}
    return kept | nowhere | {name: str(value) for name, value in settings.items()}


def keyhole(
    *arguments: str | Path,
    env: Mapping[str, str],
    stdin: bytes = b"",
    cwd: Path | None = None,
    timeout: float = PATIENCE,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command, and wait until it ends."""
    return subprocess.run(
        [*KEYHOLE, *arguments],
        env=env,
        input=stdin,
        cwd=cwd,
        capture_output=True,
        timeout=timeout,
        check=False,
    )


def python(code: str, *, env: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run a Python program that uses Keyhole, and wait until it ends."""
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, timeout=PATIENCE, check=False
    )


@contextmanager
def started(
    *arguments: str | Path,
    env: Mapping[str, str],
    log: Path,
    program: Sequence[str] = KEYHOLE,
    **options: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in its own session, with its output in a file.

    At the end, kill its remaining processes.
    """
    with log.open("ab") as output:
        settings: dict[str, Any] = {"stdout": output, "stderr": output, "start_new_session": True} | options
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [*program, *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            **settings,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)


@contextmanager
def worker(
    env: Mapping[str, str], log: Path, *, concurrency: int = 1, program: Sequence[str] = KEYHOLE
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a worker, and wait until it accepts work."""
    before = log.stat().st_size if log.exists() else 0
    with started("worker", "--concurrency", str(concurrency), env=env, log=log, program=program) as process:
        until(lambda: READY in log.read_bytes()[before:] or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield process


def until(condition: Callable[[], Any], timeout: float = PATIENCE) -> Any:
    """Wait until a condition is true, and return its value. Fail after the timeout."""
    pause = Event()
    deadline = time.monotonic() + timeout
    while True:
        began = time.monotonic()
        if value := condition():
            return value
        ended = time.monotonic()
        assert ended < deadline, "the condition did not become true in time"
        pause.wait(min(max(POLL_SECONDS, 4 * (ended - began)), LONGEST_POLL_SECONDS))


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []


def is_alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not: it has ended, but its parent has not read its exit code."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def command_line(pid: int) -> Sequence[str]:
    """The command line of a process; empty if it has ended."""
    try:
        return [*psutil.Process(pid).cmdline()]
    except psutil.NoSuchProcess:
        return []


def marked(marker: str) -> list[int]:
    """The running processes with a text in their environment or command line."""
    return [
        process.pid for process in psutil.process_iter() if any(marker in text for text in _texts(process))
    ]


def _texts(process: psutil.Process) -> Sequence[str]:
    try:
        return [*process.cmdline(), *(f"{name}={value}" for name, value in process.environ().items())]
    except psutil.Error:  # the process has ended, or belongs to another user
        return []


def lines(output: bytes) -> Sequence[str]:
    """The lines of an output."""
    return output.decode().splitlines()
