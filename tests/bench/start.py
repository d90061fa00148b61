"""The time from the start of a command to its end."""

import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.bench.table import Table
from tests.e2e.commands import KEYHOLE, environment


def run(folder: Path, images: list[str], times: int) -> list[Table]:
    """Return the table: medians of so many starts, which take turns."""
    image = str(folder / images[0])
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "keyhole --version": [*KEYHOLE, "--version"],
        "keyhole --help": [*KEYHOLE, "--help"],
        "keyhole inspect FILE": [*KEYHOLE, "inspect", image],
        "qemu-img info FILE": ["qemu-img", "info", image],
    }
    if not shutil.which("qemu-img"):
        del commands["qemu-img info FILE"]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for name in [*commands, *list(commands) * times]:  # the first of each compiles, and is not counted
        taken[name].append(_run(commands[name]))
    table = Table("Start of a command", ("command", "seconds", "CPU seconds"))
    for name, runs in taken.items():
        table.add(name, *(median(values) for values in zip(*runs[1:], strict=True)))
    return [table]


def _run(command: list[str]) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of a command."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    cpu, began = used(), time.perf_counter()
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began, used() - cpu
