"""The report: the one JSON object that says what an object is and whether to let it in.

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
    """A scan that failed after the verdict was made, and so says nothing against it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Status
    reasons: tuple[str, ...]
    error: str | None
    scanned_at: datetime

    @classmethod
    def of(cls, report: "Report") -> Self:
        """The attempt that a report tells of."""
        error = report.details.get("error")
        return cls(
            status=report.status,
            reasons=report.reasons,
            error=None if error is None else str(error),
            scanned_at=report.scanned_at,
        )


class Report(BaseModel):
    """What Keyhole knows of one object. Sizes in bytes, times in UTC.

    `actual_size` is the length of what was inspected; for an object of its own it equals `size`, for a member
    of a container it is the member's.
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
    #: CPU time of the thread that scanned; zero in records that are older than this.
    cpu_ms: float = 0.0
    scanned_at: datetime
    scanner: str
    ruleset: str

    #: Set where a record is read whose object was scanned again since, in vain.
    last_attempt: LastAttempt | None = None
