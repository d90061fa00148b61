"""Signs of life: files that running processes renew, so that their health is checked without asking them.

| file | renewed by |
|---|---|
| `worker-PID-START` | a worker's event loop, every second |
| `scheduler-PID-START` | a scheduler, whenever it looks at what is due, or at the lock that it waits for |
| `listen-HASH` | all listeners of this user to one queue; HASH is of its address without the password |

They are in the user's runtime folder: `$XDG_RUNTIME_DIR/keyhole`, or without that variable `keyhole-UID` in
the folder for temporary files. The age of a file says when its process was last alive. Its text, if there is
one, says how the process is; after `UNWELL` it says what is wrong.

A check must be quick, so this module imports nothing that takes long.

Source: proc(5), `/proc/pid/stat` field 22 (start time in clock ticks since boot).
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

#: Seconds without a sign after which a process is not well.
LATELY: Final = 60.0
#: Before a text that says what is wrong.
UNWELL: Final = "unwell: "
#: Exit codes of a check, as Docker and Kubernetes read them.
HEALTHY, UNHEALTHY = 0, 1


class SignOfLife:
    """One file, by its name."""

    def __init__(self, name: str) -> None:
        self.path = folder() / name
        self._text = ""

    @classmethod
    def of_process(cls, role: str) -> "SignOfLife":
        """The sign of this process, which is a `worker` or a `scheduler`."""
        return cls(f"{role}-{os.getpid()}-{start_of(os.getpid())}")

    @classmethod
    def of_queue(cls, source: str) -> "SignOfLife":
        """The sign of those who listen to one queue, by its address without a password."""
        # Imported here, as is all that a check of workers need not wait for.
        from hashlib import blake2b  # noqa: PLC0415

        return cls("listen-" + blake2b(source.encode(errors="surrogateescape"), digest_size=8).hexdigest())

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Give the first sign, and take it away in the end. Where none can be given, say so, and go on."""
        try:
            self._touch()
        except OSError as error:
            import logging  # noqa: PLC0415

            logging.getLogger(__name__).warning("`--check` will find no sign of life: %s", error)
        try:
            yield
        finally:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
                self.path.parent.rmdir()  # unless others have their signs there

    def give(self, text: str = "") -> None:
        """Give a sign, if that is possible."""
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
        """Seconds since the last sign; `None` if there is none."""
        try:
            return max(0.0, time.time() - self.path.stat().st_mtime)
        except OSError:
            return None

    def text(self) -> str:
        """What the last sign says."""
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError:
            return ""


def _opened(path: Path) -> int:
    """A descriptor to write to. Nobody else's link is followed: others may be able to write to the folder."""
    # Whoever ended last has removed it.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def check(role: str) -> int:
    """Say in a line whether this user's workers or schedulers on this host are well, and return an exit code.

    What a process that was killed left is no sign: its number and start time are nobody's.
    """
    signs = [SignOfLife(path.name) for path in sorted(folder().glob(f"{role}-*")) if _is_alive(path.name)]
    told = [(sign, _trouble(role, sign)) for sign in signs]
    for _, trouble in told:
        if trouble:
            sys.stderr.write(f"{trouble}\n")
            return UNHEALTHY
    if not told:
        sys.stderr.write(f"no {role} runs here\n")
        return UNHEALTHY
    for text in sorted({sign.text() for sign, _ in told}):
        sys.stdout.write(f"the {role} is well{'; ' if text else ''}{text}\n")
    return HEALTHY


def _trouble(role: str, sign: SignOfLife) -> str:
    """What is wrong with a process that is alive; empty if nothing is."""
    age = sign.age()
    if age is None:  # it has ended since
        return f"no {role} runs here"
    if age > LATELY:
        return f"the {role} was last alive {age:.0f} s ago"
    text = sign.text()
    return f"the {role} {text.removeprefix(UNWELL)}" if text.startswith(UNWELL) else ""


def folder() -> Path:
    """Where signs of life are."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "keyhole"
    import tempfile  # noqa: PLC0415

    return Path(tempfile.gettempdir()) / f"keyhole-{os.getuid()}"


def start_of(pid: int) -> str:
    """When a process was started, in clock ticks since boot; empty if there is none of that number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The second field is the command, in parentheses, and may hold spaces and parentheses itself.
    fields = stat.rpartition(")")[2].split()
    # A zombie has ended; only its parent has not heard of it yet.
    return "" if fields[0] == "Z" else fields[19]


def _is_alive(name: str) -> bool:
    """Whether the process of a sign's name is alive."""
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
