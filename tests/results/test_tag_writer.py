"""Writing tags on the object of the verdict, next to other people's tags."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from keyhole.reasons import Status
from keyhole.results.tag_writer import TagOutcome, TagWriter
from keyhole.results.tags import OWN_TAGS, TagDebt, own_tags
from keyhole.scan.report import Report
from tests.results.tag_reports import KEY, NOON, foreign, report

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Tagged:
    """An object in the bucket, and every request about its tags."""

    def __init__(self, s3: "S3Client", other: "S3Client", bucket: str) -> None:
        self.s3, self.other, self.bucket = s3, other, bucket
        self.sent: list[str] = []
        s3.meta.events.register("before-call.s3", self._note)

    def _note(self, model: Any, **_: Any) -> None:
        self.sent.append(model.name)

    @property
    def writes(self) -> int:
        """How often Keyhole's client has written tags."""
        return self.sent.count("PutObjectTagging")

    def upload(self, body: bytes = b"image", **fields: Any) -> Report:
        """Put the object as another client, and scan it."""
        answer = self.other.put_object(Bucket=self.bucket, Key=KEY, Body=body)
        identity = {"etag": answer["ETag"], "version_id": answer.get("VersionId")}
        return report(bucket=self.bucket, **identity | fields)

    def tag(self, tags: dict[str, str]) -> None:
        """Replace all tags as another client."""
        tag_set: Any = [{"Key": key, "Value": value} for key, value in tags.items()]
        self.other.put_object_tagging(Bucket=self.bucket, Key=KEY, Tagging={"TagSet": tag_set})

    def tags(self, **version: Any) -> dict[str, str]:
        """The current tags."""
        answer = self.other.get_object_tagging(Bucket=self.bucket, Key=KEY, **version)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def own_tags(self, **version: Any) -> dict[str, str]:
        """Keyhole's current tags."""
        return {name: value for name, value in self.tags(**version).items() if name in OWN_TAGS}

    def before(self, operation: str, action: Callable[[int], object]) -> None:
        """Call a function before each request of this kind, with the request's number, from 0."""
        self._at(f"before-call.s3.{operation}", action)

    def after(self, operation: str, action: Callable[[int], object]) -> None:
        """Call a function after each answer to a request of this kind."""
        self._at(f"after-call.s3.{operation}", action)

    def _at(self, event: str, action: Callable[[int], object]) -> None:
        count = iter(range(1000))

        def handler(**_: Any) -> None:
            action(next(count))

        self.s3.meta.events.register(event, handler)

    def answer(self, operation: str, status: int, code: str) -> None:
        """Let the server refuse requests of this kind."""

        def refuse(request: Any, **_: Any) -> Any:
            headers: Any = {}
            response: Any = AWSResponse(request.url, status, headers, None)
            error = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
            response._content = error.encode() if code else b""
            return response

        self.s3.meta.events.register(f"before-send.s3.{operation}", refuse)


@pytest.fixture
def tagged(s3: "S3Client", moto_url: str, bucket: str) -> Any:
    """An object to tag. Other people's actions use another client."""
    other = boto3.client(
        "s3", endpoint_url=moto_url, region_name="us-east-1", aws_access_key_id="o", aws_secret_access_key="o"
    )
    yield Tagged(s3, other, bucket)
    other.close()


@pytest.fixture
def writer(s3: "S3Client") -> TagWriter:
    """A writer."""
    return TagWriter(s3)


class TestOtherPeoplesTags:
    def test_they_survive(self, tagged: Tagged, writer: TagWriter) -> None:
        """The other tags can also have names like Keyhole's."""
        told = tagged.upload()
        others = {"owner": "Zoë", "keyhole-team": "blue"}
        tagged.tag(others)

        assert writer.write(TagDebt.of(told)) is TagOutcome.WRITTEN

        assert tagged.tags() == others | own_tags(told)

    def test_an_old_verdict_gives_way(self, tagged: Tagged, writer: TagWriter) -> None:
        """Old tags that the new verdict does not have are removed."""
        told = tagged.upload(status=Status.UNSAFE, reasons=("backing_file",))
        writer.write(TagDebt.of(told))

        assert (
            writer.write(TagDebt.of(told.model_copy(update={"status": Status.SAFE, "reasons": ()})))
            is TagOutcome.WRITTEN
        )

        assert tagged.tags()["keyhole-status"] == "safe"
        assert "keyhole-reason" not in tagged.tags()

    def test_ten_of_them_leave_no_room(self, tagged: Tagged, writer: TagWriter) -> None:
        """Keyhole then writes and removes nothing."""
        told = tagged.upload()
        tagged.tag(foreign(10))

        assert writer.write(TagDebt.of(told)) is TagOutcome.SKIPPED_FULL

        assert tagged.tags() == foreign(10)
        assert tagged.writes == 0

    @pytest.mark.parametrize(
        ("others", "ours"),
        [
            (9, ["keyhole-status"]),
            (8, ["keyhole-status", "keyhole-scan"]),
            (7, ["keyhole-status", "keyhole-scan", "keyhole-reason"]),
            (6, ["keyhole-status", "keyhole-scan", "keyhole-reason", "keyhole-image"]),
        ],
    )
    def test_the_least_important_of_ours_are_left_out(
        self, tagged: Tagged, writer: TagWriter, others: int, ours: list[str]
    ) -> None:
        """The status is left out last."""
        told = tagged.upload(reasons=("dirty",))
        tagged.tag(foreign(others))

        assert writer.write(TagDebt.of(told)) is TagOutcome.WRITTEN

        assert tagged.tags() == foreign(others) | {name: own_tags(told)[name] for name in ours}

    def test_ours_give_way_to_theirs(self, tagged: Tagged, writer: TagWriter) -> None:
        """Another client replaced one of Keyhole's tags with its ninth."""
        told = tagged.upload(reasons=("dirty",))
        tagged.tag(foreign(9) | {"keyhole-reason": "dirty"})

        assert writer.write(TagDebt.of(told)) is TagOutcome.WRITTEN

        assert tagged.tags() == foreign(9) | {"keyhole-status": "safe"}


class TestWhenNothingIsWritten:
    def test_a_right_set_is_not_written_again(self, tagged: Tagged, writer: TagWriter) -> None:
        """A second scan with the same result needs no write, and writes cost most."""
        told = tagged.upload()
        writer.write(TagDebt.of(told))
        again = told.model_copy(update={"scanned_at": NOON + timedelta(days=1)})

        assert writer.write(TagDebt.of(again)) is TagOutcome.UNCHANGED

        assert tagged.writes == 1
        assert tagged.tags()["keyhole-scan"].startswith("2026-05-01")

    @pytest.mark.parametrize("news", [{"status": Status.UNSAFE}, {"scanner": "0.2.0"}, {"virtual_size": 7}])
    def test_news_is_written(self, tagged: Tagged, writer: TagWriter, news: dict[str, Any]) -> None:
        """The tags then contain the time of the new scan."""
        told = tagged.upload()
        writer.write(TagDebt.of(told))
        changed = told.model_copy(update={"scanned_at": NOON + timedelta(days=1), **news})

        assert writer.write(TagDebt.of(changed)) is TagOutcome.WRITTEN

        assert tagged.own_tags() == own_tags(changed)

    @pytest.mark.parametrize(
        ("status", "code", "outcome"),
        [
            (404, "NoSuchKey", TagOutcome.SKIPPED_CHANGED),
            (405, "MethodNotAllowed", TagOutcome.SKIPPED_UNSUPPORTED),
            (501, "NotImplemented", TagOutcome.SKIPPED_UNSUPPORTED),
            (400, "NotImplemented", TagOutcome.SKIPPED_UNSUPPORTED),
        ],
    )
    def test_tags_that_cannot_be_read_are_not_overwritten(
        self, tagged: Tagged, writer: TagWriter, status: int, code: str, outcome: TagOutcome
    ) -> None:
        """Otherwise all tags would be lost."""
        told = tagged.upload()
        tagged.tag(foreign(3))
        tagged.answer("GetObjectTagging", status, code)

        assert writer.write(TagDebt.of(told)) is outcome

        assert tagged.writes == 0
        assert tagged.tags() == foreign(3)

    @pytest.mark.parametrize(("status", "code"), [(400, "RequestTimeout"), (403, "AccessDenied")])
    @pytest.mark.parametrize("operation", ["GetObjectTagging", "HeadObject", "PutObjectTagging"])
    def test_an_error_that_may_pass_is_raised(
        self, tagged: Tagged, writer: TagWriter, operation: str, status: int, code: str
    ) -> None:
        """The caller tries again later. Until then nothing is written."""
        told = tagged.upload()
        tagged.tag(foreign(3))
        tagged.answer(operation, status, code)

        with pytest.raises(ClientError, match=code):
            writer.write(TagDebt.of(told))

        assert tagged.tags() == foreign(3)

    def test_an_answer_without_tags_is_no_empty_set(self, tagged: Tagged, writer: TagWriter) -> None:
        """Ceph's RGW 16.2 gives such an answer if it cannot read tags. They must not be overwritten."""
        told = tagged.upload()
        tagged.answer("GetObjectTagging", 200, "")

        with pytest.raises(ResponseParserError):
            writer.write(TagDebt.of(told))

        assert tagged.writes == 0


class TestWhichObjectIsTagged:
    def test_an_object_replaced_after_the_scan_is_not_tagged(self, tagged: Tagged, writer: TagWriter) -> None:
        """The verdict is not about this object."""
        told = tagged.upload(b"old")
        tagged.upload(b"new")

        assert writer.write(TagDebt.of(told)) is TagOutcome.SKIPPED_CHANGED
        assert tagged.tags() == {}

    def test_a_deleted_object_is_not_tagged(self, tagged: Tagged, writer: TagWriter) -> None:
        told = tagged.upload()
        tagged.other.delete_object(Bucket=tagged.bucket, Key=KEY)

        assert writer.write(TagDebt.of(told)) is TagOutcome.SKIPPED_CHANGED

    def test_an_object_replaced_between_look_and_write_loses_our_tags_again(
        self, tagged: Tagged, writer: TagWriter
    ) -> None:
        """The new, unscanned object is tagged `safe` for a moment. Its own tags stay."""
        told = tagged.upload(b"old")

        def replace(write: int) -> None:
            if write == 0:
                tagged.upload(b"new")

        def label(write: int) -> None:
            if write == 0:
                tagged.tag(tagged.tags() | {"owner": "them"})

        tagged.before("PutObjectTagging", replace)
        tagged.after("PutObjectTagging", label)

        assert writer.write(TagDebt.of(told)) is TagOutcome.SKIPPED_CHANGED
        assert tagged.tags() == {"owner": "them"}

    def test_an_object_replaced_after_the_write_loses_tags_that_nobody_wrote_for_it(
        self, tagged: Tagged, writer: TagWriter
    ) -> None:
        """No verdict is about this object, so its tags with these names came with the upload."""
        told = tagged.upload(b"old")

        def replace(write: int) -> None:
            if write == 0:
                tagged.upload(b"new")
                tagged.tag({"owner": "them", "keyhole-status": "safe"})

        tagged.after("PutObjectTagging", replace)

        assert writer.write(TagDebt.of(told)) is TagOutcome.SKIPPED_CHANGED
        assert tagged.tags() == {"owner": "them"}

    def test_so_it_does_where_nine_other_tags_leave_room_for_the_status_alone(
        self, tagged: Tagged, writer: TagWriter
    ) -> None:
        """No tag then states which object the tags are about."""
        told = tagged.upload(b"old")
        tagged.tag(foreign(9))
        tagged.before("PutObjectTagging", lambda number: tagged.upload(b"new") if number == 0 else None)

        assert writer.write(TagDebt.of(told)) is TagOutcome.SKIPPED_CHANGED
        assert tagged.own_tags() == {}

    def test_a_new_object_gets_the_tags_of_its_own_verdict(self, tagged: Tagged, writer: TagWriter) -> None:
        """The scan of the new object was faster than this write."""
        told = tagged.upload(b"old")
        new = tagged.upload(b"new", status=Status.UNSAFE)
        verdicts = {str(one.etag).strip('"'): own_tags(one) for one in (told, new)}

        assert writer.write(TagDebt.of(told), verdicts.get) is TagOutcome.SKIPPED_CHANGED
        assert tagged.tags() == own_tags(new)

    def test_the_old_objects_tags_are_not_given_to_the_new_one(
        self, tagged: Tagged, writer: TagWriter
    ) -> None:
        """The object was replaced between reading the tags and checking the object."""
        told = tagged.upload(b"old")
        tagged.tag({"owner": "old", "keyhole-status": "safe"})

        def replace(look: int) -> None:
            if look == 0:
                tagged.upload(b"new")
                tagged.tag({"owner": "new", "keyhole-status": "safe"})

        tagged.before("HeadObject", replace)

        assert writer.write(TagDebt.of(told)) is TagOutcome.SKIPPED_CHANGED
        assert tagged.tags() == {"owner": "new"}

    def test_one_that_is_replaced_again_and_again_is_left_alone(
        self, tagged: Tagged, writer: TagWriter
    ) -> None:
        told = tagged.upload(b"old")
        tagged.before("HeadObject", lambda look: tagged.upload(b"%d" % look))

        assert writer.write(TagDebt.of(told)) is TagOutcome.FAILED_CONTENDED
        assert tagged.writes == 0

    def test_a_version_is_tagged_as_that_version(self, tagged: Tagged, writer: TagWriter) -> None:
        """The version need not be the newest one.

        Keyhole sends no HEAD, because a version cannot change.
        """
        tagged.other.put_bucket_versioning(
            Bucket=tagged.bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        first, second = tagged.upload(b"first"), tagged.upload(b"second")
        assert first.version_id
        assert second.version_id

        assert writer.write(TagDebt.of(first)) is TagOutcome.WRITTEN

        assert tagged.own_tags(VersionId=first.version_id) == own_tags(first)
        assert tagged.tags(VersionId=second.version_id) == {}
        assert "HeadObject" not in tagged.sent

    def test_the_null_version_is_looked_at(self, tagged: Tagged, writer: TagWriter) -> None:
        """If versioning is suspended, an upload replaces this version."""
        told = tagged.upload(version_id="null")
        tagged.other.put_bucket_versioning(
            Bucket=tagged.bucket, VersioningConfiguration={"Status": "Enabled"}
        )

        assert (
            writer.write(TagDebt.of(told.model_copy(update={"etag": '"another"'})))
            is TagOutcome.SKIPPED_CHANGED
        )
        assert writer.write(TagDebt.of(told)) is TagOutcome.WRITTEN

        assert tagged.sent.count("HeadObject") == 4
        assert tagged.tags(VersionId="null") == own_tags(told)


class TestRetries:
    """Keyhole repeats a failed write from its start, and no wrong tag is left, whatever failed."""

    @pytest.mark.parametrize("failing", ["PutObjectTagging", "DeleteObjectTagging", "GetObjectTagging"])
    def test_an_object_replaced_before_the_write_keeps_no_wrong_tag_though_requests_fail_once(
        self, tagged: Tagged, writer: TagWriter, failing: str
    ) -> None:
        """The tags are written to the new object, and removing them fails."""
        told = tagged.upload(b"old")
        tagged.before("PutObjectTagging", lambda number: tagged.upload(b"new") if number == 0 else None)
        failed: list[str] = []

        def fail_once(request: Any, **_: Any) -> Any:
            written = tagged.own_tags()
            if failed or not written:
                return None
            failed.append(failing)
            headers: Any = {}
            response: Any = AWSResponse(request.url, 503, headers, None)
            response._content = b"<Error><Code>SlowDown</Code><Message>no</Message></Error>"
            return response

        tagged.s3.meta.events.register(f"before-send.s3.{failing}", fail_once)
        for _ in range(3):
            try:
                outcome = writer.write(TagDebt.of(told))
            except ClientError:
                continue
            break

        assert outcome is TagOutcome.SKIPPED_CHANGED
        assert tagged.own_tags() == {}

    def test_taking_off_the_last_tags_deletes_the_set(self, tagged: Tagged, writer: TagWriter) -> None:
        """Some servers answer an empty set of tags with an error."""
        told = tagged.upload(b"old")
        tagged.before("PutObjectTagging", lambda number: tagged.upload(b"new") if number == 0 else None)

        writer.write(TagDebt.of(told))

        assert tagged.sent.count("DeleteObjectTagging") == 1
        assert tagged.writes == 1


class TestForgeries:
    """Tags that came with an upload are not trusted."""

    FORGED: ClassVar = {
        "keyhole-status": "safe",
        "Keyhole-Status": "safe",
        "keyhole_status": "safe",
        "KEYHOLE.SCAN ": "now",
        "team": "a",
    }

    def test_a_verdict_overwrites_them_in_every_spelling(self, tagged: Tagged, writer: TagWriter) -> None:
        told = tagged.upload(status=Status.UNSAFE)
        tagged.tag(self.FORGED)

        assert writer.write(TagDebt.of(told)) is TagOutcome.WRITTEN

        assert tagged.tags() == {"team": "a", **own_tags(told)}

    def test_where_there_is_no_verdict_they_are_removed(self, tagged: Tagged, writer: TagWriter) -> None:
        told = tagged.upload(status=Status.UNREADABLE, etag=None)
        tagged.tag(self.FORGED)

        assert writer.write(TagDebt.of(told)) is TagOutcome.WRITTEN
        assert writer.write(TagDebt.of(told)) is TagOutcome.UNCHANGED
        assert tagged.tags() == {"team": "a"}

    def test_where_there_are_none_nothing_is_written(self, tagged: Tagged, writer: TagWriter) -> None:
        told = tagged.upload(status=Status.UNREADABLE, etag=None)
        tagged.tag({"team": "a", "keyhole": "is good"})

        assert writer.write(TagDebt.of(told)) is TagOutcome.UNCHANGED

        assert tagged.writes == 0
        assert tagged.tags() == {"team": "a", "keyhole": "is good"}

    def test_an_object_that_is_gone_has_none(self, tagged: Tagged, writer: TagWriter) -> None:
        told = tagged.upload(status=Status.UNREADABLE, etag=None)
        tagged.other.delete_object(Bucket=tagged.bucket, Key=KEY)

        assert writer.write(TagDebt.of(told)) is TagOutcome.SKIPPED_CHANGED


class TestOtherWriters:
    def test_tags_overwritten_after_our_write_are_written_again(
        self, tagged: Tagged, writer: TagWriter
    ) -> None:
        """Another client had read the tags before, and wrote its own afterwards.

        Keyhole reads back, and merges both.
        """
        told = tagged.upload()

        def overwrite(write: int) -> None:
            if write == 0:
                tagged.tag({"owner": "them"})

        tagged.after("PutObjectTagging", overwrite)

        assert writer.write(TagDebt.of(told)) is TagOutcome.WRITTEN

        assert tagged.tags() == {"owner": "them"} | own_tags(told)
        assert tagged.writes == 2

    def test_a_writer_who_reads_back_as_we_do_loses_nothing(self, tagged: Tagged, writer: TagWriter) -> None:
        """Both writers read back after writing.

        A tag that is lost between reading and writing is written again.
        """
        told = tagged.upload()
        tagged.tag({"project": "x"})

        # Given another client that writes between Keyhole's reading and writing, so that its tag is lost
        def intrude(write: int) -> None:
            if write == 0:
                tagged.tag({"project": "x", "owner": "them"})

        # And that reads back after Keyhole's write, and writes its missing tag again
        def repeat(write: int) -> None:
            if write == 0:
                assert "owner" not in tagged.tags()
                tagged.tag({"project": "x", "owner": "them"})

        tagged.before("PutObjectTagging", intrude)
        tagged.after("PutObjectTagging", repeat)

        # When Keyhole writes its tags
        assert writer.write(TagDebt.of(told)) is TagOutcome.WRITTEN

        # Then all tags are there
        assert tagged.tags() == {"project": "x", "owner": "them"} | own_tags(told)

    def test_one_who_never_stops_is_left_alone(self, tagged: Tagged, writer: TagWriter) -> None:
        """The number of writes is limited, because each write costs money."""
        told = tagged.upload()
        tagged.after("PutObjectTagging", lambda _: tagged.tag({"owner": "them"}))

        assert writer.write(TagDebt.of(told)) is TagOutcome.FAILED_CONTENDED

        assert tagged.writes == 4
        assert tagged.tags() == {"owner": "them"}
