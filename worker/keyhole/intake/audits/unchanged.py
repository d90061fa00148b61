"""Whether a verdict still speaks of what is listed, so that nothing need be read."""

from datetime import datetime

from keyhole.intake.listing import Listed
from keyhole.reasons import Reason, Status
from keyhole.scan.report import Report


def still_stands(report: Report | None, listed: Listed, ruleset: str) -> bool:
    """Whether a stored verdict is on the object that is listed, and by the rules of today.

    The same ETag, size and time of modification; a version, which never changes, by its id alone. The ETag
    alone would not do: one that is an MD5 can be made to collide, and a copy of an object onto itself changes
    its metadata, which policies read, but not its ETag. What failed for our own or the network's fault is no
    verdict to keep; nor is that it was archived, once it is restored, which changes none of these.
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
    """A time of modification as headers tell it: listings may know it to the millisecond."""
    return None if moment is None else moment.replace(microsecond=0)
