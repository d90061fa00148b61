"""Ends a process whose threads do not run any more, which nothing in Python can do.

A library that does not let go of the interpreter stops all threads: the heartbeat, the handlers of signals,
the watch over scans. A thread of faulthandler's needs no interpreter. It is told again and again to wait a
little longer; once nobody tells it, it writes to stderr where the threads are, and ends the process.
"""

import faulthandler
import threading
from typing import Final

#: Seconds from one time that the end is put off to the next.
EVERY: Final = 5.0


class StuckWatch:
    """Watches this process while it is busy.

    Args:
        seconds: How long its threads may not run.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Watch from now on. Call it after the fork."""
        self._busy.set()
        self._put_off()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="stuck-watch", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Watch no more, until it begins again."""
        with self._lock:
            self._busy.clear()
            faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        pause = threading.Event()
        while self._busy.wait():
            self._put_off()
            pause.wait(EVERY)

    def _put_off(self) -> None:
        with self._lock:
            if self._busy.is_set():
                faulthandler.dump_traceback_later(self._seconds, exit=True)
