"""An audit: its specification, its state, its totals and its findings."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from keyhole.intake.selection import Selection
from keyhole.reasons import Status
from keyhole.results.owner import parse_owner_tag
from keyhole.scan.report import Report
from keyhole.versions import AUDIT as AUDIT_VERSION
from keyhole.versions import AUDIT_2


class AuditSpec(BaseModel):
    """The specification of an audit, which does not change while it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: str = Field(min_length=1, max_length=2048)
    prefix: str = ""
    selection: Selection = Selection()
    #: The maximum number of selected objects. After this many objects, the audit ends.
    limit: int | None = Field(default=None, ge=1)
    #: Also scan unchanged objects.
    full: bool = False
    #: Audit all versions, not only the current versions.
    versions: bool = False
    #: Compare the objects' tags with their verdicts, which takes one request per object.
    check_tags: bool = False
    #: Compare the tags in the same way, and correct tags that contradict the verdict.
    fix_tags: bool = Field(default=False, exclude_if=lambda fix: not fix)
    #: The name of the tag whose value is the owner of an object, such as `team`. The audit reads it from the
    #: tags of each object.
    owner_tag: Annotated[str, AfterValidator(parse_owner_tag)] | None = Field(
        default=None, exclude_if=lambda name: name is None
    )
    #: The URI of an S3 Inventory's manifest. If it is set, the audit reads the inventory and does not list
    #: the bucket.
    inventory: str | None = None
    #: The maximum number of requests that the audit may send, and the maximum cost in dollars according to
    #: the price table. The audit stops before it exceeds one of these limits.
    max_requests: int | None = Field(default=None, ge=1)
    max_dollars: float | None = Field(default=None, gt=0)
    #: The maximum number of requests per second to the bucket, which all audits of the bucket share; 0 for no
    #: limit.
    rate: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    #: The maximum number of batches that are queued or in progress at the same time, and the maximum number
    #: of objects in a batch.
    outstanding: int = Field(default=8, ge=1, le=1000)
    batch_size: int = Field(default=100, ge=1, le=1000)
    #: The name of the schedule that started the audit.
    schedule: str | None = None
    #: The version of the format of this specification. A later version is refused.
    version: int = Field(default=1, ge=1, le=AUDIT_VERSION)

    @model_validator(mode="before")
    @classmethod
    def _state_version(cls, values: object) -> object:
        if isinstance(values, dict) and "version" not in values and any(map(values.get, AUDIT_2)):
            return {**values, "version": 2}
        return values

    @property
    def compares_tags(self) -> bool:
        """Whether the audit compares tags with verdicts."""
        return self.check_tags or self.fix_tags


class AuditState(StrEnum):
    """The state of an audit."""

    RUNNING = "running"
    PAUSED = "paused"
    #: The audit has listed all objects, or as many as `limit` allows, and has written all verdicts.
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

    `requests` counts all requests to S3, including requests for tags and those that list objects. `lists`
    counts the latter: LIST requests, or GETs of an inventory. `bytes_read` counts only bytes of objects.
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
    #: Objects for which the audit created scan jobs. Objects that were scanned since then are still counted
    #: here.
    queued: int = 0
    #: Objects whose scan jobs are done.
    scanned: int = 0
    #: The number of scanned, unchanged and archived objects, by the status of their verdict.
    statuses: dict[Status, int] = {}
    #: Among the objects with the status `unrecognized`, those that are certainly not images, such as PDFs.
    not_images: int = 0
    #: The total size of the selected objects, in bytes.
    listed_bytes: int = 0
    bytes_read: int = 0
    requests: int = 0
    lists: int = 0
    dollars: float = 0.0
    #: The numbers of findings about the bucket: `gone` counts verdicts on deleted objects, and
    #: `tag_mismatches` counts objects whose tags contradict their verdict. `tag_fixes` counts those of them
    #: whose tags workers correct, during the audit or after it. `tags_agree` counts objects whose tags were
    #: compared and agree with their verdict. Workers of earlier versions do not count them.
    gone: int = 0
    tag_mismatches: int = 0
    tag_fixes: int = 0
    tags_agree: int = 0
    #: The number of objects whose owner is unknown, because their tags could not be read.
    owners_unknown: int = 0


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
    #: Whether all pages are listed. If so, `totals.queued` is final.
    listed_all: bool = False
    outstanding: int = 0
    totals: Totals = Totals()
    ruleset: str = ""
    scanner: str = ""


class How(StrEnum):
    """The way in which an audit got a verdict."""

    SCANNED = "scanned"
    UNCHANGED = "unchanged"
    ARCHIVED = "archived"


class AuditedObject(BaseModel):
    """One object of an audit, with its current report.

    `status` is the status at the time of the audit, but `report` may come from a later scan. `report` is
    `None` if Redis no longer has the record.

    `owner` is the value of the audit's owner tag at the time of the audit. It is `None` if the audit has no
    owner tag, if the object lacks this tag, or if its tags could not be read. In the last case,
    `owner_unknown` states why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    how: How
    status: Status
    report: Report | None
    owner: str | None = None
    owner_unknown: str | None = None


class BucketFinding(BaseModel):
    """A finding about the bucket: a verdict on a deleted object, or a tag that contradicts a verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str  # `gone` or `tag_mismatch`
    bucket: str
    key: str
    version_id: str | None = None
    message: str

    @property
    def target(self) -> str:
        """The URI of the object."""
        return f"s3://{self.bucket}/{self.key}"

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
