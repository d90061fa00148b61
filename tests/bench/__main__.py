"""All benchmarks of speed, side by side: prints their tables and writes them as JSON.

Run it from the repository's root, with qemu-img installed:

    python -m tests.bench                       everything; takes about ten minutes
    python -m tests.bench --quick               fewer objects; takes about two
    python -m tests.bench throughput start      only these
    python -m tests.bench --json speed.json     writes the numbers, too

The peers (boto3, obstore, oslo.utils) are installed with pip into an environment of their own, `--peers`.
Machines differ and are shared, so compare what one run printed, and report ratios. `NOTES.md` in this folder
lists what was tried and did not help.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tests.bench import audit, inspection, mix, queueing, search, start, throughput
from tests.bench.contenders import PEERS
from tests.bench.table import Table

#: Where the peers are installed unless told otherwise. git ignores it.
PEERS_FOLDER = Path("build/bench-peers")


def peers(folder: Path) -> str:
    """Return the Python that has the peers' packages. Install them if the folder is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {', '.join(PEERS)} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
    return str(python.absolute())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        benchmarks: dict[str, Callable[[list[str], bool], list[Table]]] = {
            "inspection": lambda images, quick: inspection.run(folder, images, 30 if quick else 300),
            "start": lambda images, quick: start.run(folder, images, 3 if quick else 15),
            "throughput": lambda images, quick: throughput.run(
                folder, images, 512 if quick else 4096, peers(options.peers)
            ),
            "queue": lambda images, quick: queueing.run(
                folder, images, 512 if quick else 4096, peers(options.peers)
            ),
            "audit": lambda _, quick: audit.run(5_000 if quick else 50_000),
            "search": lambda _, quick: search.run(10_000 if quick else search.VERDICTS),
        }
        parser.add_argument("names", nargs="*", choices=[[], *benchmarks], help="these only")
        parser.add_argument("--quick", action="store_true", help="fewer objects")
        parser.add_argument("--json", type=Path, help="a file for the numbers")
        parser.add_argument("--peers", type=Path, default=PEERS_FOLDER, help="a folder for their packages")
        options = parser.parse_args()
        images = mix.make(folder)
        found: dict[str, list[dict[str, object]]] = {}
        for name in options.names or benchmarks:
            began = time.monotonic()
            tables = benchmarks[name](images, options.quick)
            found[name] = [asdict(table) for table in tables]
            print(*tables, sep="\n", flush=True)
            print(f"({name}: {time.monotonic() - began:.0f} s)\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
