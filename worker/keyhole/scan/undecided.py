"""Reports that say nothing about the object, because Keyhole, the network or S3 failed."""

from typing import Final

from keyhole.reasons import Reason, Status
from keyhole.scan.report import Report

#: Reasons of `failed` reports after which the object is as unknown as before. A request that S3 refuses
#: whatever the object is (`request`) stays a verdict: trying again changes nothing.
UNDECIDED: Final = frozenset(
    {
        Reason.NETWORK,
        Reason.SERVER_ERROR,
        Reason.SLOW_DOWN,
        Reason.CREDENTIALS,
        Reason.CLOCK,
        Reason.TRUNCATED_BODY,
        Reason.WRONG_RANGE,
        Reason.MEMORY,
        Reason.RATE,
        Reason.INTERNAL_ERROR,
    }
)


def is_undecided(report: Report) -> bool:
    """Return whether a scan left its object undecided, so that it must be tried again."""
    return report.status is Status.FAILED and not UNDECIDED.isdisjoint(report.reasons)
