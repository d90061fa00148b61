"""Builds the table row of an object. CSV, Parquet and the HTML page use the same rows."""

from datetime import datetime
from typing import Final, NamedTuple

from keyhole.inspectors.facts import Wholeness
from keyhole.intake.audits.audit import AuditedObject, How
from keyhole.reasons import Status
from keyhole.scan.report import Report


class Row(NamedTuple):
    """The row of one object, with a field for each column. Sizes are in bytes, times in UTC.

    `status` is the object's status in the audit, and `how` states how the audit got this status. `owner` is
    the value of the audit's owner tag, and `owner_unknown` states why the object's tags could not be read.
    All other columns come from the object's recorded verdict, which may be newer than the audit; `status_now`
    is the status of that verdict. If the verdict has expired, these columns are `None` or empty. `findings`
    contains the sentences of all findings, and the error message if the object could not be read. `waived`
    states for each waived check by whom, until when and why.
    """

    status: Status
    reasons: tuple[str, ...]
    bucket: str | None
    key: str | None
    version_id: str | None
    etag: str | None
    size: int | None
    last_modified: datetime | None
    format: str | None
    subformat: str | None
    virtual_size: int | None
    content: tuple[str, ...]
    wholeness: Wholeness | None
    findings: tuple[str, ...]
    requests: int | None
    bytes_read: int | None
    scanned_at: datetime | None
    ruleset: str | None
    waived: tuple[str, ...]
    how: How
    status_now: Status | None
    owner: str | None = None
    owner_unknown: str | None = None


#: The last fields of a row, which are about an audit.
ABOUT_AUDIT: Final = ("how", "status_now", "owner", "owner_unknown")


def row_of(audited: AuditedObject) -> Row:
    """Return the row of an audited object."""
    report = audited.report
    if report is None:
        return Row(
            status=audited.status,
            reasons=(),
            bucket=None,
            key=None,
            version_id=None,
            etag=None,
            size=None,
            last_modified=None,
            format=None,
            subformat=None,
            virtual_size=None,
            content=(),
            wholeness=None,
            findings=(),
            requests=None,
            bytes_read=None,
            scanned_at=None,
            ruleset=None,
            waived=(),
            how=audited.how,
            status_now=None,
            owner=audited.owner,
            owner_unknown=audited.owner_unknown,
        )
    return verdict_row(report)._replace(
        status=audited.status,
        how=audited.how,
        owner=audited.owner,
        owner_unknown=audited.owner_unknown,
    )


def verdict_row(report: Report) -> Row:
    """Return the row of a report that does not belong to an audit. The fields `ABOUT_AUDIT` mean nothing."""
    return Row(
        status=report.status,
        reasons=report.reasons,
        bucket=report.bucket,
        key=report.key if report.key is not None else report.target,
        version_id=report.version_id,
        etag=report.etag,
        size=report.size,
        last_modified=report.last_modified,
        format=report.format,
        subformat=report.subformat,
        virtual_size=report.virtual_size,
        content=report.content,
        wholeness=report.wholeness,
        findings=_sentences(report),
        requests=report.requests,
        bytes_read=report.bytes_read,
        scanned_at=report.scanned_at,
        ruleset=report.ruleset,
        waived=tuple(f"{waiver.check}: {waiver.sentence()}" for waiver in report.waivers),
        how=How.SCANNED,
        status_now=report.status,
    )


def _sentences(report: Report) -> tuple[str, ...]:
    error = report.details.get("error")
    found = tuple(finding.message for finding in report.findings)
    return (*found, error) if isinstance(error, str) else found
