"""Converts a part of an inventory into a table, in a child process.

The libraries for Parquet and ORC do not protect against malicious files. If one byte of an ORC file is
changed, reading the file can crash the process: with pyarrow 26.0, about one change in ten thousand caused a
crash. A few bytes can also make the library allocate a huge amount of memory. So a child process with limits
on memory and CPU time reads the part. If the child exceeds a limit, the error names the limit.

The parent writes a `Conversion` as one line of JSON to the child's standard input, and keeps this pipe open.
When the parent ends, the pipe is closed, and the child then ends, too. The child writes a JSON object with
`rows` or `error` to its standard output. If one row caused the error, the object also has `row`, the number
of this row, counted from 1.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from keyhole.intake.inventory.part import CPU_SECONDS, Conversion, PartError

#: The child's module. This module does not import the child's module, so that the libraries are loaded only
#: in the child process, after its limits are set.
CHILD: Final = "keyhole.intake.inventory.child"
#: The parent reads at most this many bytes of the child's response, which is a short JSON object.
MAX_ANSWER_BYTES: Final = 64 << 10
#: The environment variables of the child. They make Arrow use the system's memory allocator, with few arenas.
#: By default, Arrow and the allocator reserve gigabytes of address space, which would exceed the memory
#: limit.
ENVIRONMENT: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}


def convert(conversion: Conversion) -> int:
    """Convert a part in a child process, and return the number of rows in the table.

    Raises:
        PartError: The part is invalid.
    """
    process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
        [sys.executable, "-P", "-c", f"from {CHILD} import main; main()"],
        env=os.environ | ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # ORC's library writes warnings there
    )
    assert process.stdin, "it is a pipe"  # noqa: S101 - for the type
    assert process.stdout, "it is a pipe"  # noqa: S101 - for the type
    try:
        with suppress(BrokenPipeError):  # the child has already ended; its exit code shows the reason
            process.stdin.write(json.dumps(asdict(conversion)).encode() + b"\n")
            process.stdin.flush()
        answer = process.stdout.read(MAX_ANSWER_BYTES)
        process.wait()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.close()
    return _rows(answer, process.returncode)


def _rows(answer: bytes, returncode: int) -> int:
    try:
        said: dict[str, Any] = json.loads(answer)
    except ValueError:
        raise PartError(f"reading it {_death(returncode)}") from None
    if "error" in said:
        raise PartError(said["error"], said.get("row"))
    return int(said["rows"])


def _death(returncode: int) -> str:
    """Describe how the child ended. The error message contains this text after the words "reading it"."""
    if returncode == -signal.SIGXCPU:
        return f"takes longer than {CPU_SECONDS} seconds"
    if returncode < 0:
        return f"crashed the process ({signal.strsignal(-returncode)})"
    return f"failed without an error message (exit code {returncode})"
