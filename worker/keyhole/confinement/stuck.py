"""Ends a process in which no Python code has run for too long.

If a C library does not release the global interpreter lock (GIL), no Python thread can run: neither the
heartbeat, nor the signal handlers, nor the watch over scans. So no Python code can end the process. The
watchdog thread of the module `faulthandler` does not need the GIL. While the process is busy, a Python thread
restarts the watchdog's timer every `EVERY` seconds. If the Python thread cannot run, the timer expires. The
watchdog then writes the stack traces of all threads to stderr and ends the process.
"""

import faulthandler
import threading
from typing import Final

#: Seconds between two restarts of the watchdog's timer.
EVERY: Final = 5.0


class StuckWatch:
    """Ends this process if it is busy and its Python threads do not run.

    Args:
        seconds: If no Python thread has run for this many seconds, the process ends.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin to watch, because the process is busy now. Call this method only after the fork."""
        self._busy.set()
        self._put_off()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="stuck-watch", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Stop watching until the next `begin`."""
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
