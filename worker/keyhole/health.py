"""Heartbeat files, which running processes touch, so that a health check need not ask the processes.

| file | touched by |
|---|---|
| `worker-PID-START` | a worker's event loop, every second |
| `scheduler-PID-START` | a scheduler, whenever it checks for due schedules, or the lock that it waits for |
| `listen-HASH` | all listeners of this user to one queue; HASH is of its address without the password |

They are in the user's runtime folder: `$XDG_RUNTIME_DIR/keyhole`, or `keyhole-UID` in the folder for
temporary files if that variable is not set. The age of a file is the time since the last heartbeat. A file
may have a text about the process. If the text begins with `UNHEALTHY_PREFIX`, it says what is wrong.

A check must be quick, so this module imports nothing that is slow to import.

Source: proc(5), `/proc/pid/stat` field 22 (start time in clock ticks since boot).
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

#: Seconds without a heartbeat after which a process is unhealthy.
STALE_SECONDS: Final = 60.0
#: The beginning of a text that says what is wrong.
UNHEALTHY_PREFIX: Final = "unwell: "
#: Exit codes of a check, as Docker and Kubernetes read them.
HEALTHY, UNHEALTHY = 0, 1


class HeartbeatFile:
    """One heartbeat file, by its name."""

    def __init__(self, name: str) -> None:
        self.path = folder() / name
        self._text = ""

    @classmethod
    def of_process(cls, role: str) -> "HeartbeatFile":
        """The file of this process, which is a `worker` or a `scheduler`."""
        return cls(f"{role}-{os.getpid()}-{start_of(os.getpid())}")

    @classmethod
    def of_queue(cls, source: str) -> "HeartbeatFile":
        """The file of all listeners to one queue. `source` is the queue's address without a password."""
        # Imported here, because a check of workers does not need it.
        from hashlib import blake2b  # noqa: PLC0415

        return cls("listen-" + blake2b(source.encode(errors="surrogateescape"), digest_size=8).hexdigest())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Create the file, and remove it in the end. If it cannot be created, log that and go on."""
        try:
            self._touch()
        except OSError as error:
            import logging  # noqa: PLC0415

            logging.getLogger(__name__).warning("`--check` will find no heartbeat: %s", error)
        try:
            yield
        finally:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
                self.path.parent.rmdir()  # unless other processes have their files there

    def beat(self, text: str = "") -> None:
        """Touch the file and set its text, if that is possible."""
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

    def _touch(self) -> None:
        descriptor = _opened(self.path)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)

    def age(self) -> float | None:
        """Seconds since the last heartbeat; `None` if there is none."""
        try:
            return max(0.0, time.time() - self.path.stat().st_mtime)
        except OSError:
            return None

    def text(self) -> str:
        """The text of the last heartbeat."""
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError:
            return ""


def _opened(path: Path) -> int:
    """Open the file for writing. Links are not followed: other users may be able to write to the folder."""
    # The process that ended last has removed the folder.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def check(role: str) -> int:
    """Print whether this user's workers or schedulers on this host are healthy, and return an exit code.

    Files that killed processes left behind are ignored: no process has their number and start time.
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
        sys.stdout.write(f"the {role} is well{'; ' if text else ''}{text}\n")
    return HEALTHY


def _trouble(role: str, file: HeartbeatFile) -> str:
    """The problem of a process that is alive; empty if there is none."""
    age = file.age()
    if age is None:  # it has ended since
        return f"no {role} runs here"
    if age > STALE_SECONDS:
        return f"the {role} was last alive {age:.0f} s ago"
    text = file.text()
    return f"the {role} {text.removeprefix(UNHEALTHY_PREFIX)}" if text.startswith(UNHEALTHY_PREFIX) else ""


def folder() -> Path:
    """The folder of the heartbeat files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "keyhole"
    import tempfile  # noqa: PLC0415

    return Path(tempfile.gettempdir()) / f"keyhole-{os.getuid()}"


def start_of(pid: int) -> str:
    """When a process was started, in clock ticks since boot; empty if no process has that number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The second field is the command in parentheses, and may have spaces and parentheses itself.
    fields = stat.rpartition(")")[2].split()
    # A zombie has ended; only its parent has not waited for it yet.
    return "" if fields[0] == "Z" else fields[19]


def _is_alive(name: str) -> bool:
    """Whether the process of a file's name is alive."""
    pid, _, start = name.partition("-")[2].partition("-")
    if not pid.isdigit():
        return False
    if start:
        return start_of(int(pid)) == start
    try:  # a system without /proc
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
