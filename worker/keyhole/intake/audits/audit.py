"""An audit: its specification, its state, its totals and its findings."""

from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from keyhole.intake.selection import Selection
from keyhole.reasons import Status
from keyhole.scan.report import Report


class AuditSpec(BaseModel):
    """The specification of an audit, which does not change while it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: str = Field(min_length=1, max_length=2048)
    prefix: str = ""
    selection: Selection = Selection()
    #: The most objects to take, of those selected.
    limit: int | None = Field(default=None, ge=1)
    #: Scan unchanged objects, too.
    full: bool = False
    #: Take every version, not only the current ones.
    versions: bool = False
    #: Compare tags with verdicts: a request per object.
    check_tags: bool = False
    #: The manifest of an S3 Inventory to take instead of a listing.
    inventory: str | None = None
    #: Stop before these are exceeded. Dollars are from the price table.
    max_requests: int | None = Field(default=None, ge=1)
    max_dollars: float | None = Field(default=None, gt=0)
    #: Requests per second to the bucket by all audits together; 0: no limit.
    rate: float = Field(default=0.0, ge=0)
    #: The most batches that are queued or worked on at once, and the most objects in one.
    outstanding: int = Field(default=8, ge=1, le=1000)
    batch_size: int = Field(default=100, ge=1, le=1000)
    #: The schedule that started it.
    schedule: str | None = None


class AuditState(StrEnum):
    """The state of an audit."""

    RUNNING = "running"
    PAUSED = "paused"
    #: All is listed, and all verdicts are written.
    DONE = "done"
    CANCELLED = "cancelled"
    #: A limit was reached: requests, dollars.
    STOPPED = "stopped"
    #: The bucket cannot be listed (any longer).
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether the audit has ended."""
        return self not in {AuditState.RUNNING, AuditState.PAUSED}


class Totals(BaseModel):
    """The counts of an audit so far. Each listed object is in one of the four counts after `listed`.

    `requests` counts all requests to S3, including LISTs (`lists`) and tags; `bytes_read` counts bytes of
    objects.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pages: int = 0
    listed: int = 0
    #: Not selected.
    left_out: int = 0
    #: Its verdict stands.
    unchanged: int = 0
    #: In a class that must be restored before it can be read.
    archived: int = 0
    #: Sent to be scanned.
    queued: int = 0
    #: Sent to be scanned, and scanned since.
    scanned: int = 0
    #: The verdicts of all that was scanned, unchanged or archived.
    statuses: dict[Status, int] = {}
    #: Bytes of the objects that were listed and selected.
    listed_bytes: int = 0
    bytes_read: int = 0
    requests: int = 0
    lists: int = 0
    dollars: float = 0.0
    #: Verdicts on deleted objects; tags that disagree with a verdict.
    gone: int = 0
    tag_mismatches: int = 0


class Audit(BaseModel):
    """The current status of an audit. Times are in UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    spec: AuditSpec
    state: AuditState
    #: Why it is not running, in a sentence.
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
    """How an audit came by a verdict."""

    SCANNED = "scanned"
    UNCHANGED = "unchanged"
    ARCHIVED = "archived"


class AuditedObject(BaseModel):
    """One object of an audit, with its current report.

    `status` is from the time of the audit. `report` is `None` if there is no record any longer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    how: How
    status: Status
    report: Report | None


class BucketFinding(BaseModel):
    """A finding about the bucket: a verdict on a deleted object, or a tag that disagrees with a verdict."""

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
