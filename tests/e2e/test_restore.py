"""A Redis is restored from a copy of its snapshot, as `keyhole docs redis` describes it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import redis

from keyhole.builders import qcow2
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.reasons import Status
from keyhole.results.redis_store import RedisStore
from keyhole.settings import Settings
from tests.e2e import commands
from tests.jobs.clock import pass_seconds
from tests.results.tag_reports import report
from tests.servers.redis_server import RedisServer, valkey_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

KEY = "queued.qcow2"


@pytest.fixture
def bucket(s3: "S3Client") -> str:
    """A bucket with an image."""
    name = f"test-{uuid4().hex}"
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key=KEY, Body=qcow2(1024**3).to_bytes())
    return name


@pytest.fixture
def restored() -> Iterator[RedisServer]:
    """A server without data, whose append-only file is off."""
    with valkey_server() as server:
        yield server


def restore(server: RedisServer, copy: Path) -> None:
    """Start a server with the copy of a snapshot, and turn its append-only file on."""
    server.kill()
    shutil.copy(copy, server.folder / "dump.rdb")
    # A server whose append-only file is on does not read the snapshot if this file is missing.
    server.start("--appendonly", "yes")
    with server.client() as client:
        assert client.dbsize() == 0
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    server.start("--appendonly", "no")
    with server.client() as client:
        client.config_set("appendonly", "yes")
        commands.until(lambda: _is_rewritten(client))
    # The next start reads the append-only file.
    server.kill()
    server.start("--appendonly", "yes")


def _is_rewritten(client: redis.Redis) -> bool:
    told = client.info("persistence")
    return not told["aof_rewrite_in_progress"] and not told["aof_rewrite_scheduled"]


def snapshot(client: redis.Redis, server: RedisServer, copy: Path) -> None:
    """Copy a snapshot while the server runs."""
    client.bgsave()
    commands.until(lambda: not client.info("persistence")["rdb_bgsave_in_progress"])
    assert client.info("persistence")["rdb_last_bgsave_status"] == "ok"
    shutil.copy(server.folder / "dump.rdb", copy)


def test_verdicts_are_back_and_queued_jobs_are_sent_again(
    bucket: str, moto_url: str, restored: RedisServer, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.rdb"
    verdict = report(bucket=bucket, key="verdict.qcow2")
    job = ScanJob(id="queued", bucket=bucket, key=KEY)
    with valkey_server("--appendonly", "yes") as lost, lost.client() as client:
        # Given a verdict, and a job in the ledger
        assert _store(client).write(verdict, job_id="done", sequencer=None)
        assert _ledger(client).record(Entry(job.id, (job,)))
        # When a snapshot is copied, and the server is lost
        snapshot(client, lost, copy)
        lost.kill()

    # And another server starts from the copy, and the broker has lost the job's message
    restore(restored, copy)
    with restored.client() as client:
        store, ledger = _store(client), _ledger(client)
        assert store.get(bucket, "verdict.qcow2") == verdict
        assert ledger.is_open(job.id)
        pass_seconds(client, Settings().resend_seconds)
        # Then a worker finds the job in the ledger, and scans the object
        env = commands.environment(
            KEYHOLE_REDIS_URL=restored.url(),
            KEYHOLE_S3_ENDPOINT_URL=moto_url,
            XDG_RUNTIME_DIR=tmp_path,
            **commands.S3_CREDENTIALS,
        )
        with commands.worker(env, tmp_path / "worker.log"):
            commands.until(lambda: ledger.is_done(job.id))
        found = store.get(bucket, KEY)
        assert found is not None
        assert found.status is Status.SAFE


def _store(client: redis.Redis) -> RedisStore:
    return RedisStore(client, expiry_seconds=None, stream_length=10)


def _ledger(client: redis.Redis) -> Ledger:
    return Ledger(client, done_seconds=3600)
