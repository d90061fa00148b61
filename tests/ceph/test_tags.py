"""Verdicts as tags in a real S3: on the scanned object, on its version, and next to other tags."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from keyhole.api import scan_s3
from keyhole.builders import qcow2
from keyhole.intake.audits.unchanged import still_stands
from keyhole.intake.listing import Listed, list_objects
from keyhole.results.tag_writer import TagOutcome, TagWriter
from keyhole.results.tags import TagDebt, own_tags
from keyhole.scan.report import Report
from keyhole.scan.settings import ScanSettings
from keyhole.sources.s3_access import S3Access
from tests.servers.access import s3_access
from tests.servers.ceph_rgw import CephRgw
from tests.servers.recording_proxy import RecordingProxy
from tests.servers.request import Request

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

MIB = 1024**2
SAFE = qcow2(MIB).to_bytes()
UNSAFE = qcow2(2 * MIB, backing_file="/etc/shadow").to_bytes()
#: The requests of a write without conflicts: about the tags, and about the object.
FIRST_WRITE = ["GET ?tagging", "HEAD", "PUT ?tagging", "GET ?tagging", "HEAD"]


class Tagged:
    """An object to tag, and the actions of other clients on it."""

    def __init__(self, s3: "S3Client", access: S3Access, bucket: str, key: str) -> None:
        self._s3, self._access = s3, access
        self.bucket, self.key = bucket, key

    def put(self, body: bytes) -> str | None:
        """Put the object, and return its version id."""
        return self._s3.put_object(Bucket=self.bucket, Key=self.key, Body=body).get("VersionId")

    def scan(self, version_id: str | None = None) -> Report:
        """Scan the object, and return Keyhole's report."""
        return scan_s3(self._access, self.bucket, self.key, version_id, ScanSettings())

    def listed(self) -> Listed:
        """The object's entry in a listing."""
        (listed,) = list_objects(self._access.client, self.bucket, self.key)
        return listed

    def tag(self, tags: dict[str, str]) -> None:
        """Replace all tags of the object."""
        tag_set: Any = [{"Key": name, "Value": value} for name, value in tags.items()]
        self._s3.put_object_tagging(Bucket=self.bucket, Key=self.key, Tagging={"TagSet": tag_set})

    def tags(self, **version: Any) -> dict[str, str]:
        """The object's current tags."""
        answer = self._s3.get_object_tagging(Bucket=self.bucket, Key=self.key, **version)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}


@pytest.fixture(params=["a.qcow2", "a/b c+\u00fc%2F\n.img", "//a/"])
def tagged(request: pytest.FixtureRequest, s3: "S3Client", bucket: str, access: S3Access) -> Tagged:
    """An object to tag, with an ordinary key and with unusual keys."""
    return Tagged(s3, access, bucket, request.param)


@pytest.fixture
def write(access: S3Access, recorded: RecordingProxy) -> Callable[[Report], TagOutcome]:
    """Writes a report as tags. `recorded` then contains only the requests of this write."""

    def write_it(report: Report) -> TagOutcome:
        recorded.requests.clear()
        return TagWriter(access.client).write(TagDebt.of(report))

    return write_it


def sent(recorded: RecordingProxy) -> list[str]:
    """The methods of the requests, with a question mark for requests about tags."""
    return [
        f"{request.method} ?tagging" if "tagging" in request.query else request.method
        for request in recorded.requests
    ]


Write = Callable[[Report], TagOutcome]


def test_the_tags_are_written_once_and_found_right_after(
    tagged: Tagged, write: Write, recorded: RecordingProxy
) -> None:
    tagged.put(UNSAFE)
    report = tagged.scan()
    assert write(report) is TagOutcome.WRITTEN
    assert sent(recorded) == FIRST_WRITE
    assert tagged.tags() == own_tags(report)
    assert tagged.tags()["keyhole-status"] == "unsafe"
    assert write(tagged.scan()) is TagOutcome.UNCHANGED
    # Keyhole compares tags only with the report on the object that it scanned.
    assert sent(recorded) == ["GET ?tagging", "HEAD"]


def test_other_peoples_tags_survive(tagged: Tagged, write: Write) -> None:
    """Other tags can contain everything that S3 allows, and can have names that look like Keyhole's."""
    others = {"owner": "Zo\u00eb", "team/a b": "x+y=z", "keyhole-team": "blue", "empty": ""}
    tagged.put(SAFE)
    tagged.tag(others)
    report = tagged.scan()
    assert write(report) is TagOutcome.WRITTEN
    assert tagged.tags() == others | own_tags(report)


@pytest.mark.parametrize(("others", "ours"), [(10, 0), (9, 1), (8, 2), (7, 3), (6, 4)], ids=str)
def test_the_limit_of_ten_is_kept(tagged: Tagged, write: Write, others: int, ours: int) -> None:
    """S3 refuses an eleventh tag. Keyhole omits its own tags, the least important ones first."""
    tagged.put(UNSAFE)
    foreign = {f"team-{number}": "x" for number in range(others)}
    tagged.tag(foreign)
    report = tagged.scan()
    outcome = write(report)
    assert outcome is (TagOutcome.WRITTEN if ours else TagOutcome.SKIPPED_FULL)
    names = ["keyhole-status", "keyhole-scan", "keyhole-reason", "keyhole-image"][:ours]
    assert tagged.tags() == foreign | {name: own_tags(report)[name] for name in names}


def test_the_etag_stays_and_the_time_of_modification_does_not(tagged: Tagged, write: Write) -> None:
    """RGW 16.2 changes the modification time, unlike S3. An audit scans tagged objects again, once."""
    # Given an object that was scanned and tagged
    tagged.put(SAFE)
    before = tagged.listed()
    assert write(tagged.scan()) is TagOutcome.WRITTEN
    # Then its listed modification time has changed, but not its ETag
    after = tagged.listed()
    assert before.last_modified
    assert after.last_modified
    assert after.last_modified > before.last_modified
    assert after.etag == before.etag
    # And after a second scan, its tags are still right, and a further audit skips it
    report = tagged.scan()
    assert write(report) is TagOutcome.UNCHANGED
    assert still_stands(report, tagged.listed(), report.ruleset)


@pytest.mark.usefixtures("versioned")
class TestVersions:
    def test_each_has_tags_of_its_own(self, tagged: Tagged, write: Write, recorded: RecordingProxy) -> None:
        """No object can take a version's place, so Keyhole sends no HEAD request."""
        old, new = tagged.put(UNSAFE), tagged.put(SAFE)
        reports = {version: tagged.scan(version) for version in (old, new)}
        for report in reports.values():
            assert write(report) is TagOutcome.WRITTEN
            assert sent(recorded) == ["GET ?tagging", "PUT ?tagging", "GET ?tagging"]
        for version, report in reports.items():
            assert tagged.tags(VersionId=version) == own_tags(report)
        assert tagged.tags()["keyhole-status"] == "safe"

    def test_what_was_the_current_one_is_tagged_below_a_newer_one(self, tagged: Tagged, write: Write) -> None:
        """The tags are written to the right version even if the scan was not given a version."""
        old = tagged.put(UNSAFE)
        report = tagged.scan()
        tagged.put(SAFE)
        assert write(report) is TagOutcome.WRITTEN
        assert tagged.tags(VersionId=old) == own_tags(report)
        assert tagged.tags() == {}


class TestAnotherObject:
    def test_one_replaced_after_the_scan_is_not_tagged(self, tagged: Tagged, write: Write) -> None:
        tagged.put(SAFE)
        report = tagged.scan()
        tagged.put(UNSAFE)
        assert write(report) is TagOutcome.SKIPPED_CHANGED
        assert tagged.tags() == {}

    def test_one_replaced_between_look_and_write_loses_our_tags_again(
        self, tagged: Tagged, write: Write, recorded: RecordingProxy
    ) -> None:
        """The new object is tagged `safe` for a moment."""
        tagged.put(SAFE)
        report = tagged.scan()

        def replace(request: Request) -> None:
            if request.method == "PUT":
                recorded.before = lambda _: None
                tagged.put(UNSAFE)

        recorded.before = replace
        assert write(report) is TagOutcome.SKIPPED_CHANGED
        assert tagged.tags() == {}

    def test_one_that_is_gone_is_not_tagged(self, tagged: Tagged, write: Write, s3: "S3Client") -> None:
        tagged.put(SAFE)
        report = tagged.scan()
        s3.delete_object(Bucket=tagged.bucket, Key=tagged.key)
        assert write(report) is TagOutcome.SKIPPED_CHANGED

    def test_anothers_is_not_tagged(self, tagged: Tagged, rgw: CephRgw) -> None:
        tagged.put(SAFE)
        report = tagged.scan()
        name = f"stranger-{tagged.bucket}"
        rgw.add_user(name, access_key=name, secret_key="secret")
        with (
            s3_access(rgw.url, AWS_ACCESS_KEY_ID=name, AWS_SECRET_ACCESS_KEY="secret") as stranger,
            pytest.raises(ClientError, match="AccessDenied"),
        ):
            TagWriter(stranger.client).write(TagDebt.of(report))
        assert tagged.tags() == {}
