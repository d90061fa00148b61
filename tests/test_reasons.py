"""The statuses and the reasons, and the sentences that explain them."""

from keyhole.inspectors.findings import CHECKS
from keyhole.reasons import STATUSES, Reason, Status, meaning


def test_every_status_has_a_meaning_and_a_place() -> None:
    assert set(STATUSES) == set(Status)
    first, *_, last = STATUSES
    assert (first, last) == (Status.UNSAFE, Status.SAFE)


def test_no_reason_has_the_name_of_a_check() -> None:
    assert not set(Reason) & set(CHECKS)


def test_no_reason_is_one_for_a_safe_object() -> None:
    assert {reason.status for reason in Reason} == {
        Status.UNRECOGNIZED,
        Status.INCONCLUSIVE,
        Status.UNREADABLE,
        Status.FAILED,
    }


def test_a_check_means_what_it_looks_for() -> None:
    assert meaning("backing_file") == CHECKS["backing_file"].looks_for


def test_a_reason_means_its_sentence() -> None:
    assert meaning("clock") == Reason.CLOCK.sentence


def test_a_reason_of_a_later_version_speaks_for_itself() -> None:
    assert meaning("cosmic_rays") == "cosmic_rays"
