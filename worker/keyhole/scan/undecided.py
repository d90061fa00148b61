"""Which reports say nothing about the object: a fault of ours, of the network or of S3 is not a verdict."""

from typing import Final

from keyhole.scan.report import Report, Status

#: Reasons of `failed` reports after which the object is as unknown as before. A request that S3 refuses
#: whatever the object is (`request`) stays a verdict: trying again changes nothing.
UNDECIDED: Final = frozenset(
    {
        "network",
        "server_error",
        "slow_down",
        "credentials",
        "clock",
        "truncated_body",
        "wrong_range",
        "memory",
        "rate",
        "internal_error",
    }
)


def is_undecided(report: Report) -> bool:
    """Whether a scan left its object undecided, so that it is to be tried again."""
    return report.status is Status.FAILED and not UNDECIDED.isdisjoint(report.reasons)
