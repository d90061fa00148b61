"""Runs the doctor's checks. A check that fails or hangs does not affect other checks.

A check can raise any exception, even a panic of a Rust library, and it can hang. Each check therefore runs in
its own thread. If the check has not ended at its deadline, the doctor reports that the check took too long,
and no longer waits for the thread. Independent checks run at the same time, so all of them together take only
as long as the slowest check.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from keyhole.cli.findings import BAD, Finding

#: Seconds that a check may take.
DEADLINE: Final = 5.0
#: Seconds for which a check waits for an answer or a connection. This time is shorter than `DEADLINE`, so the
#: check itself can report that a server did not answer.
ANSWER_SECONDS: Final = 3.5
#: If a check takes too long, the doctor prints the advice that `SLOW` contains for the check's subject. If
#: `SLOW` does not contain the subject, the doctor prints `SLOW_SERVER`.
SLOW_SERVER: Final = "the server does not answer in time: check that it runs, and check the firewall"
_S3: Final = "S3 does not answer in time: check KEYHOLE_S3_ENDPOINT_URL, the proxy and the firewall"
SLOW: Final = {
    "settings": "this machine is busy",
    "s3": "the source of the credentials does not answer: a credential_process, or a role's server",
    **dict.fromkeys(("list", "read", "tags"), _S3),
}


def one_line(error: BaseException) -> str:
    """Return an error's message in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class Check:
    """A check that starts to run when it is created.

    Args:
        what: The subject of the check, for example "redis". If the check fails or takes too long, the finding
            about this has the same subject.
        check: A function that yields findings.
        seconds: The seconds that the check may take; `None` for `DEADLINE`.
        why_late: Returns why the check takes too long. Without it, the doctor prints the advice in `SLOW`.
    """

    def __init__(
        self,
        what: str,
        check: Callable[[], Iterable[Finding]],
        *,
        seconds: float | None = None,
        why_late: Callable[[], str] | None = None,
    ) -> None:
        self._what, self._check = what, check
        self._why_late = why_late or (lambda: SLOW.get(what, SLOW_SERVER))
        self._seconds = DEADLINE if seconds is None else seconds
        self._ends_at = time.monotonic() + self._seconds
        self._found: queue.Queue[Finding | BaseException | None] = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            for finding in self._check():
                self._found.put(finding)
        except BaseException as error:  # noqa: BLE001 - a panic in pyo3 is not an Exception
            self._found.put(error)
        else:
            self._found.put(None)

    def findings(self) -> Iterator[Finding]:
        """Yield the check's findings, and also a bad finding if the check fails or does not end in time."""
        while True:
            try:
                finding = self._found.get(timeout=max(0.0, self._ends_at - time.monotonic()))
            except queue.Empty:
                told = f"the check took longer than {self._seconds:g} s"
                yield Finding(self._what, BAD, f"{told}; {self._why_late()}")
                return
            if finding is None:
                return
            if isinstance(finding, BaseException):
                told = f"{type(finding).__name__}: {one_line(finding)}"
                yield Finding(self._what, BAD, f"the check failed: {told}")
                return
            yield finding


def checked(*checks: tuple[str, Callable[[], Iterable[Finding]]]) -> list[list[Finding]]:
    """Run checks at the same time, and return a list of findings for each check.

    Each check is a pair: its subject, and a function that yields findings.
    """
    running = [Check(what, check) for what, check in checks]
    return [list(check.findings()) for check in running]
