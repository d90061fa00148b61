"""A report on an object, for tests of its tags."""

from datetime import UTC, datetime
from typing import Any

from keyhole.reasons import Status
from keyhole.scan.report import Report

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = "a.qcow2"


def report(status: Status = Status.SAFE, **fields: Any) -> Report:
    """A report on an object in a bucket."""
    given = {
        "target": "s3://images/a.qcow2",
        "bucket": "images",
        "key": KEY,
        "etag": '"abc"',
        "format": "qcow2",
        "virtual_size": 1 << 30,
        "scanned_at": NOON,
        "scanner": "0.1.0",
        "ruleset": "1",
    }
    return Report(status=status, **given | fields)


def foreign(count: int) -> dict[str, str]:
    """Tags that are not Keyhole's."""
    return {f"team-{number}": f"väl{number}" for number in range(count)}
