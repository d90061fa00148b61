"""Runs a worker process while a command needs it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from keyhole.embedded.interrupts import defer_signals
from keyhole.settings import Settings

#: Seconds for a worker to finish its tasks. The worker's own limit is shorter.
STOP_SECONDS = 45.0
#: The prefix of the folders with a worker's temporary files.
FOLDER_PREFIX = "keyhole-worker-"


@contextmanager
def worker_process(
    settings: Settings, log: Path, *, concurrency: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `keyhole worker` beside this process, with its log in a file.

    The worker has a session of its own, so that Ctrl-C only reaches this process, which then ends the
    worker and its children. If this process is killed, the worker's standard input ends, and the worker
    stops. Its temporary files are in a folder that this process removes, because a killed worker cannot.
    """
    command = [sys.executable, "-m", "keyhole", "worker", "--until-stdin-ends"]
    if concurrency is not None:
        command += ["--concurrency", str(concurrency)]
    process: subprocess.Popen[bytes] | None = None
    folder: str | None = None
    try:
        with defer_signals(), log.open("ab") as output:
            folder = tempfile.mkdtemp(prefix=FOLDER_PREFIX)
            process = subprocess.Popen(  # noqa: S603 - our own command, by our own interpreter
                command,
                env={**os.environ, **environment(settings), "TMPDIR": folder, "XDG_RUNTIME_DIR": folder},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        yield process
    finally:
        try:
            if process is not None:
                _end(process)
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a process with the same settings."""
    values = settings.model_dump(mode="json", exclude_none=True)
    return {
        f"KEYHOLE_{name.upper()}": ",".join(value) if isinstance(value, list) else str(value)
        for name, value in values.items()
    }


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Let a worker finish its tasks. After a second Ctrl-C, or too long a wait, kill it."""
    try:
        process.terminate()
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # The children of a killed worker outlive it, but they are in its session.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
