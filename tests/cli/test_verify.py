"""`keyhole verify` confirms that an object, its verdict and its tags agree, or shows the differences."""

import json
import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest
import redis

from keyhole.fleet.services import Services
from keyhole.fleet.tagging import TagWork
from keyhole.inspectors.findings import Severity
from keyhole.jobs.tag_debts import TagDebts
from keyhole.reasons import Status
from keyhole.results.redis_store import RedisStore
from keyhole.results.tag_writer import TagWriter
from keyhole.results.tags import TagDebt, own_tags
from keyhole.scan.report import Report
from keyhole.scan.waivers import Applied
from keyhole.settings import Settings
from tests.cli.conftest import Keyhole, Printed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY = "a.qcow2"


class Verified:
    """An object, its verdict and its tags, and the command."""

    def __init__(self, s3: "S3Client", bucket: str, valkey: redis.Redis, url: str, keyhole: Keyhole) -> None:
        self.s3, self.bucket, self.debts = s3, bucket, TagDebts(valkey)
        self._store = RedisStore(valkey, expiry_seconds=None, stream_length=10)
        self._keyhole, self._settings = keyhole, {"KEYHOLE_REDIS_URL": url, "KEYHOLE_SINKS": "redis,tags"}

    @property
    def uri(self) -> str:
        """The object's URI."""
        return f"s3://{self.bucket}/{KEY}"

    def upload(self, body: bytes = b"image", status: Status = Status.SAFE) -> Report:
        """Upload and scan the object."""
        answer = self.s3.put_object(Bucket=self.bucket, Key=KEY, Body=body)
        return Report(
            target=self.uri,
            bucket=self.bucket,
            key=KEY,
            etag=answer["ETag"],
            version_id=answer.get("VersionId"),
            status=status,
            scanned_at=datetime.now(UTC),
            scanner="keyhole/test",
            ruleset="1",
        )

    def record(self, report: Report) -> None:
        """Record a verdict."""
        assert self._store.write(report, job_id=f"{report.status}-{report.version_id}", sequencer=None)

    def tag(self, report: Report) -> None:
        """Write the tags of a verdict."""
        TagWriter(self.s3).write(TagDebt.of(report))

    def __call__(self, *arguments: str, **settings: str) -> tuple[int, list[str]]:
        """Return the exit code, and the codes of the differences."""
        printed = self._keyhole("verify", "--json", self.uri, *arguments, **self._settings | settings)
        (line,) = printed.lines
        return printed.code, [difference["code"] for difference in json.loads(line)["differences"]]

    def run(self, *arguments: str, **settings: str) -> Printed:
        """Run the command with these arguments."""
        return self._keyhole("verify", *arguments, **self._settings | settings)

    def told(self, *arguments: str, **settings: str) -> str:
        """The text for a user."""
        printed = self.run(*(arguments or (self.uri,)), **settings)
        return f"{printed.code} {printed.out}"


@pytest.fixture
def verified(s3: "S3Client", bucket: str, valkey: redis.Redis, redis_url: str, keyhole: Keyhole) -> Verified:
    return Verified(s3, bucket, valkey, redis_url, keyhole)


@pytest.fixture
def scanned(verified: Verified) -> Report:
    """An object with its verdict and its tags."""
    report = verified.upload()
    verified.record(report)
    verified.tag(report)
    return report


def test_a_waiver_that_has_ended_is_told_and_counted(
    verified: Verified, keyhole: Keyhole, redis_url: str
) -> None:
    waiver = Applied(check="backing_file", severity=Severity.CRITICAL, reason="-", until=date(2020, 1, 31))
    report = verified.upload().model_copy(update={"waivers": (waiver,)})
    verified.record(report)
    verified.tag(report)

    assert verified() == (0, [])
    printed = verified.told(verified.uri, verified.uri)
    as_json = keyhole("verify", "--json", verified.uri, KEYHOLE_REDIS_URL=redis_url)

    line = f"agree   {verified.uri}: safe; the waiver of backing_file has ended"
    assert printed.startswith(f"0 {line}, and the next audit scans the object again\n")
    assert printed.endswith("\n2 objects: 2 agree; the verdicts on 2 depend on waivers that have ended\n")
    assert json.loads(as_json.out)["ended_waivers"] == ["backing_file"]
    page = keyhole("show", verified.uri, KEYHOLE_REDIS_URL=redis_url).out
    assert "safe (waiver_ended:backing_file)" in page
    assert "the waiver of backing_file ended on 2020-01-31" in " ".join(page.split())
    table = keyhole("results", "--wide", KEYHOLE_REDIS_URL=redis_url).out
    assert " waiver_ended:backing_file " in table


def test_an_object_its_verdict_and_its_tags_agree(verified: Verified, scanned: Report) -> None:
    assert verified() == (0, [])
    assert verified.told() == f"0 agree   {verified.uri}: {scanned.status}\n"
    assert verified.told(verified.uri, verified.uri).endswith("\n2 objects: 2 agree\n")


@pytest.mark.usefixtures("scanned")
def test_the_object_was_replaced(verified: Verified) -> None:
    verified.upload(b"other")

    assert verified() == (1, ["other_object"])
    assert "the verdict safe is on the ETag" in verified.told()


def test_the_tags_are_owed(verified: Verified, scanned: Report) -> None:
    verified.s3.delete_object_tagging(Bucket=verified.bucket, Key=KEY)
    hold = verified.debts.hold(TagDebt.of(scanned))
    assert hold is not None
    verified.debts.postpone(hold, "slow_down", "the server asks to slow down")

    assert verified() == (1, ["other_tags", "tags_owed"])
    assert "attempts that failed with slow_down: 1" in verified.told()


def test_there_is_no_object(verified: Verified) -> None:
    assert verified() == (3, ["no_object"])


def test_there_are_no_records(verified: Verified, scanned: Report) -> None:
    assert verified(KEYHOLE_SINKS="tags") == (0, [])
    assert (
        verified.told(KEYHOLE_SINKS="tags")
        == f"0 agree   {verified.uri}: {scanned.status}, according to its tags\n"
    )


def test_s3_is_away(verified: Verified, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyhole.sources.retries.RETRY_ATTEMPTS", 1)

    assert verified(KEYHOLE_S3_ENDPOINT_URL="http://127.0.0.1:1") == (3, ["object_unreadable"])


def test_each_version_is_verified_as_itself(verified: Verified) -> None:
    verified.s3.put_bucket_versioning(Bucket=verified.bucket, VersioningConfiguration={"Status": "Enabled"})
    old, new = verified.upload(b"old", Status.UNSAFE), verified.upload(b"new")
    for report in (old, new):
        verified.record(report)
    verified.tag(new)

    assert verified() == (0, [])
    assert verified("--version-id", str(old.version_id)) == (1, ["other_tags"])
    assert verified("--version-id", str(new.version_id)) == (0, [])


class TestFixTags:
    """Workers write the tags. Here, the test does what they do."""

    @pytest.fixture
    def pay(self, redis_url: str, moto_url: str) -> Callable[[], None]:
        """Writes the tags that are owed."""
        settings = Settings.model_validate(
            {"redis_url": redis_url, "s3_endpoint_url": moto_url, "sinks": "redis,tags"}
        )
        return TagWork(Services(settings, os.getpid())).write_due

    def test_wrong_tags_are_corrected(
        self, verified: Verified, scanned: Report, pay: Callable[[], None]
    ) -> None:
        forged = [{"Key": "team", "Value": "storage"}, {"Key": "Keyhole_Status", "Value": "safe"}]
        verified.s3.put_object_tagging(Bucket=verified.bucket, Key=KEY, Tagging={"TagSet": forged})  # type: ignore[typeddict-item] # plain dictionaries

        assert verified("--fix-tags") == (1, ["misspelt_tags", "other_tags", "tags_owed"])
        pay()

        assert verified() == (0, [])
        found = verified.s3.get_object_tagging(Bucket=verified.bucket, Key=KEY)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in found} == own_tags(scanned) | {"team": "storage"}

    def test_tags_without_a_verdict_are_removed(self, verified: Verified, pay: Callable[[], None]) -> None:
        report = verified.upload()
        verified.tag(report)

        assert verified("--fix-tags") == (1, ["no_verdict", "forged_tags", "tags_owed"])
        pay()

        assert verified() == (3, ["no_verdict"])

    def test_right_tags_stay_as_they_are(self, verified: Verified, scanned: Report) -> None:
        assert verified("--fix-tags") == (0, [])
        assert verified.debts.owed(verified.bucket, KEY, scanned.version_id) is None

    def test_a_user_is_told_if_no_worker_writes_them(self, verified: Verified, scanned: Report) -> None:
        verified.s3.delete_object_tagging(Bucket=verified.bucket, Key=KEY)

        printed = verified.run(verified.uri, "--fix-tags")

        assert f"the verdict is {scanned.status}, but there is no tag" in printed.out
        assert printed.out.endswith("; the tags will be corrected\n")
        assert printed.err.startswith("No worker takes work at the moment.")

    @pytest.mark.parametrize(("sinks", "needed"), [("redis", "tags"), ("tags", "redis")])
    def test_it_needs_verdicts_and_tags(self, verified: Verified, sinks: str, needed: str) -> None:
        refused = verified.run(verified.uri, "--fix-tags", KEYHOLE_SINKS=sinks)

        assert refused.code == 2
        assert refused.error.startswith(f"--fix-tags needs the sink {needed}, but KEYHOLE_SINKS is {sinks};")


class TestRecursive:
    @pytest.mark.usefixtures("scanned")
    def test_everything_below_a_prefix_is_compared(self, verified: Verified) -> None:
        for key in ("other/b", "a.vmdk"):
            verified.s3.put_object(Bucket=verified.bucket, Key=key, Body=b"x")

        printed = verified.run("-r", f"s3://{verified.bucket}/a", "--json")

        assert printed.code == 3
        assert [json.loads(line)["target"].rpartition("/")[2] for line in printed.lines] == [KEY, "a.vmdk"]
        told = verified.run("-r", f"s3://{verified.bucket}").lines
        assert told[-1] == "3 objects: 1 agree, 2 unknown"
        assert len(told) == 4
        quiet = verified.run("-r", "-q", f"s3://{verified.bucket}")
        assert (quiet.code, quiet.lines) == (3, [line for line in told[:-1] if not line.startswith("agree")])
        as_json = verified.run("-r", "-q", "--json", f"s3://{verified.bucket}")
        assert len(as_json.lines) == 3

    def test_quiet_says_nothing_if_all_agree(self, verified: Verified, scanned: Report) -> None:
        printed = verified.run("-q", verified.uri)

        assert (printed.code, printed.out, printed.err) == (0, "", "")
        assert f"{verified.uri}: {scanned.status}" in verified.told()

    def test_one_document_of_json_has_all(self, verified: Verified, scanned: Report) -> None:
        found = json.loads(verified.run("-o", "json", verified.uri, verified.uri).out)

        assert [(one["target"], one["status"]) for one in found] == [(verified.uri, scanned.status)] * 2

    def test_a_prefix_without_objects_is_told(self, verified: Verified) -> None:
        printed = verified.run("-r", f"s3://{verified.bucket}/none/")

        assert (printed.code, printed.error) == (3, "there are no objects; check the prefix")

    def test_a_version_names_one_object(self, verified: Verified) -> None:
        assert verified.run("-r", verified.uri, "--version-id", "1").code == 2


@pytest.mark.parametrize("uri", ["images/a", "s3://images", "s3://images/"])
def test_what_names_no_object_is_a_usage_error(keyhole: Keyhole, redis_url: str, uri: str) -> None:
    printed = keyhole("verify", uri, KEYHOLE_REDIS_URL=redis_url)

    assert (printed.code, printed.out) == (2, "")


def test_a_prefix_that_is_no_object_needs_r(verified: Verified) -> None:
    prefix = f"s3://{verified.bucket}/uploads/"

    assert "there is no such object; to compare everything below it, add -r" in verified.told(prefix)
    assert "add -r" not in verified.told(f"s3://{verified.bucket}/missing")
