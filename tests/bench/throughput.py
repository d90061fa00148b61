"""Objects a second and CPU time an object, of Keyhole and its peers, from one origin in one run.

Every contender runs in a process of its own (`contenders`) and reads the same objects. Each is measured at
several concurrencies, and its best counts. Compare the ratios: the machine and the origin are the same.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.contenders import BUCKET, CONTENDERS
from tests.bench.origin import Network, Origin, origin
from tests.bench.table import Table

NETWORKS = {
    "no latency": Network(),
    "30 ms, 80 MB/s": Network(ttfb=0.030, rate=80e6, connect=0.010),
}
#: How many objects each contender reads at once. All that are given are tried, and the best is shown.
CONCURRENCY = {
    "keyhole": (4, 16, 64),
    "boto3-gets": (2, 16),
    "obstore-gets": (16, 64),
    "obstore-async-gets": (16, 64),
    "oslo": (2, 16),
    "qemu-img": (2, 8),
}
#: These take much longer than the others, so they read a quarter of the objects.
SLOW = {"oslo", "qemu-img"}


@dataclass(frozen=True)
class Result:
    """How a contender read so many objects."""

    concurrency: int
    rate: float
    cpu_ms: float
    gets: float
    kib: float
    memory: int


def measure(name: str, at: Origin, names: list[str], concurrency: int, python: str) -> Result:
    """Let a contender read the objects."""
    process = subprocess.Popen(
        [python, "-m", "tests.bench.contenders", name, at.url, str(concurrency)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([".", "worker"])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n".join(names))
        process.stdin.close()
        process.stdout.readline()  # it is warm
        at.counts()
        answer = process.stdout.readline()
    assert answer, f"{name} has failed; its error output says why"
    found, counts, count = json.loads(answer), at.counts(), len(names)
    return Result(
        concurrency,
        count / found["seconds"],
        found["cpu"] / count * 1000,
        counts.requests / count,
        counts.bytes / count / 1024,
        found["memory"],
    )


def run(folder: Path, images: list[str], count: int, peers: str) -> list[Table]:
    """Return a table for each network."""
    return [_table(title, network, folder, images, count, peers) for title, network in NETWORKS.items()]


def _table(title: str, network: Network, folder: Path, images: list[str], count: int, peers: str) -> Table:
    table = Table(
        f"Objects to reports in one process: {title}",
        ("what", "at once", "objects/s", "Keyhole is", "CPU ms an object", "GETs", "KiB", "memory, MB"),
    )
    best: dict[str, Result] = {}
    with origin(folder, network, peers) as at:
        for name in CONTENDERS:
            if name == "qemu-img" and not _reads_urls(at, images[0]):
                table.notes.append("qemu-img cannot read URLs here; Debian's package is qemu-block-extra.")
                continue
            python = sys.executable if name == "keyhole" else peers
            objects = names(images, count // 4 if name in SLOW else count)
            results = [measure(name, at, objects, at_once, python) for at_once in CONCURRENCY[name]]
            best[name] = max(results, key=lambda result: result.rate)
    own = best["keyhole"].rate
    for name, result in best.items():
        table.add(
            name,
            result.concurrency,
            result.rate,
            f"{own / result.rate:.2f}x",
            result.cpu_ms,
            result.gets,
            result.kib,
            round(result.memory / 1e6),
        )
    return table


def _reads_urls(at: Origin, image: str) -> bool:
    """Return whether qemu-img is installed together with its block driver for HTTP."""
    if not shutil.which("qemu-img"):
        return False
    url = f"{at.url}/{BUCKET}/0/{image}"
    return not subprocess.run(["qemu-img", "info", url], capture_output=True, check=False).returncode


def names(images: list[str], count: int) -> list[str]:
    """Return so many names of objects, each of its own; the origin has these images under them."""
    return [f"{number}/{images[number % len(images)]}" for number in range(count)]
