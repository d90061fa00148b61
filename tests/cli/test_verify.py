"""`keyhole verify`: an object, the verdict on it and its tags agree, or what differs is told."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.cli.conftest import Keyhole
from worker.jobs.tag_debts import TagDebts
from worker.results.redis_store import RedisStore
from worker.results.tag_writer import TagWriter
from worker.results.tags import TagDebt
from worker.scan.report import Report, Status

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
        """Its name."""
        return f"s3://{self.bucket}/{KEY}"

    def upload(self, body: bytes = b"image", status: Status = Status.SAFE) -> Report:
        """Put it, and scan it."""
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
        """Write a verdict's tags."""
        TagWriter(self.s3).write(TagDebt.of(report))

    def forge(self, **tags: str) -> None:
        """Write tags, by somebody else."""
        tag_set: Any = [{"Key": name.replace("_", "-", 1), "Value": value} for name, value in tags.items()]
        self.s3.put_object_tagging(Bucket=self.bucket, Key=KEY, Tagging={"TagSet": tag_set})

    def __call__(self, *arguments: str, **settings: str) -> tuple[int, list[str]]:
        """The exit code, and the codes of what differs."""
        printed = self._keyhole("verify", "--json", self.uri, *arguments, **self._settings | settings)
        (line,) = printed.lines
        return printed.code, [difference["code"] for difference in json.loads(line)["differences"]]

    def told(self, *arguments: str, **settings: str) -> str:
        """What a person is told."""
        printed = self._keyhole("verify", *(arguments or (self.uri,)), **self._settings | settings)
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


@pytest.mark.usefixtures("scanned")
class TestAgree:
    def test_all_three(self, verified: Verified) -> None:
        assert verified() == (0, [])
        assert verified.told() == f"0 agree   {verified.uri}: safe\n"

    def test_several(self, verified: Verified) -> None:
        assert verified.told(verified.uri, verified.uri).count("agree") == 2

    def test_without_records_the_tags_are_compared_with_the_object(self, verified: Verified) -> None:
        assert verified(KEYHOLE_SINKS="tags") == (0, [])

    def test_without_tags_the_verdict_is_compared_with_the_object(self, verified: Verified) -> None:
        verified.s3.delete_object_tagging(Bucket=verified.bucket, Key=KEY)

        assert verified(KEYHOLE_SINKS="redis") == (0, [])

    def test_a_verdict_that_is_not_safe(self, verified: Verified) -> None:
        report = verified.upload(b"other", Status.UNSAFE)
        verified.record(report)
        verified.tag(report)

        assert verified.told() == f"0 agree   {verified.uri}: unsafe\n"


@pytest.mark.usefixtures("scanned")
class TestDiffer:
    def test_the_object_was_replaced(self, verified: Verified) -> None:
        verified.upload(b"other")

        assert verified() == (1, ["other_object"])
        assert "the verdict safe is on the ETag" in verified.told()

    def test_the_object_was_replaced_by_one_with_forged_tags(self, verified: Verified) -> None:
        verified.upload(b"other")
        verified.forge(keyhole_status="safe")

        assert verified() == (1, ["other_object", "forged_tags"])

    def test_the_object_is_gone(self, verified: Verified) -> None:
        verified.s3.delete_object(Bucket=verified.bucket, Key=KEY)

        assert verified() == (1, ["other_object"])

    def test_the_tags_tell_another_verdict(self, verified: Verified) -> None:
        verified.forge(keyhole_status="unsafe")

        assert verified() == (1, ["other_tags"])
        assert "the verdict is safe, the tag keyhole-status says unsafe" in verified.told()

    def test_the_tags_are_gone(self, verified: Verified) -> None:
        verified.s3.delete_object_tagging(Bucket=verified.bucket, Key=KEY)

        assert verified() == (1, ["other_tags"])

    def test_the_tags_are_owed(self, verified: Verified, scanned: Report) -> None:
        verified.s3.delete_object_tagging(Bucket=verified.bucket, Key=KEY)
        hold = verified.debts.hold(TagDebt.of(scanned))
        assert hold is not None
        verified.debts.postpone(hold, "slow_down", "the server asks to slow down")

        assert verified() == (1, ["other_tags", "tags_owed"])
        assert "1 times slow_down" in verified.told()

    def test_a_tag_has_another_spelling(self, verified: Verified) -> None:
        tags = verified.s3.get_object_tagging(Bucket=verified.bucket, Key=KEY)["TagSet"]
        tags.append({"Key": "Keyhole_Status", "Value": "safe"})
        verified.s3.put_object_tagging(Bucket=verified.bucket, Key=KEY, Tagging={"TagSet": tags})

        assert verified() == (1, ["misspelt_tags"])

    def test_without_records_the_tags_are_of_another_object(self, verified: Verified) -> None:
        tags: Any = verified.s3.get_object_tagging(Bucket=verified.bucket, Key=KEY)["TagSet"]
        verified.upload(b"other")
        verified.s3.put_object_tagging(Bucket=verified.bucket, Key=KEY, Tagging={"TagSet": tags})

        assert verified(KEYHOLE_SINKS="tags") == (1, ["other_tags"])


class TestWithoutAVerdict:
    def test_there_is_none(self, verified: Verified) -> None:
        verified.upload()

        assert verified() == (3, ["no_verdict"])

    def test_there_is_none_though_the_tags_say_so(self, verified: Verified) -> None:
        verified.upload()
        verified.forge(keyhole_status="safe")

        assert verified() == (1, ["no_verdict", "forged_tags"])

    def test_the_object_could_not_be_read(self, verified: Verified) -> None:
        verified.record(verified.upload(status=Status.UNREADABLE).model_copy(update={"etag": None}))

        assert verified() == (3, ["no_verdict"])

    def test_there_is_no_object(self, verified: Verified) -> None:
        assert verified() == (3, ["no_object"])

    def test_without_records_there_are_no_tags(self, verified: Verified) -> None:
        verified.upload()

        assert verified(KEYHOLE_SINKS="tags") == (3, ["no_verdict"])

    def test_s3_is_away(self, verified: Verified, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("worker.sources.retries.RETRY_ATTEMPTS", 1)

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


@pytest.mark.parametrize("uri", ["images/a", "s3://images", "s3://images/"])
def test_what_names_no_object_is_a_usage_error(keyhole: Keyhole, redis_url: str, uri: str) -> None:
    printed = keyhole("verify", uri, KEYHOLE_REDIS_URL=redis_url)

    assert (printed.code, printed.out) == (2, "")
