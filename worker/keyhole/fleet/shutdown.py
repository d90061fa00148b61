"""Limits the time that a worker takes to stop, even if its tasks wait for something."""

import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

from keyhole.limits import LAST_SHUTDOWN, SHUTDOWN


def stop_in_time(**_: object) -> None:
    """After a warm shutdown, which waits for running tasks, start a cold shutdown, and then exit.

    Celery's own limit, the soft shutdown, sleeps for its whole time in the signal handler: a worker with a
    task would always take that long, and would not acknowledge tasks that finish in that time. The cold
    shutdown may wait for a pool whose processes hang, or for a broker that does not answer.
    """
    for seconds, action, arguments in (
        (SHUTDOWN, os.kill, (os.getpid(), signal.SIGQUIT)),
        (LAST_SHUTDOWN, _end_now, ()),
    ):
        timer = threading.Timer(seconds, action, arguments)
        timer.daemon = True
        timer.start()


def _end_now() -> None:
    """Kill the children of this process and end it.

    No work is lost: the ledger has it, and other workers reclaim it.
    """
    logging.getLogger(__name__).error(
        "the worker did not end within %d seconds and is killed; others take over its work", LAST_SHUTDOWN
    )
    for pid in _children():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _children() -> list[int]:
    """The children of this process; none if the system has no /proc."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text(encoding="ascii").split())
    return found
