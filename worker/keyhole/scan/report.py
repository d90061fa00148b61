"""The report: a JSON object that states an S3 object's format, properties and verdict.

`keyhole inspect --json`, the records in Redis, the stream of verdicts and the Python API all use it.
"""

from datetime import date, datetime
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from keyhole import versions
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.findings import Finding
from keyhole.reasons import Status
from keyhole.release import __version__
from keyhole.scan.waivers import Applied

#: The program and version in each report.
SCANNER: Final = f"keyhole/{__version__}"


class LastAttempt(BaseModel):
    """A scan that failed after an earlier scan reached the verdict. It does not change the verdict."""

    # Build the validator only when it is used. Most processes do not use it, because the validator of
    # `Report` contains a copy of it.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    status: Status
    reasons: tuple[str, ...]
    error: str | None
    scanned_at: datetime

    @classmethod
    def of(cls, report: "Report") -> Self:
        """Return the failed attempt that a report describes."""
        error = report.details.get("error")
        return cls(
            status=report.status,
            reasons=report.reasons,
            error=None if error is None else str(error),
            scanned_at=report.scanned_at,
        )


class Report(BaseModel):
    """The report on one object, or on one member of a container. Sizes are in bytes, times in UTC.

    Use an object only if its `status` is `safe`, and only the version with this `etag`. `reasons` are codes,
    which do not change between versions of Keyhole, and `findings` say the same in sentences. A field is
    `None` if it is unknown.

    `virtual_size` is the size of the disk that the image states, `size` the length of the object.
    `actual_size` is the length of the inspected data. For an object it equals `size`. For a member of a
    container it is the length of the member. `elapsed_ms` and `cpu_ms` are in milliseconds.

    >>> from keyhole import scan_object
    >>> report = scan_object(b"%PDF-1.7 a document", name="disk.qcow2")
    >>> report.status.value, report.reasons, report.size, report.virtual_size
    ('unrecognized', ('not_an_image',), 19, None)
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
    #: The waivers on which the verdict depends, also those for members. `findings` has the findings.
    waivers: tuple[Applied, ...] = Field(default=(), exclude_if=lambda waivers: not waivers)

    requests: int = 0
    bytes_read: int = 0
    #: The ranges of the object that the scan read, as pairs of offset and length, in ascending order. Empty
    #: in the report on a member, on a stream, and in records of older versions.
    ranges: tuple[tuple[int, int], ...] = ()
    elapsed_ms: float = 0.0
    #: CPU time of the thread that scanned the object; zero in records of older versions.
    cpu_ms: float = 0.0
    scanned_at: datetime
    scanner: str
    ruleset: str

    #: The latest scan of the object, if it failed after this verdict was reached.
    last_attempt: LastAttempt | None = None

    #: The version of this format. Reports of a later version are refused.
    version: int = Field(default=versions.REPORT, ge=1, le=versions.REPORT)

    @property
    def image_format(self) -> str:
        """Return the format with its variant, such as `vhd (dynamic)`; empty if no format was recognised.

        An image can state any text as its variant.
        """
        return f"{self.format} ({self.subformat})" if self.format and self.subformat else self.format or ""

    @property
    def marks(self) -> tuple[str, ...]:
        """Return the reasons, and `waived:CHECK` for each waived check, for tags. See also `shown_marks`."""
        return (*self.reasons, *dict.fromkeys(f"waived:{waiver.check}" for waiver in self.waivers))

    @property
    def shown_marks(self) -> tuple[str, ...]:
        """Return the marks for tables: for a waiver that has ended, `waiver_ended:CHECK`."""
        ended = self.ended_waivers
        waived = dict.fromkeys(
            f"{'waiver_ended' if waiver.check in ended else 'waived'}:{waiver.check}"
            for waiver in self.waivers
        )
        return (*self.reasons, *waived)

    @property
    def ended_waivers(self) -> dict[str, date]:
        """Return the checks on whose waivers the verdict depends although they have ended, with their end.

        The next audit scans such an object again.
        """
        return {waiver.check: waiver.until for waiver in self.waivers if waiver.has_ended()}
