"""Tells whether a verdict is still about the listed object, so that the object need not be read."""

from datetime import datetime

from keyhole.intake.listing import Listed
from keyhole.reasons import Reason, Status
from keyhole.scan.report import Report


def still_stands(report: Report | None, listed: Listed, ruleset: str) -> bool:
    """Whether a stored verdict is about the listed object, and by the current rules.

    It is the same object if its ETag, size and time of modification are the same. A version never changes, so
    only its id is compared. The ETag is not enough: MD5s can be made to collide, and copying an object onto
    itself changes its metadata, which policies read, but not its ETag. A verdict `failed` does not stand. The
    verdict that an object is archived does not stand once it is restored, which changes none of these.
    """
    if report is None or report.ruleset != ruleset or report.status is Status.FAILED:
        return False
    if report.reasons == (Reason.ARCHIVED,) and not listed.archived:
        return False
    if listed.version_id is not None and listed.version_id != "null":
        return report.version_id == listed.version_id and report.size == listed.size
    return (
        report.etag is not None
        and listed.etag is not None
        and report.etag.strip('"') == listed.etag.strip('"')
        and report.size == listed.size
        and _second(report.last_modified) == _second(listed.last_modified)
    )


def _second(moment: datetime | None) -> datetime | None:
    """Return a time of modification in whole seconds, as in headers; listings may have milliseconds."""
    return None if moment is None else moment.replace(microsecond=0)
