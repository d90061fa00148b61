"""Heartbeat files: running processes touch them, and a health check reads them.

| file | touched by |
|---|---|
| `worker-PID-START` | a worker's event loop, every second |
| `scheduler-PID-START` | a scheduler, whenever it checks for due schedules or tries to acquire the lock |
| `listen-HASH` | this user's listeners to one queue; HASH is the hash of the queue's URL without password |

PID and START identify a process: START is the time when it started. The files are in
`$XDG_RUNTIME_DIR/keyhole`. If that variable is not set, they are in `keyhole-UID` in the folder for temporary
files. The age of a file is the time since the last heartbeat. A file can contain a text about the process. If
the text begins with `UNHEALTHY_PREFIX`, it describes a problem.

Each heartbeat is also sent to systemd, if systemd has started the process (`service_manager`). systemd then
restarts a process that sends no heartbeats.

A check must be quick, so this module imports no module that is slow to import.

Source: proc(5), `/proc/pid/stat` field 22 (start time in clock ticks since boot).
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from keyhole import service_manager

#: Seconds without a heartbeat after which a process is unhealthy.
STALE_SECONDS: Final = 60.0
#: The beginning of a text that describes a problem.
UNHEALTHY_PREFIX: Final = "unwell: "
#: The exit codes of a check, which Docker and Kubernetes interpret as healthy and unhealthy.
HEALTHY, UNHEALTHY = 0, 1


class HeartbeatFile:
    """One heartbeat file, identified by its name."""

    def __init__(self, name: str) -> None:
        self.path = folder() / name
        self._text = ""

    @classmethod
    def of_process(cls, role: str) -> "HeartbeatFile":
        """Return the file of this process. `role` is `worker` or `scheduler`."""
        return cls(f"{role}-{os.getpid()}-{start_of(os.getpid())}")

    @classmethod
    def of_queue(cls, source: str) -> "HeartbeatFile":
        """Return the file that a queue's listeners share. `source` is the queue's URL without password."""
        # Import hashlib only here: the import takes time, and a check of workers does not need hashlib.
        from hashlib import blake2b  # noqa: PLC0415

        return cls("listen-" + blake2b(source.encode(errors="surrogateescape"), digest_size=8).hexdigest())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Create the file, and remove it when the `with` block ends.

        If creating it fails, only log a warning.
        """
        try:
            self._touch()
        except OSError as error:
            import logging  # noqa: PLC0415

            logging.getLogger(__name__).warning("cannot write the heartbeat for `--check`: %s", error)
        service_manager.tell(service_manager.READY)
        try:
            yield
        finally:
            service_manager.tell(service_manager.STOPPING)
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
                self.path.parent.rmdir()  # fails if other processes have files in this folder

    def beat(self, text: str = "") -> None:
        """Touch the file, set its text, and tell systemd. Errors are ignored."""
        with suppress(OSError):
            if text != self._text:
                draft = self.path.with_suffix(".new")
                with open(_opened(draft), "w", encoding="utf-8") as file:
                    file.truncate()
                    file.write(text)
                draft.replace(self.path)
                self._text = text
            else:
                self._touch()
        if text.startswith(UNHEALTHY_PREFIX):  # send no heartbeat, so that systemd restarts the process
            service_manager.tell(status=text.removeprefix(UNHEALTHY_PREFIX))
        else:
            service_manager.tell(service_manager.ALIVE, status=text)

    def _touch(self) -> None:
        descriptor = _opened(self.path)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)

    def age(self) -> float | None:
        """Return the seconds since the last heartbeat; `None` if there is no file."""
        try:
            return max(0.0, time.time() - self.path.stat().st_mtime)
        except OSError:
            return None

    def text(self) -> str:
        """Return the text of the last heartbeat."""
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError:
            return ""


def _opened(path: Path) -> int:
    """Open the file for writing. Links are not followed, because other users can write to `/tmp`."""
    # Another process may have removed the folder when it ended.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def check(role: str) -> int:
    """Print whether this user's workers or schedulers on this host are healthy, and return an exit code.

    A killed process does not remove its file. Such files are ignored: no running process has the process ID
    and the start time in the file's name.
    """
    files = [HeartbeatFile(path.name) for path in sorted(folder().glob(f"{role}-*")) if _is_alive(path.name)]
    found = [(file, _trouble(role, file)) for file in files]
    for _, trouble in found:
        if trouble:
            sys.stderr.write(f"{trouble}\n")
            return UNHEALTHY
    if not found:
        sys.stderr.write(f"no {role} runs here\n")
        return UNHEALTHY
    for text in sorted({file.text() for file, _ in found}):
        sys.stdout.write(f"the {role} is healthy{'; ' if text else ''}{text}\n")
    return HEALTHY


def _trouble(role: str, file: HeartbeatFile) -> str:
    """Return the problem of a running process; empty if there is no problem."""
    age = file.age()
    if age is None:  # the process has just ended and removed its file
        return f"no {role} runs here"
    if age > STALE_SECONDS:
        return f"the {role} sent its last heartbeat {age:.0f} s ago"
    text = file.text()
    return f"the {role} {text.removeprefix(UNHEALTHY_PREFIX)}" if text.startswith(UNHEALTHY_PREFIX) else ""


def folder() -> Path:
    """Return the folder of the heartbeat files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "keyhole"
    import tempfile  # noqa: PLC0415

    return Path(tempfile.gettempdir()) / f"keyhole-{os.getuid()}"


def start_of(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; empty if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The second field is the command in parentheses. The command can contain spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    # A zombie (Z) has ended, although its parent has not waited for it yet.
    return "" if fields[0] == "Z" else fields[19]


def _is_alive(name: str) -> bool:
    """Return whether the process that a file's name identifies is running."""
    pid, _, start = name.partition("-")[2].partition("-")
    if not pid.isdigit():
        return False
    if start:
        return start_of(int(pid)) == start
    try:  # without /proc, the start time is unknown, so check only the process ID
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
