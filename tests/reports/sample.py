"""An audit of about two hundred objects with real reports: the demo's images under many keys."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from keyhole.demo.samples import SAMPLES
from keyhole.intake.audits.audit import (
    Audit,
    AuditedObject,
    AuditSpec,
    AuditState,
    BucketFinding,
    How,
    Totals,
)
from keyhole.reasons import Reason, Status, not_an_image
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target, failure
from keyhole.scan.scanner import scan
from keyhole.scan.settings import ScanSettings
from keyhole.sources.errors import BudgetExhaustedError, UnreadableError
from keyhole.sources.local import open_local
from keyhole.sources.meter import Meter
from keyhole.sources.source import Source

BUCKET = "images"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
#: Parts of keys. For each part, the bucket has a copy of each kind of image.
TEAMS = ("build", "desktop", "lab", "legacy", "network", "partners", "staging")


def verdict(key: str, status: Status = Status.SAFE, **fields: Any) -> Report:
    """A report on an object with this key."""
    known = {
        "target": f"s3://{BUCKET}/{key}",
        "bucket": BUCKET,
        "key": key,
        "size": 1024**3,
        "scanned_at": NOON,
        "scanner": "keyhole/test",
        "ruleset": "3/default",
    }
    return Report.model_validate(known | {"status": status} | fields)


def audited(report: Report, how: How = How.SCANNED) -> AuditedObject:
    """The audit's object for a report."""
    return AuditedObject(how=how, status=report.status, report=report)


#: The demo's containers. Reports contain no rows for their members.
PACKED = (".ova", ".tar", ".zip", ".gz", ".xz", ".zst", ".bz2")


@cache
def reports() -> tuple[Report, ...]:
    """A report on each of the demo's images, and on some objects that could not be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        return (*_scanned(path), *_not_read())


def _scanned(path: Path) -> Iterator[Report]:
    for sample in SAMPLES:
        if sample.key.endswith(PACKED):
            continue
        sample.build().write_to(path)
        yield scan(_target(sample.key), lambda meter: open_local(path, meter), ScanSettings())


def _not_read() -> Iterator[Report]:
    def refuse(_meter: Meter) -> Source:
        raise UnreadableError(Reason.ACCESS_DENIED, "GetObject is denied; allow s3:GetObject on this key")

    def give_up(_meter: Meter) -> Source:
        raise BudgetExhaustedError(Reason.BUDGET, "60 seconds are over")

    yield scan(_target("restricted/payroll.vmdk"), refuse, ScanSettings())
    yield scan(_target("slow/tape.raw"), give_up, ScanSettings())
    yield failure(
        _target("images/odd.vhdx"), Reason.INTERNAL_ERROR, "the scanner has a bug; its log says which"
    )


def _target(key: str) -> Target:
    return Target(f"s3://{BUCKET}/{key}", BUCKET, key)


@cache
def objects() -> tuple[AuditedObject, ...]:
    """The audit's objects in the order of a listing: some are unchanged, some archived, one is forgotten."""
    found = [
        audited(_placed(report, f"{team}/{report.key}", number), How.UNCHANGED if number % 3 else How.SCANNED)
        for number, team in enumerate(TEAMS)
        for report in reports()
        if number % 3 == 0 or report.status is not Status.UNSAFE
    ]
    archived = verdict(
        "tape/2019.vmdk", Status.UNREADABLE, reasons=("archived",), size=40 * 1024**3, requests=0
    )
    found += [audited(archived, How.ARCHIVED)]
    found += [AuditedObject(how=How.UNCHANGED, status=Status.SAFE, report=None)]
    return tuple(found)


@cache
def owned() -> tuple[AuditedObject, ...]:
    """The same objects of an audit with an owner tag: some teams have the tag, some tags are unreadable."""
    of = {
        "build": "payments",
        "desktop": "identity & access",
        "lab": "",
        "legacy": "payments",
    }
    return tuple(
        one.model_copy(update={"owner": of.get(str(one.report.key).split("/")[0])})
        if one.report and not str(one.report.key).startswith("staging/")
        else one.model_copy(update={"owner_unknown": "reading the tags is denied"})
        for one in objects()
    )


def _placed(report: Report, key: str, days: int) -> Report:
    """The report with another key."""
    return report.model_copy(
        update={
            "target": f"s3://{BUCKET}/{key}",
            "key": key,
            "etag": blake2b(str(report.key).encode(), digest_size=16).hexdigest(),
            "last_modified": NOON - timedelta(days=40 + 9 * days),
            "scanned_at": NOON + timedelta(seconds=days),
            "elapsed_ms": 41.5,
        }
    )


def findings() -> tuple[BucketFinding, ...]:
    """The findings about the bucket."""
    return (
        BucketFinding(
            kind="gone",
            bucket=BUCKET,
            key="build/images/debian-11.qcow2",
            message="the verdict is safe, of 2026-03-02; the object is gone",
        ),
        BucketFinding(
            kind="tag_mismatch",
            bucket=BUCKET,
            key="desktop/uploads/delta.vhd",
            message="the tag says safe, the verdict is unsafe",
        ),
    )


def totals(of: tuple[AuditedObject, ...]) -> Totals:
    """The totals of an audit of these objects."""
    hows = Counter(one.how for one in of)
    kept = [one.report for one in of if one.report]
    scanned = [one.report for one in of if one.report and one.how is How.SCANNED]
    return Totals(
        pages=1,
        listed=len(of) + 12,
        left_out=12,
        unchanged=hows[How.UNCHANGED],
        archived=hows[How.ARCHIVED],
        queued=hows[How.SCANNED],
        scanned=hows[How.SCANNED],
        statuses=Counter(one.status for one in of),
        not_images=sum(not_an_image(report.status, report.reasons) for report in kept),
        listed_bytes=sum(report.size or 0 for report in kept),
        bytes_read=sum(report.bytes_read for report in scanned),
        requests=1 + sum(report.requests for report in scanned),
        lists=1,
        dollars=0.0000054 + sum(report.requests for report in scanned) * 0.0000004,
        gone=1,
        tag_mismatches=1,
    )


def audit(of: tuple[AuditedObject, ...] | None = None, **fields: Any) -> Audit:
    """The audit of these objects, or of all objects. It is done unless `fields` state otherwise."""
    known = {
        "id": "20260501-images",
        "spec": AuditSpec(bucket=BUCKET, check_tags=True),
        "state": AuditState.DONE,
        "started_at": NOON,
        "ended_at": NOON + timedelta(minutes=3, seconds=20),
        "listed_all": True,
        "totals": totals(objects() if of is None else of),
        "ruleset": "3/default",
        "scanner": "keyhole/0.1.0",
    }
    return Audit.model_validate(known | fields)
