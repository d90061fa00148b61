"""Logs one line for each verdict, and updates the metrics of scans, tags and audits."""

import logging
from collections.abc import Sequence

from keyhole.fleet.services import Services
from keyhole.intake.audits.costs import cost_of_scan
from keyhole.intake.audits.records import NANO, PageResult
from keyhole.jobs.job import ScanJob
from keyhole.metrics.recorder import Phase, recorder
from keyhole.reasons import Reason
from keyhole.results.tag_writer import TagRequest
from keyhole.scan.policy import policy_of
from keyhole.scan.report import Report
from keyhole.sources.meter import Meter

#: The logger of the lines about verdicts.
VERDICTS = logging.getLogger("keyhole.verdicts")


def verdict_recorded(services: Services, report: Report, *, job_id: str, audit_id: str | None) -> None:
    """Log and count a verdict that is recorded."""
    recorder().verdict(report.status, report.format)
    if VERDICTS.isEnabledFor(logging.INFO):
        fields = {
            "target": report.target,
            "version": report.version_id,
            "etag": report.etag,
            "status": report.status.value,
            "format": report.format,
            "reasons": report.reasons,
            "requests": report.requests,
            "bytes": report.bytes_read,
            "milliseconds": round(report.elapsed_ms, 1),
            "job": job_id,
            "audit": audit_id,
            "policy": policy_of(services.ruleset),
            "ruleset": report.ruleset,
        }
        VERDICTS.info("verdict", extra={"fields": fields})


def scan_ended(services: Services, job: ScanJob, meter: Meter) -> None:
    """Count the time, the requests and the failures of an attempt at an object."""
    counting = recorder()
    counting.took(Phase.S3, meter.waiting_seconds)
    counting.took(Phase.INSPECTION, max(0.0, meter.elapsed_seconds - meter.waiting_seconds))
    counting.requests(meter.requests, meter.bytes_read)
    counting.failures(meter.errors, meter.retries)
    storage_class = job.storage_class or "STANDARD"
    counting.spent(cost_of_scan(services.prices, storage_class, meter.requests, meter.bytes_read, ()).dollars)


def tags_requested(services: Services, storage_class: str | None, asked: Sequence[TagRequest]) -> None:
    """Count the requests that read and wrote an object's tags."""
    counting = recorder()
    if counting.counts:
        counting.requests(len(asked))
        counting.spent(cost_of_scan(services.prices, storage_class or "STANDARD", 0, 0, asked).dollars)


def request_failed(reason: Reason) -> None:
    """Count a failed request to S3 that lists objects, or that reads or writes tags."""
    recorder().failures({reason: 1}, 0)


def page_committed(result: PageResult) -> None:
    """Count the objects and the requests of a page of an audit.

    The requests that will correct tags are left out, because the workers that send them count them.
    """
    counting, later = recorder(), result.cost_of_debts
    counting.audited(result.counts)
    counting.requests(result.counts.get("requests", 0) - later.requests)
    counting.spent(result.counts.get("nanodollars", 0) / NANO - later.dollars)
