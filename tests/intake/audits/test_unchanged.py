"""When an earlier verdict still applies to a listed object."""

from datetime import UTC, datetime, timedelta

import pytest

from keyhole.intake.audits.unchanged import still_stands
from keyhole.intake.listing import Listed
from keyhole.reasons import Status
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


def stands(listed: Listed = LISTED, **facts: object) -> bool:
    return still_stands(REPORT.model_copy(update=facts), listed, "3:default")


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


class TestVersions:
    def test_a_version_never_changes(self) -> None:
        assert stands(LISTED._replace(version_id="v1"), version_id="v1", last_modified=None)
        assert not stands(LISTED._replace(version_id="v1"), version_id="v2")
        assert not stands(LISTED._replace(version_id="v1"), version_id=None)

    def test_the_null_version_may_be_replaced(self) -> None:
        null = LISTED._replace(version_id="null")

        assert stands(null, version_id="null")
        assert not stands(null, version_id="null", etag='"e2"')
