"""The child process that converts one part of an inventory, with limits on memory and CPU time.

The module `conversion` documents the input and the output of the child.
"""

import json
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from keyhole.inspectors.text import printable
from keyhole.intake.inventory.part import CPU_SECONDS, MEMORY_BYTES, Conversion, PartError


def main() -> None:
    """Convert one part, and write the result to standard output."""
    line = sys.stdin.readline()
    Thread(target=_end_with_the_parent, daemon=True).start()
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_CPU, CPU_SECONDS)
    _limit(resource.RLIMIT_CORE, 0)
    said = json.dumps(_converted(line)).encode()
    os.write(1, said)
    os._exit(0)  # skip Python's cleanup, because the other thread is still reading standard input


def _converted(line: str) -> dict[str, Any]:
    try:
        return {"rows": write_table(Conversion(**json.loads(line)))}
    except PartError as error:
        return {"error": str(error), "row": error.row}
    except MemoryError:
        return {"error": f"reading it needs more than {MEMORY_BYTES >> 20} MiB of memory"}
    except Exception as error:  # noqa: BLE001 - a malicious part can cause every error of the libraries
        said = printable(str(error)[:200].encode(errors="replace"))
        return {"error": f"it cannot be read: {type(error).__name__}: {said}"}


def write_table(part: Conversion) -> int:
    """Write the table of a part, and return the number of rows in the table.

    The child process calls this function.

    Raises:
        PartError: The part is invalid. If a part is invalid, pyarrow may also raise errors of other types.
    """
    # Import pyarrow's modules here, so that they are loaded only in the child, after its limits are set.
    from keyhole.intake.inventory.formats import BYTES_PER_BYTE, FREE_BYTES, batches  # noqa: PLC0415
    from keyhole.intake.inventory.rows import wanted_rows  # noqa: PLC0415
    from keyhole.intake.inventory.table import TableWriter  # noqa: PLC0415

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
    """Lower a resource limit of this process, if the system supports the limit."""
    _, hard = resource.getrlimit(kind)
    with suppress(ValueError, OSError):
        resource.setrlimit(kind, (most, hard) if hard == resource.RLIM_INFINITY else (min(most, hard), hard))
