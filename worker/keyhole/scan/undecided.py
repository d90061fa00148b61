"""Recognises reports that do not judge the object, because Keyhole, the network or S3 failed."""

from typing import Final

from keyhole.reasons import Reason, Status
from keyhole.scan.report import Report

#: The reasons of `failed` reports after which another attempt may reach a verdict. `request` is not among
#: them: S3 would refuse the same request again, so a report with that reason is final.
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
    """Return whether a scan reached no verdict on its object, so that Keyhole must scan it again."""
    return report.status is Status.FAILED and not UNDECIDED.isdisjoint(report.reasons)
