"""Checks whether a stored verdict is still valid for a listed object, so that no scan is necessary."""

from datetime import date, datetime
from typing import Final

from keyhole.intake.listing import Listed
from keyhole.reasons import Reason, Status
from keyhole.results.fingerprint import fingerprint
from keyhole.results.lookup import Stored
from keyhole.scan.policy import is_current
from keyhole.scan.report import Report

_ARCHIVED: Final = (Reason.ARCHIVED,)


def is_unchanged(stored: Stored | None, listed: Listed, ruleset: str) -> bool:
    """Return the same as `still_stands`, but read the report only if the record's fingerprint differs.

    A fingerprint does not contain the version's id. So if the listing has version ids, read the report.
    """
    if stored is None:
        return False
    record = stored.record
    if (
        record.fingerprint
        and listed.version_id is None
        and listed.etag is not None
        and listed.last_modified is not None
        and record.fingerprint
        == fingerprint(
            record.status,
            record.body,
            ruleset=ruleset,
            etag=listed.etag,
            size=listed.size,
            last_modified=listed.last_modified,
        )
    ):
        return True
    return still_stands(stored.report, listed, ruleset)


def still_stands(report: Report | None, listed: Listed, ruleset: str, today: date | None = None) -> bool:
    """Return whether a stored verdict is about the listed object and was made with the current rules.

    The object is unchanged if its ETag, its size and its modification time are the same. It would not be
    enough to compare the ETag, for two reasons. An ETag is usually an MD5 digest, and an attacker can create
    two different objects with the same MD5 digest. If somebody copies an object onto itself, its metadata can
    change although the ETag stays the same, and a policy may depend on the metadata. A version of an object
    never changes, so only its id and its size are compared.

    A verdict that depends on a waiver is not valid after the waiver's last day. `today` is the current day in
    UTC, if it is not the clock's.

    A verdict with the status `failed` is never valid. If the verdict states that the object is archived, and
    the object was restored since then, the verdict is not valid, although the ETag, the size and the
    modification time are the same.
    """
    if report is None or report.status is Status.FAILED:
        return False
    if not is_current(report.ruleset, ruleset, today):
        return False
    if report.reasons == _ARCHIVED and not listed.archived:
        return False
    if listed.version_id is not None and listed.version_id != "null":
        return report.version_id == listed.version_id and report.size == listed.size
    return (
        report.etag is not None
        and listed.etag is not None
        and report.etag.strip('"') == listed.etag.strip('"')
        and report.size == listed.size
        and (
            report.last_modified == listed.last_modified
            or _second(report.last_modified) == _second(listed.last_modified)
        )
    )


def _second(moment: datetime | None) -> datetime | None:
    """Round a modification time down to whole seconds.

    HTTP headers state times in whole seconds, but some listings contain milliseconds.
    """
    return None if moment is None else moment.replace(microsecond=0)
