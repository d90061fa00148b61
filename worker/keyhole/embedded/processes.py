"""Runs a worker as a child process while a command needs a worker."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import SecretStr

from keyhole.embedded.interrupts import defer_signals
from keyhole.settings import Settings

#: Seconds that a worker gets to finish its tasks; the command then kills the worker. A worker normally ends
#: earlier, because it kills itself after `keyhole.limits.LAST_SHUTDOWN` seconds.
STOP_SECONDS = 45.0
#: The prefix of the folders with a worker's temporary files.
FOLDER_PREFIX = "keyhole-worker-"


@contextmanager
def worker_process(
    settings: Settings, log: Path, *, concurrency: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `keyhole worker` as a child process, and write its log to a file.

    The worker runs in its own session, so Ctrl-C in the terminal reaches only this process. This process then
    ends the worker and the worker's children. If this process is killed, the system closes the worker's
    standard input, and the worker then stops. The worker's temporary files are in a folder that this process
    removes, because a killed worker cannot remove its files.

    Args:
        settings: The settings of the worker.
        log: The file for the worker's log.
        concurrency: The number of pool processes; `None` for one per core.
    """
    command = [sys.executable, "-m", "keyhole", "worker", "--until-stdin-ends"]
    if concurrency is not None:
        command += ["--concurrency", str(concurrency)]
    process: subprocess.Popen[bytes] | None = None
    folder: str | None = None
    try:
        with defer_signals(), log.open("ab") as output:
            folder = tempfile.mkdtemp(prefix=FOLDER_PREFIX)
            inherited = {**os.environ, **environment(settings)}
            # The command itself uses this port, so its worker must not use it.
            inherited.pop("KEYHOLE_METRICS_PORT", None)
            process = subprocess.Popen(  # noqa: S603 - a fixed command
                command,
                env={**inherited, "TMPDIR": folder, "XDG_RUNTIME_DIR": folder},
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
    """Return the environment variables that give a process these settings."""
    values = settings.model_dump(mode="json", exclude_none=True)
    # pydantic hides the values of secrets in JSON, so add the values here.
    values |= {name: value.get_secret_value() for name, value in settings if isinstance(value, SecretStr)}
    return {
        f"KEYHOLE_{name.upper()}": ",".join(value) if isinstance(value, list) else str(value)
        for name, value in values.items()
    }


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Let a worker finish its tasks. Kill the worker after a second Ctrl-C, or after `STOP_SECONDS`."""
    try:
        process.terminate()
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # The children of a killed worker would continue to run, so kill the worker's process group, to which
        # they belong.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
