"""The command `keyhole`, changed so that scans of some objects fail: the key states how (`poison/kill-7`).

The changes simulate bugs that an image can trigger in Python, in a library, or in a decoder written in C.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keyhole import limits
from keyhole.api import scan_s3
from keyhole.cli import main
from keyhole.fleet import scanning

PROGRAM = (sys.executable, "-m", "tests.e2e.misbehaving")


def kill() -> None:
    """A decoder crashes."""
    os.kill(os.getpid(), signal.SIGSEGV)


def spin() -> None:
    """A loop does not check its budget."""
    while True:
        pass


def stick() -> None:
    """A library loops without releasing Python's global lock."""
    re.fullmatch("(a|aa)+", "a" * 100 + "b")


def hang() -> None:
    """A scan waits for an event that never happens."""
    threading.Event().wait()


def take() -> None:
    """The code trusts a length in the image, and allocates that much memory."""
    held = []
    while True:
        held.append(b"x" * (1 << 24))


def break_out() -> None:
    """An image takes over the process, tries to reach what it should not, and reports the result."""
    got = []
    for action in (
        lambda: Path("/etc/shadow").read_bytes(),
        lambda: Path("/tmp/stolen").write_text("x"),  # noqa: S108 - the write is refused
        lambda: subprocess.run(["/bin/sh", "-c", "true"], check=True),
        lambda: os.kill(os.getppid(), 0),
    ):
        with contextlib.suppress(PermissionError):
            action()
            got.append(action)
    if got:
        print(f"broken out: {len(got)} succeeded", file=sys.stderr)


DEEDS: dict[str, Callable[[], object]] = {
    deed.__name__.replace("_", "-"): deed for deed in (kill, spin, stick, hang, take, break_out)
}


def _misbehave(scan: Callable[..., Any]) -> Callable[..., Any]:
    def misbehaving(access: Any, bucket: str, key: str, *arguments: Any) -> Any:
        deed = DEEDS.get(key.removeprefix("poison/").rpartition("-")[0])
        if deed is not None:
            deed()
        return scan(access, bucket, key, *arguments)

    return misbehaving


if __name__ == "__main__":
    # With the default limits, the tests would need minutes of CPU time.
    setattr(limits, "CPU_FACTOR", 0.3)  # noqa: B010 - a name of another module, as the next
    setattr(scanning, "scan_s3", _misbehave(scan_s3))  # noqa: B010 - as said
    main()
