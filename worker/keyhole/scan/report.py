"""The report: the JSON object that says what an object is and whether it is safe to import.

It is the same in `keyhole inspect --json`, in Redis, in the stream of verdicts and in the Python API.
"""

from datetime import datetime
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, JsonValue

from keyhole import __version__
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.findings import Finding
from keyhole.reasons import Status

#: The version that makes reports.
SCANNER: Final = f"keyhole/{__version__}"


class LastAttempt(BaseModel):
    """A later scan that failed, and so does not change the verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Status
    reasons: tuple[str, ...]
    error: str | None
    scanned_at: datetime

    @classmethod
    def of(cls, report: "Report") -> Self:
        """Return the attempt of a report."""
        error = report.details.get("error")
        return cls(
            status=report.status,
            reasons=report.reasons,
            error=None if error is None else str(error),
            scanned_at=report.scanned_at,
        )


class Report(BaseModel):
    """The report on one object. Sizes are in bytes, times in UTC.

    `actual_size` is the length of the inspected data: for an object it equals `size`, for a member of a
    container it is the member's length.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    bucket: str | None = None
    key: str | None = None
    version_id: str | None = None
    etag: str | None = None
    size: int | None = None
    last_modified: datetime | None = None

    format: str | None = None
    subformat: str | None = None
    virtual_size: int | None = None
    actual_size: int | None = None
    content: tuple[str, ...] = ()
    details: dict[str, JsonValue] = {}
    members: tuple["Report", ...] = ()

    status: Status
    reasons: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    wholeness: Wholeness = Wholeness.UNCHECKED

    requests: int = 0
    bytes_read: int = 0
    elapsed_ms: float = 0.0
    #: CPU time of the thread that scanned; zero in older records.
    cpu_ms: float = 0.0
    scanned_at: datetime
    scanner: str
    ruleset: str

    #: Set if a later scan of the object failed.
    last_attempt: LastAttempt | None = None
