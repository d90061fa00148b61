"""The cost of an audit: objects per second, requests, and Redis memory per object.

Run it from the repository's root:

    python -m tests.bench.audit [objects]

The S3 server is synthetic (`tests/servers/synthetic_s3.py`) and runs in its own process on the loopback
interface. It answers at once and its objects are small, so the benchmark measures Keyhole and Redis. A GET to
a real S3 takes about 30 ms, so a process with sixteen threads sends at most 500 per second. All processes
share this machine's processors, so the table also states the CPU time of each side. The second audit runs
several times, and the table shows the fastest.
"""

import argparse
import subprocess
import tempfile
import time
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from tests.bench.queueing import cpu_seconds
from tests.bench.table import Table
from tests.e2e.audit_site import AuditSite, synthetic_site

BUCKET = "bench"
OBJECTS = 20_000
PROCESSES = (1, 2)
#: How often the audit of unchanged objects runs.
TIMES = 5


class Use(NamedTuple):
    """An audit's duration in seconds, the CPU seconds of each side, and the requests to S3 by kind."""

    seconds: float
    worker: float
    s3: float
    redis: float
    requests: dict[str, int]


def audited(site: AuditSite, worker: "subprocess.Popen[bytes]", objects: int) -> Use:
    """Run an audit, and return what it used."""
    site.s3.forget()
    before = cpu_of_each(site, worker)
    began = time.perf_counter()
    audit = site.ended(site.begin(BUCKET))
    took = time.perf_counter() - began
    assert audit.totals.listed == sum(audit.totals.statuses.values()) == objects, audit
    worker_cpu, s3_cpu, redis_cpu = (
        after - earlier for after, earlier in zip(cpu_of_each(site, worker), before, strict=True)
    )
    return Use(took, worker_cpu, s3_cpu, redis_cpu, dict(site.s3.counts()))


def cpu_of_each(site: AuditSite, worker: "subprocess.Popen[bytes]") -> tuple[float, float, float]:
    """Return the CPU seconds of the worker, S3 and Redis so far."""
    redis = site.redis.info("cpu")
    return cpu_seconds(worker), site.s3.cpu_seconds(), redis["used_cpu_user"] + redis["used_cpu_sys"]


def run(objects: int) -> list[Table]:
    """Return the table: an audit of a new bucket, and the next audit of the same bucket, unchanged."""
    table = Table(
        f"An audit of {objects:,} objects",
        (
            *("processes", "audit", "seconds", "objects/s"),
            *("worker, CPU µs an object", "S3", "Redis", "LISTs", "GETs", "Redis, bytes an object"),
        ),
    )
    for processes in PROCESSES:
        with tempfile.TemporaryDirectory() as folder, synthetic_site(Path(folder)) as site:
            site.s3.fill(BUCKET, objects)
            with site.worker(concurrency=processes) as worker:
                before = site.redis.info("memory")["used_memory"]
                first = audited(site, worker, objects)
                memory = site.redis.info("memory")["used_memory"] - before
                unchanged = min(
                    (audited(site, worker, objects) for _ in range(TIMES)), key=attrgetter("seconds")
                )
            for what, use, kept in (("first", first, memory / objects), ("unchanged", unchanged, None)):
                cpu = (seconds / objects * 1e6 for seconds in (use.worker, use.s3, use.redis))
                requests = (use.requests.get(kind, 0) for kind in ("LIST", "GET"))
                table.add(processes, what, use.seconds, objects / use.seconds, *cpu, *requests, kept)
    return [table]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("objects", type=int, nargs="?", default=OBJECTS)
    print(*run(parser.parse_args().objects))


if __name__ == "__main__":
    main()
