"""The report as JSON."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.findings import CHECKS, Finding, Severity
from keyhole.reasons import Status
from keyhole.scan.report import Report

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SIZES = st.none() | st.integers(0, 1 << 70)
WORDS = st.none() | st.text(max_size=8)
FINDINGS = st.builds(Finding, st.sampled_from(sorted(CHECKS)), st.sampled_from(Severity), st.text(max_size=8))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def reports(members: st.SearchStrategy[tuple[Report, ...]]) -> st.SearchStrategy[Report]:
    """Reports whose members have these reports."""
    return st.builds(
        Report,
        target=st.text(max_size=8),
        bucket=WORDS,
        key=WORDS,
        version_id=WORDS,
        etag=WORDS,
        size=SIZES,
        last_modified=st.none() | st.datetimes(timezones=st.just(UTC)),
        format=WORDS,
        subformat=WORDS,
        virtual_size=SIZES,
        actual_size=SIZES,
        content=st.tuples(st.text(max_size=8)),
        details=st.dictionaries(st.text(max_size=8), JSON, max_size=3),
        members=members,
        status=st.sampled_from(Status),
        reasons=st.tuples(st.text(max_size=8)),
        findings=st.lists(FINDINGS, max_size=2).map(tuple),
        wholeness=st.sampled_from(Wholeness),
        elapsed_ms=st.floats(0, 1e9),
        scanned_at=st.datetimes(timezones=st.just(UTC)),
        scanner=st.just("keyhole/1"),
        ruleset=st.just("1"),
    )


@given(reports(reports(st.just(())).map(lambda member: (member,))))
def test_json_gives_the_report_back(report: Report) -> None:
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_report_does_not_change() -> None:
    report = Report(target="-", status=Status.SAFE, scanned_at=NOON, scanner="keyhole/1", ruleset="1")
    with pytest.raises(ValidationError, match="frozen"):
        setattr(report, "status", Status.UNSAFE)  # noqa: B010 - an assignment would not pass mypy


def test_a_field_that_no_report_has_is_refused() -> None:
    with pytest.raises(ValidationError, match="verdict"):
        Report.model_validate_json('{"target": "-", "verdict": "safe"}')
