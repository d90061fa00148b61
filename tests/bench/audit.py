"""The cost of an audit: objects per second, requests, and Redis memory per object.

Run it from the repository's root:

    python -m tests.bench.audit [objects]

The S3 server is synthetic (`tests/servers/synthetic_s3.py`) and runs in its own process on the loopback
interface. It answers at once and its objects are small, so the benchmark measures Keyhole and Redis. A GET to
a real S3 takes about 30 ms, so a process with sixteen threads sends at most 500 per second. All processes
share this machine's processors.
"""

import argparse
import tempfile
import time
from pathlib import Path

from tests.bench.table import Table
from tests.e2e.audit_site import AuditSite, synthetic_site

BUCKET = "bench"
OBJECTS = 20_000
PROCESSES = (1, 2)


def audited(site: AuditSite, objects: int) -> tuple[float, dict[str, int]]:
    """The duration of an audit in seconds, and the requests of each kind that the server counted."""
    site.s3.forget()
    began = time.perf_counter()
    audit = site.ended(site.begin(BUCKET))
    took = time.perf_counter() - began
    assert audit.totals.listed == sum(audit.totals.statuses.values()) == objects, audit
    return took, dict(site.s3.counts())


def run(objects: int) -> list[Table]:
    """Return the table: an audit of a new bucket, and the next audit of the same bucket, unchanged."""
    table = Table(
        f"An audit of {objects:,} objects",
        ("processes", "audit", "seconds", "objects/s", "LISTs", "GETs", "Redis, bytes an object"),
    )
    for processes in PROCESSES:
        with tempfile.TemporaryDirectory() as folder, synthetic_site(Path(folder)) as site:
            site.s3.fill(BUCKET, objects)
            with site.worker(concurrency=processes):
                for what in ("first", "unchanged"):
                    before = site.redis.info("memory")["used_memory"]
                    took, asked = audited(site, objects)
                    memory = site.redis.info("memory")["used_memory"] - before
                    gets = asked.get("GET", 0)
                    kept = memory / objects if what == "first" else None
                    table.add(processes, what, took, objects / took, asked.get("LIST", 0), gets, kept)
    return [table]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("objects", type=int, nargs="?", default=OBJECTS)
    print(*run(parser.parse_args().objects))


if __name__ == "__main__":
    main()
