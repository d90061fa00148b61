"""A report on a hostile image, and its event."""

from datetime import UTC, datetime
from typing import Any

from keyhole.inspectors.findings import Finding, Severity
from keyhole.reasons import Status
from keyhole.results.sinks.event import Event
from keyhole.scan.report import Report

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def report(**fields: Any) -> Report:
    """A report on a qcow2 image with a backing file."""
    given: dict[str, Any] = {
        "target": "s3://images/a.qcow2",
        "bucket": "images",
        "key": "a.qcow2",
        "etag": '"abc"',
        "size": 197120,
        "format": "qcow2",
        "status": Status.UNSAFE,
        "reasons": ("backing_file",),
        "findings": (Finding("backing_file", Severity.CRITICAL, "it names the backing file /etc/shadow"),),
        "scanned_at": NOON,
        "scanner": "keyhole/test",
        "ruleset": "default/1",
    }
    return Report(**given | fields)


EVENT = Event.of(report(), job_id="job")
