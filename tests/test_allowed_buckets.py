"""No request goes to a bucket that KEYHOLE_BUCKETS does not allow, whichever part of Keyhole is asked."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import redis
from click.testing import CliRunner

from keyhole import scan_object, tasks
from keyhole.api import connections
from keyhole.app import configure
from keyhole.cli import keyhole
from keyhole.cli.errors import exit_code_of
from keyhole.fleet import services as services_module
from keyhole.fleet.services import Services, services, use_settings
from keyhole.intake.audits.audit import AuditSpec, AuditState
from keyhole.intake.audits.records import Claim
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import JOBS
from keyhole.reasons import Status
from keyhole.settings import Settings
from keyhole.sources.allowed import AllowedBuckets, BucketNotAllowedError
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.s3 import S3Source
from keyhole.sources.s3_access import S3Access
from tests.servers.access import CREDENTIALS, isolate
from tests.servers.recorded_moto import RecordedMoto

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MINE, OTHER = "images-a", "payroll"


class TestGlobs:
    @pytest.mark.parametrize(
        ("bucket", "allowed"),
        [
            ("uploads", True),
            ("images-a", True),
            ("images-", True),
            ("uploads2", False),
            ("my-uploads", False),
            ("Uploads", False),
            ("xuploads\n", False),
            ("uploads\n", False),
            ("", False),
            ("arn:aws:s3:us-east-1:123456789012:accesspoint/images-a", False),
        ],
    )
    def test_they_match_whole_names_and_tell_upper_from_lower_case(self, bucket: str, allowed: bool) -> None:
        assert AllowedBuckets(("uploads", "images-*")).allow(bucket) is allowed

    def test_without_any_all_are_allowed(self) -> None:
        assert AllowedBuckets().allow("whatever")


@pytest.fixture
def site(
    valkey: redis.Redis,  # noqa: ARG001 - the fixture empties it
    valkey_url: str,
    recorded: RecordedMoto,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Services]:
    """Keyhole, allowed to use only buckets like `images-*`, and an S3 with an object in `payroll`."""
    isolate(monkeypatch, **CREDENTIALS)
    monkeypatch.setattr(services_module, "_services", None)
    settings = {
        "redis_url": valkey_url,
        "s3_endpoint_url": recorded.url,
        "s3_region": "us-east-1",
        "sinks": "redis,tags",
        "buckets": "images-*",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"KEYHOLE_{name.upper()}", value)
    connections._shared_s3.cache_clear()
    use_settings(Settings())
    configure(Settings())
    yield services()
    connections._shared_s3.cache_clear()


@pytest.fixture
def _objects(s3: "S3Client", site: Services) -> None:  # noqa: ARG001 - the fixture `site` sets the credentials first
    for bucket in (MINE, OTHER):
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="key", Body=b"x")


def asked_of(recorded: RecordedMoto, bucket: str) -> list[str]:
    """The requests from Keyhole that named a bucket."""
    return [request.method for request in recorded.requests if request.bucket == bucket]


@pytest.mark.usefixtures("site")
class TestWhereWorkIsAccepted:
    def test_submit_refuses_it_in_one_line(self, site: Services) -> None:
        result = CliRunner().invoke(keyhole, ["submit", f"s3://{MINE}/key", f"s3://{OTHER}/key"])

        assert isinstance(result.exception, BucketNotAllowedError)
        assert exit_code_of(result.exception) == 2
        assert str(result.exception) == "KEYHOLE_BUCKETS does not allow the bucket 'payroll'"
        assert site.ledger.count() == 0

    @pytest.mark.parametrize("command", ["submit", "inspect"])
    def test_listing_one_is_refused(self, recorded: RecordedMoto, command: str) -> None:
        result = CliRunner().invoke(keyhole, [command, "-r", f"s3://{OTHER}/"])

        assert isinstance(result.exception, BucketNotAllowedError)
        assert exit_code_of(result.exception) == 2
        assert asked_of(recorded, OTHER) == []

    @pytest.mark.parametrize(
        "arguments",
        [
            [f"s3://{OTHER}/"],
            [f"s3://{OTHER}/", "--dry-run"],
            [f"s3://{MINE}/", "--inventory", f"s3://{OTHER}/inventory/manifest.json"],
        ],
    )
    def test_an_audit_refuses_it(self, recorded: RecordedMoto, arguments: list[str]) -> None:
        result = CliRunner().invoke(keyhole, ["audit", "--detach", *arguments])

        assert isinstance(result.exception, BucketNotAllowedError)
        assert "does not allow the bucket 'payroll'" in str(result.exception)
        assert asked_of(recorded, OTHER) == []

    def test_python_users_are_refused(self, site: Services) -> None:
        with pytest.raises(BucketNotAllowedError):
            tasks.scan.delay(f"s3://{OTHER}/key")
        with pytest.raises(BucketNotAllowedError):
            tasks.scan_batch.delay([f"s3://{MINE}/key", f"s3://{OTHER}/key"])
        assert site.ledger.count() == 0


@pytest.mark.usefixtures("_objects")
class TestInTheWorker:
    def test_a_forged_job_is_a_dead_letter_without_a_request(
        self, site: Services, recorded: RecordedMoto
    ) -> None:
        entry = Entry("forged", (ScanJob(id="forged", bucket=OTHER, key="key"),), JOBS)

        tasks.scan.work_on(ENTRY.dump_python(entry, mode="json"))

        (letter,) = site.dead_letters.letters()
        assert letter.reason == "KEYHOLE_BUCKETS does not allow the bucket 'payroll'"
        assert asked_of(recorded, OTHER) == []
        assert site.ledger.is_done("forged")
        assert site.store.get(OTHER, "key", None) is None

    def test_the_other_jobs_of_its_batch_are_scanned(self, site: Services, recorded: RecordedMoto) -> None:
        jobs = tuple(ScanJob(id=f"job-{bucket}", bucket=bucket, key="key") for bucket in (MINE, OTHER))
        entry = Entry("batch", jobs, JOBS)

        tasks.scan_batch.work_on(ENTRY.dump_python(entry, mode="json"))

        assert site.store.get(MINE, "key", None) is not None
        assert site.store.get(OTHER, "key", None) is None
        assert asked_of(recorded, OTHER) == []
        assert site.dead_letters.count() == 1

    def test_a_forged_schedule_begins_nothing(self, site: Services) -> None:
        spec = AuditSpec(bucket=OTHER).model_dump(mode="json")

        result = tasks.audit_due.apply(("nightly", spec), throw=False)

        assert isinstance(result.result, BucketNotAllowedError)

        assert list(site.audits.running()) == []
        (letter,) = site.dead_letters.letters()
        assert "does not allow the bucket 'payroll'" in letter.reason

    def test_an_audit_that_was_forged_in_redis_fails(self, site: Services, recorded: RecordedMoto) -> None:
        site.audits.create("forged", AuditSpec(bucket=OTHER), ruleset="1", scanner="x")
        claim = site.audits.claim("forged", "token")
        assert isinstance(claim, Claim)

        tasks.audit_page(*claim)

        audit = site.audits.get("forged")
        assert audit is not None
        assert (audit.state, audit.reason) == (
            AuditState.FAILED,
            "KEYHOLE_BUCKETS does not allow the bucket 'payroll'",
        )
        assert asked_of(recorded, OTHER) == []


@pytest.mark.usefixtures("_objects")
class TestTheClientsOfS3:
    def test_boto3_asks_for_nothing_there(self, site: Services, recorded: RecordedMoto) -> None:
        client = site.s3.client
        for ask in (
            lambda: client.get_object(Bucket=OTHER, Key="key"),
            lambda: client.head_bucket(Bucket=OTHER),
            lambda: client.put_object_tagging(Bucket=OTHER, Key="key", Tagging={"TagSet": []}),
            lambda: list(client.get_paginator("list_objects_v2").paginate(Bucket=OTHER)),
        ):
            with pytest.raises(BucketNotAllowedError):
                ask()
        assert asked_of(recorded, OTHER) == []
        assert client.get_object(Bucket=MINE, Key="key")["Body"].read() == b"x"

    def test_obstore_is_not_given_it(self, site: Services) -> None:
        assert site.s3.route(MINE).store is not None
        with pytest.raises(BucketNotAllowedError):
            site.s3.route(OTHER)

    def test_a_scan_is_unreadable_and_says_why(self, recorded: RecordedMoto) -> None:
        report = scan_object(f"s3://{OTHER}/key")

        assert (report.status, report.reasons) == (Status.UNREADABLE, ("bucket_not_allowed",))
        assert report.details["error"] == "KEYHOLE_BUCKETS does not allow the bucket 'payroll'"
        assert asked_of(recorded, OTHER) == []

    def test_a_key_that_only_boto3_can_name_is_no_way_around(
        self, site: Services, recorded: RecordedMoto
    ) -> None:
        access: S3Access = site.s3
        with pytest.raises(BucketNotAllowedError):
            S3Source(access, OTHER, "/key", version_id=None, meter=Meter(Budget())).read(0, 1)
        assert asked_of(recorded, OTHER) == []
