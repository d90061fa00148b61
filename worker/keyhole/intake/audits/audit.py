"""An audit: its specification, its state, its totals and its findings."""

from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from keyhole.intake.selection import Selection
from keyhole.reasons import Status
from keyhole.scan.report import Report
from keyhole.versions import AUDIT as AUDIT_VERSION


class AuditSpec(BaseModel):
    """The specification of an audit, which does not change while it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: str = Field(min_length=1, max_length=2048)
    prefix: str = ""
    selection: Selection = Selection()
    #: The audit ends after this many selected objects.
    limit: int | None = Field(default=None, ge=1)
    #: Also scan unchanged objects.
    full: bool = False
    #: Audit all versions, not only the current versions.
    versions: bool = False
    #: Compare the objects' tags with their verdicts, which takes one request per object.
    check_tags: bool = False
    #: The URI of an S3 Inventory's manifest. If set, the audit reads the inventory instead of listing the
    #: bucket.
    inventory: str | None = None
    #: The most requests and dollars that the audit can spend: it stops before it exceeds a limit. The dollars
    #: are computed with the price table.
    max_requests: int | None = Field(default=None, ge=1)
    max_dollars: float | None = Field(default=None, gt=0)
    #: The most requests per second to the bucket; 0: no limit. All audits of the bucket share this limit.
    rate: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    #: The most batches that are queued or in progress at the same time, and the most objects in a batch.
    outstanding: int = Field(default=8, ge=1, le=1000)
    batch_size: int = Field(default=100, ge=1, le=1000)
    #: The name of the schedule that started the audit.
    schedule: str | None = None
    #: The version of this format. Specifications of a later version are refused.
    version: int = Field(default=AUDIT_VERSION, ge=1, le=AUDIT_VERSION)


class AuditState(StrEnum):
    """The state of an audit."""

    RUNNING = "running"
    PAUSED = "paused"
    #: All objects are listed, or as many as `limit` allows, and all verdicts are written.
    DONE = "done"
    CANCELLED = "cancelled"
    #: The audit reached its limit of requests or dollars.
    STOPPED = "stopped"
    #: A page could not be processed; the audit's `reason` states why.
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether the audit has ended."""
        return self not in {AuditState.RUNNING, AuditState.PAUSED}


class Totals(BaseModel):
    """The counts of an audit so far. `listed` is the sum of `left_out`, `unchanged`, `archived` and `queued`.

    `requests` counts all requests to S3, including LISTs (`lists`) and requests for tags. `bytes_read` counts
    only bytes of objects.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pages: int = 0
    listed: int = 0
    #: Objects that are not selected.
    left_out: int = 0
    #: Objects whose stored verdict is still valid.
    unchanged: int = 0
    #: Objects that must be restored before they can be read.
    archived: int = 0
    #: Objects for which the audit created scan jobs, including those that are already scanned.
    queued: int = 0
    #: Objects whose scan jobs are done.
    scanned: int = 0
    #: The number of scanned, unchanged and archived objects, by the status of their verdict.
    statuses: dict[Status, int] = {}
    #: The total size of the selected objects, in bytes.
    listed_bytes: int = 0
    bytes_read: int = 0
    requests: int = 0
    lists: int = 0
    dollars: float = 0.0
    #: The numbers of findings about the bucket: `gone` counts verdicts on deleted objects, `tag_mismatches`
    #: counts objects with tags that contradict their verdict.
    gone: int = 0
    tag_mismatches: int = 0


class Audit(BaseModel):
    """The current status of an audit. Times are in UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    spec: AuditSpec
    state: AuditState
    #: One sentence that states why the audit is not running, or why it makes no progress.
    reason: str | None = None
    started_at: datetime
    ended_at: datetime | None = None
    #: Whether all pages are listed, so that `totals.queued` is final.
    listed_all: bool = False
    outstanding: int = 0
    totals: Totals = Totals()
    ruleset: str = ""
    scanner: str = ""


class How(StrEnum):
    """How an audit got a verdict."""

    SCANNED = "scanned"
    UNCHANGED = "unchanged"
    ARCHIVED = "archived"


class AuditedObject(BaseModel):
    """One object of an audit, with its current report.

    `status` is the status at the time of the audit; a later scan can have changed the report. `report` is
    `None` if Redis no longer has the record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    how: How
    status: Status
    report: Report | None


class BucketFinding(BaseModel):
    """A finding about the bucket: a verdict on a deleted object, or a tag that contradicts a verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str  # `gone` or `tag_mismatch`
    bucket: str
    key: str
    version_id: str | None = None
    message: str

    @classmethod
    def of(cls, kind: str, report: Report, message: str) -> Self:
        """Return a finding about the object of a report."""
        return cls(
            kind=kind,
            bucket=str(report.bucket),
            key=str(report.key),
            version_id=report.version_id,
            message=message,
        )
