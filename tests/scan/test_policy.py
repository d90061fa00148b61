"""The effect of findings on the verdict."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.inspectors.facts import Facts, Wholeness
from keyhole.inspectors.findings import CHECKS, Severity, found
from keyhole.reasons import Status
from keyhole.scan.policy import PRECEDENCE, STATUS_OF_CHECK, judge

WHOLE = Facts("qcow2", "3", 1 << 30, 1 << 20, (), wholeness=Wholeness.PROVEN)
UNKNOWN = Facts(None, None, None, 1 << 20, ())

GRAVE = st.lists(st.sampled_from(sorted(CHECKS)), min_size=1, max_size=6)


def facts(*checks: str, severity: Severity = Severity.ERROR) -> Facts:
    """The facts about a whole image with these findings."""
    return replace(WHOLE, findings=tuple(found(check, "as found", severity) for check in checks))


def test_every_check_has_one_status_and_every_status_a_check() -> None:
    assert set(STATUS_OF_CHECK) == set(CHECKS)


def test_a_whole_image_without_findings_is_safe() -> None:
    assert judge(WHOLE) == (Status.SAFE, ())


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_one_finding_is_the_verdict_and_the_reason(check: str) -> None:
    assert judge(facts(check)) == (STATUS_OF_CHECK[check], (check,))


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_information_never_matters(check: str) -> None:
    assert judge(facts(check, severity=Severity.INFO)) == (Status.SAFE, ())


@given(GRAVE)
def test_the_gravest_finding_is_the_verdict(checks: list[str]) -> None:
    status, _ = judge(facts(*checks))
    assert status == next(grave for grave in PRECEDENCE if grave in {STATUS_OF_CHECK[c] for c in checks})


@given(GRAVE)
def test_every_finding_is_a_reason_once_the_gravest_first(checks: list[str]) -> None:
    _, reasons = judge(facts(*checks))
    places = [PRECEDENCE.index(STATUS_OF_CHECK[reason]) for reason in reasons]
    assert places == sorted(places)
    assert sorted(reasons) == sorted(set(checks))


def test_unsafe_outweighs_damaged_rejected_inconclusive_unrecognized() -> None:
    assert PRECEDENCE == ("unsafe", "damaged", "rejected", "inconclusive", "unrecognized")


def test_what_was_passed_unseen_makes_the_verdict_inconclusive() -> None:
    assert judge(replace(WHOLE, complete=False)) == (Status.INCONCLUSIVE, ("missed",))


def test_an_inspection_broken_off_is_inconclusive_for_that_reason() -> None:
    assert judge(replace(WHOLE, complete=False), "budget") == (Status.INCONCLUSIVE, ("budget",))


def test_an_inspection_broken_off_is_unsafe_for_what_it_found() -> None:
    unfinished = replace(facts("backing_file"), complete=False)
    assert judge(unfinished, "budget") == (Status.UNSAFE, ("backing_file", "budget"))


def test_a_format_that_cannot_be_told_yet_is_inconclusive() -> None:
    assert judge(replace(UNKNOWN, complete=False)) == (Status.INCONCLUSIVE, ("missed",))


def test_no_format_is_unrecognized() -> None:
    assert judge(UNKNOWN) == (Status.UNRECOGNIZED, ("no_known_format",))


def test_no_bytes_are_unrecognized_as_empty() -> None:
    assert judge(replace(UNKNOWN, actual_size=0)) == (Status.UNRECOGNIZED, ("empty",))


def test_unchecked_wholeness_is_never_safe() -> None:
    verdict = judge(replace(WHOLE, wholeness=Wholeness.UNCHECKED))
    assert verdict == (Status.INCONCLUSIVE, ("wholeness_unchecked",))


def test_sampled_wholeness_is_enough() -> None:
    assert judge(replace(WHOLE, wholeness=Wholeness.SAMPLED)) == (Status.SAFE, ())


@pytest.mark.parametrize("size", [None, 0])
def test_an_image_without_a_size_is_never_safe(size: int | None) -> None:
    without = replace(WHOLE, virtual_size=size)
    assert judge(without) == (Status.INCONCLUSIVE, ("size_unknown",))
    assert judge(replace(without, findings=(found("dirty", "a sentence"),)))[1] == ("dirty",)
