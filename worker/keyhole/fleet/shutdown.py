"""How a worker that is told to stop ends in bounded time, whatever its tasks wait for."""

import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

from keyhole.limits import LAST_SHUTDOWN, SHUTDOWN


def stop_in_time(**_: object) -> None:
    """Bound a worker's warm shutdown, which ends with the tasks that run, by a cold one, and that by an exit.

    Celery's own bound, the soft shutdown, sleeps to its end in the signal's handler: a worker that has a task
    would always take that long, and acknowledge nothing that it finished meanwhile. The cold one can wait for
    a pool whose processes hang, or for a broker that does not answer.
    """
    for seconds, action, arguments in (
        (SHUTDOWN, os.kill, (os.getpid(), signal.SIGQUIT)),
        (LAST_SHUTDOWN, _end_now, ()),
    ):
        timer = threading.Timer(seconds, action, arguments)
        timer.daemon = True
        timer.start()


def _end_now() -> None:
    """End this process and its children, whatever they wait for.

    Nothing is lost by it: the ledger has what they were busy with, and others take it back.
    """
    logging.getLogger(__name__).error(
        "the worker did not end within %d seconds, and is ended; others take back its work", LAST_SHUTDOWN
    )
    for pid in _children():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _children() -> list[int]:
    """The processes that this one started; none where the system has no /proc."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text(encoding="ascii").split())
    return found
