"""Limits the time that a worker takes to stop. The limit also applies if its tasks hang."""

import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

from keyhole.limits import LAST_SHUTDOWN, SHUTDOWN


def stop_in_time(**_: object) -> None:
    """Start the timers for a cold shutdown after `SHUTDOWN` seconds and a kill after `LAST_SHUTDOWN` seconds.

    Call this function when a warm shutdown begins. A warm shutdown waits for the running tasks without a time
    limit; a cold shutdown does not wait for them. The cold shutdown can also hang, if pool processes hang or
    the broker does not answer. Then the second timer kills the worker.

    Celery can limit a warm shutdown itself (it calls this a soft shutdown), but this does not suit Keyhole:
    Celery would then sleep in the signal handler until the limit, even if all tasks end sooner. It would not
    acknowledge the tasks that end while it sleeps.
    """
    for seconds, action, arguments in (
        (SHUTDOWN, os.kill, (os.getpid(), signal.SIGQUIT)),
        (LAST_SHUTDOWN, _end_now, ()),
    ):
        timer = threading.Timer(seconds, action, arguments)
        timer.daemon = True
        timer.start()


def _end_now() -> None:
    """Kill the child processes of this process, and end this process.

    No work is lost: the ledger contains the work, and other workers do it.
    """
    logging.getLogger(__name__).error(
        "the worker did not end within %d seconds and is killed; other workers do its work", LAST_SHUTDOWN
    )
    for pid in _children():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _children() -> list[int]:
    """Return the ids of this process's children; none if the system has no /proc."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text(encoding="ascii").split())
    return found
