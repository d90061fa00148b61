"""Decides what an audit does with each object. An audit and its dry run use the same function."""

from typing import NamedTuple

from keyhole.intake.audits.audit import AuditSpec, How
from keyhole.intake.audits.unchanged import still_stands
from keyhole.intake.listing import Listed
from keyhole.scan.report import Report


class Decision(NamedTuple):
    """The decision about one object of an audit.

    Args:
        how: How the object gets its verdict; `None` if it is not selected.
        stands: Whether its stored verdict is still true.
        compares_tags: Whether its tags are compared with that verdict.
    """

    how: How | None
    stands: bool = False
    compares_tags: bool = False


def decide(spec: AuditSpec, listed: Listed, report: Report | None, ruleset: str) -> Decision:
    """Return what an audit does with an object.

    Args:
        spec: The audit.
        listed: The object in the listing.
        report: Its stored verdict, if any.
        ruleset: The rules of a verdict that is made today.
    """
    if not spec.selection.matches(spec.bucket, listed.key, listed.size):
        return Decision(None)
    stands = still_stands(report, listed, ruleset)
    if listed.archived:
        how = How.ARCHIVED
    elif stands and not spec.full:
        how = How.UNCHANGED
    else:
        how = How.SCANNED
    return Decision(how, stands, compares_tags=stands and spec.check_tags)
