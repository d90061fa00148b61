"""A worker process of our own, for as long as a command needs it."""

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

#: Seconds for a worker to finish what it does; it has its own, shorter limit for that.
STOP_SECONDS = 45.0
#: How the names of the folders begin that hold a worker's temporary files.
FOLDER_PREFIX = "keyhole-worker-"


@contextmanager
def worker_process(
    settings: Settings, log: Path, *, concurrency: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `keyhole worker` beside this process; its log goes to a file.

    It is in a session of its own, so that Ctrl-C reaches only us, and we end it, and all that it started. If
    we are killed, its standard input ends, and that tells it to stop. Its temporary files are in a folder of
    ours, for a worker that is killed cannot remove them.
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
    """The settings as the environment of a process that is to have the same."""
    values = settings.model_dump(mode="json", exclude_none=True)
    return {
        f"KEYHOLE_{name.upper()}": ",".join(value) if isinstance(value, list) else str(value)
        for name, value in values.items()
    }


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Let a worker finish what it does. A second Ctrl-C, or too long a wait, kills it."""
    try:
        process.terminate()
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # The children of a worker that was killed outlive it; they are in the session that is ours.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
