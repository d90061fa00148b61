"""Logs what native code prints in the pool processes of a worker, such as the panic of a Rust library.

Native code writes to the descriptors 1 and 2, and not to Python's `sys.stderr`. In a pool process, both
descriptors lead to a pipe. A thread of the worker's main process reads the pipe, and writes each line as a
line of JSON. The thread also writes the last words of a pool process that native code ends.

In a main process, the descriptors lead to the log: nobody could read the pipe after native code has ended the
process. So the text of native code in a main process is not JSON.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

#: The most bytes of a line. The rest of a longer line becomes another line.
LONGEST_LINE: Final = 64 * 1024
#: At the end, wait at most this many seconds for the last lines. A killed worker can leave pool processes
#: behind that hold the pipe open.
LAST_SECONDS: Final = 1.0


@contextmanager
def native_text(write_line: Callable[[str], object]) -> Iterator[int]:
    """Yield the descriptor for the output of native code, and pass each line to `write_line`."""
    reading, writing = os.pipe()
    reader = threading.Thread(target=_read, args=(reading, write_line), name="native text", daemon=True)
    reader.start()
    try:
        yield writing
    finally:
        os.close(writing)
        reader.join(LAST_SECONDS)


def redirect(descriptor: int) -> None:
    """In a pool process, redirect the descriptors 1 and 2 to the pipe."""
    for number in (1, 2):
        with suppress(OSError):
            os.dup2(descriptor, number)


def _read(descriptor: int, write_line: Callable[[str], object]) -> None:
    """Read lines until all processes have closed the pipe."""
    rest = b""
    with suppress(OSError):
        while piece := os.read(descriptor, LONGEST_LINE):
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) >= LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                _write(line, write_line)
    _write(rest, write_line)
    with suppress(OSError):
        os.close(descriptor)


def _write(line: bytes, write_line: Callable[[str], object]) -> None:
    text = line.decode(errors="backslashreplace").rstrip()
    if text:
        write_line(text)
