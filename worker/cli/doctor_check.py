"""Runs a check of the doctor's so that nothing in it hides what other checks find.

A check may raise anything, panics of libraries in Rust included, and it may hang. So it runs in a thread of
its own, which the doctor leaves behind when nothing comes of it any more.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from worker.cli.doctor_redis import one_line
from worker.cli.findings import BAD, Finding

#: Seconds from one finding of a check to its next. Whatever it asks has five to answer, and it may connect
#: first; this is for what knows no limit of its own.
SILENCE_SECONDS: Final = 15.0


def checked(
    what: str, check: Callable[[], Iterable[Finding]], *, silence: float | None = SILENCE_SECONDS
) -> Iterator[Finding]:
    """Yield the findings of a check, and a bad one if it fails or hangs.

    Args:
        what: What it looks at, for that finding.
        check: Yields its findings.
        silence: Seconds without a finding after which it hangs; `None` if it has a limit of its own.
    """
    found: queue.Queue[Finding | BaseException | None] = queue.Queue()

    def run() -> None:
        try:
            for finding in check():
                found.put(finding)
        except BaseException as error:  # noqa: BLE001 - a panic of pyo3's is no Exception
            found.put(error)
        else:
            found.put(None)

    threading.Thread(target=run, daemon=True).start()
    while True:
        try:
            finding = found.get(timeout=silence)
        except queue.Empty:
            yield Finding(what, BAD, f"nothing was heard of it for {silence:g} s; it is left at that")
            return
        if finding is None:
            return
        if isinstance(finding, BaseException):
            yield Finding(what, BAD, f"it cannot be looked at: {type(finding).__name__}: {one_line(finding)}")
            return
        yield finding
