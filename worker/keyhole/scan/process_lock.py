"""A lock that one process at a time can hold, shared by a process and its forked children.

It is a lock on an unnamed temporary file, so the kernel releases it when the process ends, even after a
crash.

Source: fcntl_locking(2): such a lock belongs to one process, and a forked child does not inherit it.
"""

import fcntl
import os
import time
from tempfile import TemporaryFile
from typing import Final

#: Seconds between two attempts to take the lock.
LOOK_SECONDS: Final = 0.05


class ProcessLock:
    """A lock between processes, not between threads: a process that holds it can acquire it again.

    Create it before forking. The threads of one process need an additional lock, which excludes other
    threads.
    """

    def __init__(self) -> None:
        with TemporaryFile() as file:
            self._file = os.dup(file.fileno())

    def acquire(self, seconds: float) -> bool:
        """Wait for the lock for at most `seconds`. Return whether this process now holds it."""
        until = time.monotonic() + seconds
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                left = until - time.monotonic()
                if left <= 0:
                    return False
                time.sleep(min(left, LOOK_SECONDS))
            else:
                return True

    def release(self) -> None:
        """Release the lock."""
        fcntl.lockf(self._file, fcntl.LOCK_UN)
