"""Redis is frozen, full or read-only for some time: the worker stays alive, and nothing is lost."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Self

import pytest
import redis

from keyhole.builders import qcow2
from keyhole.intake.dead_letters import DeadLetters
from keyhole.reasons import Status
from keyhole.store import keys
from tests.e2e import commands
from tests.e2e.conftest import UNACKNOWLEDGED, Site
from tests.e2e.deeds import message
from tests.ports import free_port

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**3).to_bytes()
OBJECTS = 60
QUEUE = "keyhole:broker:keyhole.jobs"
#: How long the trouble with Redis lasts, in seconds.
TROUBLED = 20.0
#: Seconds for which the event loop can be silent. It waits 3 s for an answer from Redis, and machines can be
#: busy. An event loop that is blocked would be silent until the trouble ends.
LONGEST_SILENCE = 0.9 * TROUBLED


@contextmanager
def frozen(client: redis.Redis) -> Iterator[None]:
    pid = int(client.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def frozen_and_cut_off(client: redis.Redis) -> Iterator[None]:
    """All clients connect again, and get no answer."""
    pid = int(client.info("server")["process_id"])
    client.client_kill_filter(_type="pubsub")
    client.client_kill_filter(_type="normal")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def full(client: redis.Redis) -> Iterator[None]:
    client.config_set("maxmemory", 1)
    yield
    client.config_set("maxmemory", 0)


@contextmanager
def read_only(client: redis.Redis) -> Iterator[None]:
    """After a fail-over, the server can be a replica whose primary no longer runs."""
    client.replicaof("127.0.0.1", free_port())
    yield
    client.replicaof("NO", "ONE")


class Watch:
    """Reads a worker's heartbeat continuously; `longest` is the longest time without a heartbeat."""

    def __init__(self, folder: Path) -> None:
        (self._sign,) = folder.glob("worker-*")
        self.longest = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            self.longest = max(self.longest, time.time() - self._sign.stat().st_mtime)


@pytest.mark.parametrize("trouble", [frozen, frozen_and_cut_off, full, read_only])
def test_the_worker_stays_alive_and_nothing_is_lost(
    faulty_site: Site, tmp_path: Path, trouble: Callable[[redis.Redis], Iterator[None]]
) -> None:
    site = faulty_site
    site.held.release()
    bucket = site.bucket()
    for number in range(OBJECTS):
        site.s3.put_object(Bucket=bucket, Key=f"{number}.qcow2", Body=SAFE)
    env = site.env | {"KEYHOLE_BATCH_SIZE": "1"}
    with commands.worker(env, site.log, concurrency=2) as worker, Watch(tmp_path / "keyhole") as watch:
        submitted = commands.keyhole("submit", "-r", "--json", f"s3://{bucket}/", env=env)
        assert submitted.returncode == 0, submitted.stderr
        commands.until(lambda: site.redis.xlen(keys.VERDICTS) >= 5)

        with trouble(site.redis):
            threading.Event().wait(TROUBLED)
            assert worker.poll() is None
            assert commands.keyhole("worker", "--check", env=env).returncode == 0
        commands.until(lambda: site.ledger.count() == 0)
        commands.until(lambda: site.redis.hlen(UNACKNOWLEDGED) == 0)
        assert worker.poll() is None
        assert watch.longest < LONGEST_SILENCE
    reports = [site.store.get(bucket, f"{number}.qcow2") for number in range(OBJECTS)]
    assert [report and report.status for report in reports] == [Status.SAFE] * OBJECTS
    assert site.redis.xlen(keys.VERDICTS) == OBJECTS
    assert site.redis.zcard(keys.DEAD) == 0


def test_a_scan_goes_on_when_the_connections_to_the_broker_die(faulty_site: Site) -> None:
    """The scanning process is not stopped, because it would then be recorded as lost."""
    site, bucket = faulty_site, faulty_site.bucket()
    site.s3.put_object(Bucket=bucket, Key="held/a.qcow2", Body=SAFE)
    # One process is idle. Otherwise the worker would have no connection that waits for messages.
    with commands.worker(site.env, site.log, concurrency=2) as worker:
        commands.keyhole("submit", f"s3://{bucket}/held/a.qcow2", env=site.env)
        site.held.await_request()
        before = commands.children(worker.pid)

        site.redis.client_kill_filter(_type="normal")
        commands.until(lambda: b"Trying to re-establish" in site.log.read_bytes())
        site.held.release()

        commands.until(lambda: site.ledger.count() == 0)
        commands.until(lambda: site.redis.hlen(UNACKNOWLEDGED) == 0)
        assert commands.children(worker.pid) == before
    report = site.store.get(bucket, "held/a.qcow2")
    assert report is not None
    assert report.status is Status.SAFE
    assert site.redis.xlen(keys.VERDICTS) == 1


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (b"no message", "not a message"),
        (message("keyhole.later", [[], {}, {}]), "does not have"),
        (message("keyhole.scan", [[], {}, {}]), "cannot be called"),
    ],
)
def test_what_is_refused_while_redis_is_full_is_a_dead_letter_later(
    faulty_site: Site, faulty_worker: Popen[bytes], item: bytes, reason: str
) -> None:
    site = faulty_site
    letters = DeadLetters(site.redis)
    # The worker logs that it is ready a moment before it reads its queues.
    commands.until(lambda: site.redis.info("clients")["blocked_clients"])
    os.kill(faulty_worker.pid, signal.SIGSTOP)
    site.redis.lpush(QUEUE, item)
    commands.until(lambda: site.redis.llen(QUEUE) == 0)
    with full(site.redis):
        os.kill(faulty_worker.pid, signal.SIGCONT)
        commands.until(lambda: "maxmemory" in site.log.read_text())
        assert letters.count() == 0

    commands.until(lambda: letters.count() == 1)

    (letter,) = letters.letters()
    assert reason in letter.reason
    commands.until(lambda: site.redis.hlen(UNACKNOWLEDGED) == 0)
    assert faulty_worker.poll() is None
