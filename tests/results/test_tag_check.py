"""Tags compared with verdicts, on a local S3."""

from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING

import pytest
import stamina

from keyhole.reasons import Reason, Status
from keyhole.results.owner import Owner
from keyhole.results.tag_check import MOST_FAILURES, TagCheck, TagFinding, TagQuestion
from keyhole.results.tag_writer import TagWriter
from keyhole.results.tags import STATUS, TagDebt
from keyhole.scan.report import Report
from tests.servers.model_s3 import Fault, ModelS3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def report(s3: "S3Client", bucket: str, key: str, status: Status = Status.SAFE) -> Report:
    """Upload a new object, and return the verdict on it."""
    put = s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    return Report(
        target=f"s3://{bucket}/{key}",
        bucket=bucket,
        key=key,
        etag=put["ETag"],
        size=1,
        status=status,
        reasons=() if status is Status.SAFE else ("backing_file",),
        scanned_at=datetime(2026, 5, 1, tzinfo=UTC),
        scanner="keyhole/test",
        ruleset="1",
    )


def tag(s3: "S3Client", report: Report, **tags: str) -> None:
    s3.put_object_tagging(
        Bucket=str(report.bucket),
        Key=str(report.key),
        Tagging={"TagSet": [{"Key": name.replace("_", "-"), "Value": value} for name, value in tags.items()]},
    )


def messages(s3: "S3Client", *reports: Report, expected: bool = True) -> list[str | None]:
    found = TagCheck(s3, expected=expected, threads=4)([TagQuestion.about(one) for one in reports])
    assert [finding.requests for finding in found] == [1] * len(reports)
    return [finding.message for finding in found]


def test_tags_that_keyhole_wrote_agree(s3: "S3Client", bucket: str) -> None:
    reports = [report(s3, bucket, "a"), report(s3, bucket, "b", Status.UNSAFE)]
    for one in reports:
        TagWriter(s3).write(TagDebt.of(one))

    assert messages(s3, *reports) == [None, None]


def test_another_status_is_told(s3: "S3Client", bucket: str) -> None:
    unsafe = report(s3, bucket, "a", Status.UNSAFE)
    TagWriter(s3).write(TagDebt.of(unsafe))
    tag(s3, unsafe, keyhole_status="safe")

    assert messages(s3, unsafe) == [f"the verdict is unsafe, but the tag {STATUS} says safe"]


def test_a_tag_of_an_earlier_object_is_told(s3: "S3Client", bucket: str) -> None:
    """The status agrees, but the tags name another object."""
    one = report(s3, bucket, "a")
    tag(s3, one, keyhole_status="safe", keyhole_scan="2026-01-01T00:00:00Z keyhole/test 0123456789abcdef")

    (message,) = messages(s3, one)

    assert message is not None
    assert "differ from the verdict" in message


def test_none_are_told_where_some_are_expected(s3: "S3Client", bucket: str) -> None:
    one = report(s3, bucket, "a")
    tag(s3, one, owner="me")

    assert messages(s3, one) == [f"the verdict is safe, but there is no tag {STATUS}"]
    assert messages(s3, one, expected=False) == [None]


def test_ten_foreign_tags_leave_no_room_for_any(s3: "S3Client", bucket: str) -> None:
    one = report(s3, bucket, "a")
    tag(s3, one, **{f"t{number}": "x" for number in range(10)})

    assert messages(s3, one) == [None]


def test_tags_that_cannot_be_read_are_told(s3: "S3Client", bucket: str) -> None:
    one = report(s3, bucket, "a")
    s3.delete_object(Bucket=bucket, Key="a")

    (message,) = messages(s3, one)

    assert message is not None
    assert message.startswith("the object's tags cannot be read: ")


@pytest.mark.parametrize("count", [0, 1, 30])
def test_every_request_waits_for_its_turn(s3: "S3Client", bucket: str, count: int) -> None:
    turns = 0
    lock = Lock()

    def turn() -> None:
        nonlocal turns
        with lock:
            turns += 1

    reports = [report(s3, bucket, str(number)) for number in range(count)]

    TagCheck(s3, expected=True, threads=4, rate_limiter=turn)([TagQuestion.about(one) for one in reports])

    assert turns == count


def test_an_answer_that_makes_no_sense_is_told() -> None:
    """The other objects are still checked."""
    s3 = ModelS3(versioned=False)
    stored = s3.put(b"x")
    s3.before = lambda _: Fault.SENSELESS
    verdict = Report(
        target="s3://images/a",
        bucket="images",
        key="a",
        etag=stored.etag,
        status=Status.SAFE,
        scanned_at=datetime(2026, 5, 1, tzinfo=UTC),
        scanner="keyhole/test",
        ruleset="1",
    )

    check = TagCheck(s3, expected=True, threads=1)  # type: ignore[arg-type] # a model of its client
    with stamina.set_testing(True, attempts=2):
        (finding,) = check([TagQuestion.about(verdict)])

    assert finding.message is not None
    assert "is malformed" in finding.message


def test_answers_that_cannot_be_parsed_hide_no_other_owner() -> None:
    """Such tags once counted as failures of the server, and after many of these no more tags are read."""
    s3 = ModelS3(versioned=False)
    s3.put(b"x", {"team": "payments"})
    s3.before = lambda _: Fault.MALFORMED if len(s3.requests) <= MOST_FAILURES + 5 else None
    check = TagCheck(s3, expected=True, threads=1, owner_tag="team")  # type: ignore[arg-type] # as above

    *refused, honest = check([TagQuestion("images", "a")] * (MOST_FAILURES + 6))

    assert honest.owner == Owner("payments")
    assert {finding.owner for finding in refused} == {
        Owner(
            unknown="the server's answer is malformed; a tag can contain a character that XML does not allow"
        )
    }
    assert {finding.requests for finding in refused} == {1}


def test_the_owner_is_found_with_the_same_request(s3: "S3Client", bucket: str) -> None:
    verdict = report(s3, bucket, "a")
    tag(s3, verdict, team="payments", keyhole_status="unsafe")
    untagged = report(s3, bucket, "b")
    questions = [
        TagQuestion.about(verdict),
        TagQuestion(bucket, "b"),
        TagQuestion(bucket, "c"),
        TagQuestion(bucket, "a", str(verdict.version_id)) if verdict.version_id else TagQuestion(bucket, "a"),
    ]

    found = TagCheck(s3, expected=True, threads=4, owner_tag="team")(questions)

    assert untagged.key == "b"
    assert [finding.requests for finding in found] == [1, 1, 1, 1]
    assert found[0].message == f"the verdict is safe, but the tag {STATUS} says unsafe"
    assert [finding.message for finding in found[1:]] == [None, None, None]
    assert [finding.owner for finding in found] == [
        Owner("payments"),
        Owner(),
        Owner(unknown="the object does not exist"),
        Owner("payments"),
    ]


def test_a_request_that_fails_for_a_moment_is_repeated() -> None:
    s3 = ModelS3(versioned=False)
    s3.put(b"x", {"team": "payments"})
    s3.before = lambda _: Fault.SLOW_DOWN if len(s3.requests) < 2 else None
    failed: list[Reason] = []
    check = TagCheck(
        s3,  # type: ignore[arg-type] # as above
        expected=True,
        threads=1,
        owner_tag="team",
        failed=failed.append,
    )

    assert check([TagQuestion("images", "a")]) == [TagFinding(None, 2, owner=Owner("payments"))]
    assert failed == [Reason.SLOW_DOWN]


def test_a_refusal_is_not_repeated() -> None:
    s3 = ModelS3(versioned=False)
    s3.put(b"x", {"team": "payments"})
    s3.before = lambda _: Fault.DENIED
    check = TagCheck(s3, expected=True, threads=1, owner_tag="team")  # type: ignore[arg-type] # as above

    (finding,) = check([TagQuestion("images", "a")])

    assert (finding.message, finding.requests) == (None, 1)
    assert finding.owner is not None
    assert "Keyhole needs s3:GetObjectTagging" in str(finding.owner.unknown)


def test_after_many_failures_no_more_tags_are_read() -> None:
    """Otherwise a page would take hours while S3 does not answer."""
    s3 = ModelS3(versioned=False)
    s3.put(b"x", {"team": "payments"})
    s3.before = lambda _: Fault.SLOW_DOWN
    check = TagCheck(s3, expected=True, threads=1, owner_tag="team")  # type: ignore[arg-type] # as above

    with stamina.set_testing(True, attempts=2):
        found = check([TagQuestion("images", "a")] * 1000)

    assert len(found) == 1000
    assert [finding.requests == 0 for finding in found] == [False] * MOST_FAILURES + [True] * 980
    assert {finding.owner for finding in found} == {
        Owner(unknown="the server asks to slow down (503 SlowDown)")
    }
