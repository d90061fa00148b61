"""Runs the checks of the doctor so that none hides what another finds, and none takes longer than it may.

A check may raise anything, panics of libraries in Rust included, and it may hang. So each runs in a thread of
its own until its deadline, and the doctor leaves it behind then. Those that do not need each other run at the
same time: several that are slow take no longer than one.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from keyhole.cli.findings import BAD, Finding

#: Seconds that a check may take.
DEADLINE: Final = 5.0
#: Seconds that a check waits for an answer or for a connection, so that it can still say what it waited for.
ANSWER_SECONDS: Final = 3.5
#: What to do about a check that takes too long, by what it looks at.
SLOW_SERVER: Final = "the server does not answer in time: check that it runs, and the firewall between"
_S3: Final = "S3 does not answer in time: check KEYHOLE_S3_ENDPOINT_URL, and the proxy and firewall between"
SLOW: Final = {
    "settings": "this machine is busy",
    "s3": "where the credentials come from does not answer: a credential_process, or the server of a role",
    **dict.fromkeys(("list", "read", "tags"), _S3),
}


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class Check:
    """A check that runs, from when this is made.

    Args:
        what: What it looks at, for a finding about the check itself.
        check: Yields its findings.
        seconds: How long it may take.
    """

    def __init__(
        self, what: str, check: Callable[[], Iterable[Finding]], *, seconds: float = DEADLINE
    ) -> None:
        self._what, self._check, self._seconds = what, check, seconds
        self._ends_at = time.monotonic() + seconds
        self._found: queue.Queue[Finding | BaseException | None] = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            for finding in self._check():
                self._found.put(finding)
        except BaseException as error:  # noqa: BLE001 - a panic of pyo3's is no Exception
            self._found.put(error)
        else:
            self._found.put(None)

    def findings(self) -> Iterator[Finding]:
        """Yield what it finds, and a bad finding if it fails or has not ended in time."""
        while True:
            try:
                finding = self._found.get(timeout=max(0.0, self._ends_at - time.monotonic()))
            except queue.Empty:
                told = f"it took longer than {self._seconds:g} s and is left at that"
                yield Finding(self._what, BAD, f"{told}; {SLOW.get(self._what, SLOW_SERVER)}")
                return
            if finding is None:
                return
            if isinstance(finding, BaseException):
                told = f"{type(finding).__name__}: {one_line(finding)}"
                yield Finding(self._what, BAD, f"it cannot be looked at: {told}")
                return
            yield finding


def checked(*checks: tuple[str, Callable[[], Iterable[Finding]]]) -> list[list[Finding]]:
    """Run checks at the same time, each named by what it looks at, and return the findings of each."""
    running = [Check(what, check, seconds=DEADLINE) for what, check in checks]
    return [list(check.findings()) for check in running]
