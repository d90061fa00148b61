"""A turn that one process at a time has, of all that were forked after it was made.

The kernel takes it back from a process that ends, however it ends: it is a lock on a file without a name.

Source: fcntl_locking(2): such locks belong to a process, and a child does not inherit them.
"""

import fcntl
import os
import time
from tempfile import TemporaryFile
from typing import Final

#: Seconds from one look at whether it is free to the next.
LOOK_SECONDS: Final = 0.05


class ProcessLock:
    """One turn. A process that has it can take it again, so its threads must agree on who does."""

    def __init__(self) -> None:
        with TemporaryFile() as file:
            self._file = os.dup(file.fileno())

    def acquire(self, seconds: float) -> bool:
        """Wait for it, so many seconds at most; returns whether this process has it."""
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
        """Let another process have it."""
        fcntl.lockf(self._file, fcntl.LOCK_UN)
