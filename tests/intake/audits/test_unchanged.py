"""When an earlier verdict still applies to a listed object."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.intake.audits.unchanged import is_unchanged, still_stands
from keyhole.intake.listing import Listed
from keyhole.reasons import Status
from keyhole.results.fingerprint import fingerprint
from keyhole.results.lookup import Stored
from keyhole.results.record import CorruptRecordError, Record, body_of, header
from keyhole.scan.report import Report

WHEN = datetime(2026, 5, 1, 12, 30, 15, tzinfo=UTC)
LISTED = Listed("a", 100, '"e1"', WHEN.replace(microsecond=123_000))
REPORT = Report(
    target="s3://images/a",
    bucket="images",
    key="a",
    etag='"e1"',
    size=100,
    last_modified=WHEN,
    status=Status.UNSAFE,
    scanned_at=WHEN,
    scanner="keyhole/test",
    ruleset="3:default",
)


def stored(report: Report) -> bytes:
    """The value of the report's record in Redis."""
    head = header(report, job_id="1", sequencer=None)
    return head.encode() + b"\n" + body_of(report, report.model_dump_json().encode())


def stands(listed: Listed = LISTED, **facts: object) -> bool:
    """Whether the verdict is valid; the record's fingerprint and its report say the same."""
    report = REPORT.model_copy(update=facts)
    says = still_stands(report, listed, "3:default")
    assert is_unchanged(Stored("id", Record.parse(stored(report))), listed, "3:default") == says
    return says


def test_it_stands_on_the_same_object_by_the_same_rules() -> None:
    """A listing states milliseconds, and a header seconds. Some servers send ETags without quotes."""
    assert stands()
    assert stands(LISTED._replace(etag="e1"))


@pytest.mark.parametrize(
    "facts",
    [
        {"etag": '"e2"'},
        {"etag": None},
        {"size": 101},
        {"last_modified": WHEN + timedelta(seconds=1)},
        {"last_modified": None},
        {"ruleset": "4:default"},
        {"ruleset": "3:azure"},
        {"status": Status.FAILED},
    ],
)
def test_it_does_not_on_another_or_by_other_rules_or_after_a_failure_of_ours(
    facts: dict[str, object],
) -> None:
    assert not stands(**facts)


def test_that_it_was_archived_stands_until_it_is_restored() -> None:
    archived = LISTED._replace(storage_class="GLACIER")
    facts = {"status": Status.UNREADABLE, "reasons": ("archived",)}

    assert stands(archived, **facts)
    assert not stands(archived._replace(restored=True), **facts)
    assert not stands(LISTED, **facts)


def test_none_stands_on_nothing() -> None:
    assert not still_stands(None, LISTED, "3:default")
    assert not stands(LISTED._replace(etag=None), etag=None)


class TestFingerprint:
    def test_an_unchanged_object_is_recognised_without_its_report(self) -> None:
        found = Stored("id", Record.parse(stored(REPORT))._replace(attempt=b"damaged"))

        assert is_unchanged(found, LISTED, "3:default")
        assert found.report is None

    @pytest.mark.parametrize("at", range(len(stored(REPORT))))
    def test_a_damaged_record_is_scanned_again_if_its_report_cannot_be_read(self, at: int) -> None:
        whole = stored(REPORT)
        damaged = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        try:
            found = Stored("id", Record.parse(damaged))
        except CorruptRecordError:
            return

        if is_unchanged(found, LISTED, "3:default"):
            assert found.status is Status.UNSAFE
            assert still_stands(found.report, LISTED, "3:default")
        else:
            assert not still_stands(found.report, LISTED, "3:default")

    @given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), min_size=2, max_size=2, unique=True))
    def test_the_parts_of_the_hashed_text_cannot_be_confused(self, pairs: list[tuple[str, str]]) -> None:
        one, other = (
            fingerprint("safe", b"", ruleset=ruleset, etag=f'"{etag}"', size=1, last_modified=WHEN)
            for ruleset, etag in pairs
        )

        assert (one == other) == (
            [(ruleset, etag.strip('"')) for ruleset, etag in pairs[:1]]
            == [(ruleset, etag.strip('"')) for ruleset, etag in pairs[1:]]
        )

    def test_a_record_without_one_is_compared_by_its_report(self) -> None:
        head = header(REPORT, job_id="1", sequencer=None).encode()
        earlier = Record.parse(head + b"\n" + REPORT.model_dump_json().encode())

        assert is_unchanged(Stored("id", earlier), LISTED, "3:default")
        assert not is_unchanged(Stored("id", earlier), LISTED, "4:default")


class TestVersions:
    def test_a_version_never_changes(self) -> None:
        assert stands(LISTED._replace(version_id="v1"), version_id="v1", last_modified=None)
        assert not stands(LISTED._replace(version_id="v1"), version_id="v2")
        assert not stands(LISTED._replace(version_id="v1"), version_id=None)

    def test_the_null_version_may_be_replaced(self) -> None:
        null = LISTED._replace(version_id="null")

        assert stands(null, version_id="null")
        assert not stands(null, version_id="null", etag='"e2"')


def test_a_verdict_stands_until_its_first_waiver_has_ended() -> None:
    """The record's fingerprint is for other rules, so the report decides."""
    assert stands(ruleset="3:default+until:2999-12-31")
    assert not stands(ruleset="3:default+until:2020-12-31")
    assert not stands(ruleset="3:other+until:2999-12-31")
    assert not stands(ruleset="3:default+until:")
