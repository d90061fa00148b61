"""Converts a part of an inventory into a table, in a child process.

The libraries for Parquet and ORC trust their files: a changed byte in an ORC file can kill the process
(pyarrow 26.0: about one change in ten thousand does), and a few bytes can request any amount of memory. So
a child process reads the part. It has limits of memory and time, and ends when its parent does. If it is
killed, the error says why.

The child gets a `Conversion` as a line of JSON on its standard input, which stays open while its parent
lives. It answers in JSON, with `rows` or with `error`. If the error is about a row, the answer also has
`row`, counted from 1.
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

#: The child's module. It is not imported here, so that its libraries are loaded within the child's limits.
CHILD: Final = "keyhole.intake.inventory.child"
#: The longest answer that is read. The child answers in one sentence.
MAX_ANSWER_BYTES: Final = 64 << 10
#: Arrow's own memory pools reserve gigabytes of address space, which count against the limit.
ENVIRONMENT: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}


def convert(conversion: Conversion) -> int:
    """Write the table of a part, and return the number of its rows.

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
        with suppress(BrokenPipeError):  # the child has ended already; its exit code says why
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
    """How the child ended, in words."""
    if returncode == -signal.SIGXCPU:
        return f"takes longer than {CPU_SECONDS} seconds"
    if returncode < 0:
        return f"kills the process that does it ({signal.strsignal(-returncode)})"
    return f"failed without a word (exit code {returncode})"
