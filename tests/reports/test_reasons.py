"""What statuses and reasons mean: every one has words."""

from keyhole.inspectors.findings import CHECKS
from keyhole.reports.reasons import BY_URGENCY, OTHER_REASONS, meaning
from keyhole.scan.report import Status
from tests.pages import REFERENCE, rows


def test_every_status_has_a_meaning_and_a_place() -> None:
    assert set(BY_URGENCY) == set(Status)
    first, *_, last = BY_URGENCY
    assert (first, last) == (Status.UNSAFE, Status.SAFE)


def test_every_reason_that_is_no_check_has_a_meaning() -> None:
    told = {
        reason.strip("` ")
        for row in rows(REFERENCE["checks"], "other reason")
        for reason in row[0].split(",")
    }
    assert set(OTHER_REASONS) == told


def test_a_check_means_what_it_looks_for() -> None:
    assert meaning("backing_file") == CHECKS["backing_file"].looks_for


def test_a_reason_of_a_later_version_speaks_for_itself() -> None:
    assert meaning("cosmic_rays") == "cosmic_rays"
