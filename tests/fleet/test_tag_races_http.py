"""Races for tags over HTTP: Keyhole's real scanner and S3 client with moto, at each of their requests."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import redis
import stamina

from keyhole.api import connections
from keyhole.builders import qcow2
from keyhole.fleet.scanning import ScanWork
from keyhole.fleet.services import Services
from keyhole.fleet.tagging import TagWork
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.results.tags import STATUS, is_own
from keyhole.scan.undecided import is_undecided
from keyhole.settings import Settings
from tests.jobs.clock import pass_seconds
from tests.servers.access import CREDENTIALS, aws_client, isolate
from tests.servers.model_s3 import Fault
from tests.servers.racing_moto import OTHERS, RacingMoto, racing_moto

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**2).to_bytes()
UNSAFE = qcow2(1024**2, backing_file="/etc/shadow").to_bytes()
#: More requests than a scan and its tags need.
REQUESTS = 9
#: Only the model can let a request take effect later.
FAULTS = [None, *(fault for fault in Fault if fault is not Fault.LATE)]


@pytest.fixture(scope="module")
def server() -> Iterator[RacingMoto]:
    with racing_moto() as moto:
        yield moto


@pytest.fixture
def others(server: RacingMoto) -> "Iterator[S3Client]":
    """Another client, before whose requests nothing happens."""
    client = aws_client("s3", server.url)

    def mark(params: Any, **_: Any) -> None:
        params["headers"][OTHERS] = "1"

    client.meta.events.register("before-call.s3", mark)
    yield client
    client.close()


@pytest.fixture
def services(
    server: RacingMoto, valkey: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Services]:
    isolate(monkeypatch, **CREDENTIALS)
    valkey.ping()
    server.before, server.count = lambda _: None, 0
    settings = {"redis_url": valkey_url, "s3_endpoint_url": server.url, "sinks": ("redis", "tags")}
    with stamina.set_testing(True, attempts=3):
        yield Services(Settings.model_validate(settings), os.getpid())
    connections._shared_s3.cache_clear()


def scan(services: Services, bucket: str) -> None:
    """Scan the object and record its verdict. If it is undecided, scan again."""
    work = ScanWork(services)
    job = ScanJob(bucket=bucket, key="a")
    entry = Entry(job.id, (job,))
    for _ in range(3):
        report = work.scan(entry, job)
        if not is_undecided(report):
            work.record(entry, job, report)
            return


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("happens", ["replaced", "forged", "deleted"])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_tag_says_safe_of_other_bytes(
    server: RacingMoto,
    services: Services,
    others: "S3Client",
    valkey: redis.Redis,
    *,
    fault: Fault | None,
    happens: str,
    versioned: bool,
) -> None:
    for number in range(REQUESTS):
        bucket = f"test-{uuid4().hex}"
        others.create_bucket(Bucket=bucket)
        if versioned:
            status: Any = {"Status": "Enabled"}
            others.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=status)
        others.put_object(Bucket=bucket, Key="a", Body=SAFE)

        def happen(request: int, *, bucket: str = bucket, number: int = number) -> Fault | None:
            if request != number:
                # The fault happens twice, so that the tags are owed or the scan is undecided.
                return fault if request in {number + 1, number + 2} else None
            if happens == "deleted":
                others.delete_object(Bucket=bucket, Key="a")
            else:
                forged = "keyhole-status=safe&Keyhole_Status=safe" if happens == "forged" else ""
                others.put_object(Bucket=bucket, Key="a", Body=UNSAFE, Tagging=forged)
            return fault

        server.before, server.count = happen, 0
        scan(services, bucket)
        server.before = lambda _: None
        scan(services, bucket)
        while services.tag_debts.count() + services.tag_debts.count_late():
            pass_seconds(valkey, 130)
            TagWork(services).write_due()

        versions = others.list_object_versions(Bucket=bucket).get("Versions", [])
        for version in versions:
            where: Any = {"Bucket": bucket, "Key": "a", "VersionId": version["VersionId"]}
            tags = {tag["Key"]: tag["Value"] for tag in others.get_object_tagging(**where)["TagSet"]}
            body = others.get_object(**where)["Body"].read()
            assert tags.get(STATUS) != "safe" or body == SAFE, number
            assert not [name for name in tags if is_own(name) and name.lower() != name], number
