"""Reads small files that users name: policies, prices, schedules, keys.

A user can name a pipe (`<(command)` in a shell) or a device by mistake. So the size and the time are limited.
"""

import errno
import os
import select
import stat
from typing import Final

#: The longest file of a user, in bytes. A policy with a thousand rules has 100 KiB.
LONGEST_BYTES: Final = 4 * 1024 * 1024
#: How many seconds the program at the other end of a pipe may take until it writes.
PIPE_SECONDS: Final = 5.0


def read_small(path: str | os.PathLike[str]) -> tuple[bytes, int]:
    """Return the content of a file, and the file's mode (`st_mode`).

    Raises:
        OSError: The file cannot be read, is a folder, or has more than `LONGEST_BYTES` bytes; or nothing
            writes to a pipe.
        ValueError: The path contains a NUL.
    """
    # Without O_NONBLOCK, opening a pipe waits until a program opens the other end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        mode = os.fstat(descriptor).st_mode
        pieces: list[bytes] = []
        left = LONGEST_BYTES + 1
        while left > 0:
            if not stat.S_ISREG(mode):
                _wait(descriptor)
            piece = os.read(descriptor, min(left, 64 * 1024))
            if not piece:
                return b"".join(pieces), mode
            pieces.append(piece)
            left -= len(piece)
    finally:
        os.close(descriptor)
    raise OSError(errno.EFBIG, f"it is longer than {LONGEST_BYTES:,} bytes")


def _wait(descriptor: int) -> None:
    """Wait until a pipe or a device has data or has ended.

    Raises:
        TimeoutError: That took too long.
    """
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    if not waiting.poll(PIPE_SECONDS * 1000):
        raise TimeoutError(errno.ETIMEDOUT, f"it had no data for {PIPE_SECONDS:g} s")
