"""A lock that one process at a time holds. Processes that are forked after it was made share it.

The kernel releases it however its process ends: it is a lock on a file without a name.

Source: fcntl_locking(2): such locks belong to a process, and a child does not inherit them.
"""

import fcntl
import os
import time
from tempfile import TemporaryFile
from typing import Final

#: Seconds between two attempts to take the lock.
LOOK_SECONDS: Final = 0.05


class ProcessLock:
    """The lock. A process that holds it can take it again, so its threads must use a lock of their own."""

    def __init__(self) -> None:
        with TemporaryFile() as file:
            self._file = os.dup(file.fileno())

    def acquire(self, seconds: float) -> bool:
        """Wait for the lock for at most `seconds`, and return whether this process has it."""
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
