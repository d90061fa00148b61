"""A part of an inventory made into a table of what is wanted of it: in a process of its own.

The libraries that read Parquet and ORC were written for files of friends: a changed byte in an ORC file can
kill the process (pyarrow 26.0: one change in some ten thousand does), and a few bytes can ask for any amount
of memory. So a child reads the part. It has limits of memory and time, it ends when its parent does, and
whatever kills it is an error with a sentence.

The child gets a `Conversion` as a line of JSON on its standard input, which stays open for as long as its
parent lives, and answers in JSON: `rows`, or `error`, and `row` where that is about a row, from 1.
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

#: It is named only: its imports are the child's, within the child's limits.
CHILD: Final = "keyhole.intake.inventory.child"
#: What the child answers is a sentence.
MAX_ANSWER_BYTES: Final = 64 << 10
#: Arrow's own pools reserve gigabytes of addresses, which count as memory.
ENVIRONMENT: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}


def convert(conversion: Conversion) -> int:
    """Write the table; returns how many rows it has.

    Raises:
        PartError: The part is not what it should be.
    """
    process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
        [sys.executable, "-P", "-c", f"from {CHILD} import main; main()"],
        env=os.environ | ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # ORC's library warns there
    )
    assert process.stdin, "it is a pipe"  # noqa: S101 - for the type
    assert process.stdout, "it is a pipe"  # noqa: S101 - for the type
    try:
        with suppress(BrokenPipeError):  # it is dead already, and its end says of what
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
    """What became of the child, in words."""
    if returncode == -signal.SIGXCPU:
        return f"takes longer than {CPU_SECONDS} seconds"
    if returncode < 0:
        return f"kills the process that does it ({signal.strsignal(-returncode)})"
    return f"failed without a word (exit code {returncode})"
