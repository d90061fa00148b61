"""Writes verdicts to Redis, as a worker would."""

from datetime import UTC, datetime, timedelta

from keyhole import Report, Status
from keyhole.results.redis_store import RedisStore
from keyhole.scan.reporter import Target, build_report


def write(
    store: RedisStore, key: str, status: Status, *, bucket: str = "b", job: str = "j", at: int = 0
) -> Report:
    """Write a verdict of a job. `at` is the time of the scan, in seconds after a fixed moment."""
    moment = datetime(2026, 5, 1, tzinfo=UTC) + timedelta(seconds=at)
    report = build_report(
        Target(f"s3://{bucket}/{key}", bucket, key), "5:default", status=status, format="qcow2"
    )
    report = report.model_copy(update={"scanned_at": moment})
    store.write(report, job_id=job, sequencer=None)
    return report
