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
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from threading import Thread
from typing import Any, Final

from worker.inspectors.text import printable

#: A part takes 110 to 135 MB, be it of 300,000 rows or of 1,500,000; importing pyarrow is 60 of them.
MEMORY_BYTES: Final = 2 << 30
#: A million rows take two to four seconds.
CPU_SECONDS: Final = 3600
#: What the child answers is a sentence.
MAX_ANSWER_BYTES: Final = 64 << 10
#: Arrow's own pools reserve gigabytes of addresses, which count as memory.
ENVIRONMENT: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}


class FileFormat(StrEnum):
    """How parts are written."""

    CSV = "csv"
    PARQUET = "parquet"
    ORC = "orc"


class PartError(Exception):
    """A part that is not what it should be.

    Args:
        message: What is wrong with it, in words that fit behind a colon.
        row: Where, counted from 1.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True, slots=True)
class Conversion:
    """What to make of a part.

    Args:
        source: The part, as it was downloaded and verified.
        target: Where the table is written; it does not exist yet.
        size: The part's length in bytes, by which what comes of it is bounded.
        file_format: How the part is written.
        columns: The columns of a CSV.
        bucket: The bucket whose objects are wanted; rows of others are left out.
        prefix: How wanted keys begin.
        versions: Whether all versions are wanted, not the current ones.
    """

    source: str
    target: str
    size: int
    file_format: FileFormat
    columns: tuple[str, ...]
    bucket: str
    prefix: str
    versions: bool


def convert(conversion: Conversion) -> int:
    """Write the table; returns how many rows it has.

    Raises:
        PartError: The part is not what it should be.
    """
    process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
        [sys.executable, "-P", "-c", f"from {__name__} import main; main()"],
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


# The child


def main() -> None:
    """Convert one part, and say how that went."""
    line = sys.stdin.readline()
    Thread(target=_end_with_the_parent, daemon=True).start()
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_CPU, CPU_SECONDS)
    _limit(resource.RLIMIT_CORE, 0)
    said = json.dumps(_converted(line)).encode()
    os.write(1, said)
    os._exit(0)  # at once: that thread still waits


def _converted(line: str) -> dict[str, Any]:
    try:
        return {"rows": write_table(Conversion(**json.loads(line)))}
    except PartError as error:
        return {"error": str(error), "row": error.row}
    except MemoryError:
        return {"error": f"reading it takes more than {MEMORY_BYTES >> 20} MiB of memory"}
    except Exception as error:  # noqa: BLE001 - whatever the libraries make of a hostile part
        said = printable(str(error)[:200].encode(errors="replace"))
        return {"error": f"it cannot be read: {type(error).__name__}: {said}"}


def write_table(part: Conversion) -> int:
    """Write the table, as the child does it; returns how many rows it has.

    Raises:
        PartError: The part is not what it should be. Others, which pyarrow raises, say the same.
    """
    # Here, so that the libraries are within the limits, and no other process has them.
    from worker.intake.inventory.formats import BYTES_PER_BYTE, FREE_BYTES, batches  # noqa: PLC0415
    from worker.intake.inventory.rows import wanted_rows  # noqa: PLC0415
    from worker.intake.inventory.table import TableWriter  # noqa: PLC0415

    first = 1
    with TableWriter(Path(part.target), FREE_BYTES + BYTES_PER_BYTE * part.size) as table:
        for batch in batches(part):
            table.write(wanted_rows(part, batch, first))
            first += len(batch["bucket"])
    return table.rows


def _end_with_the_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def _limit(kind: int, most: int) -> None:
    """Lower a limit of this process, where the system has it."""
    _, hard = resource.getrlimit(kind)
    with suppress(ValueError, OSError):
        resource.setrlimit(kind, (most, hard) if hard == resource.RLIM_INFINITY else (min(most, hard), hard))
