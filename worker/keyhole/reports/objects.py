"""Joins the objects of an audit with their reports.

An audit stores only an id and a status for each object. The report comes from the object's recorded verdict,
which may be newer than the audit, or may have expired.
"""

import heapq
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from typing import Final

from keyhole.intake.audits.audit import AuditedObject
from keyhole.intake.audits.reader import AuditReader
from keyhole.reasons import URGENCY
from keyhole.reports.owned import OwnedReport
from keyhole.results.lookup import Lookup
from keyhole.results.owner import Owner

#: The owner of an object whose audit has no owner tag.
NOT_ASKED: Final = Owner()
#: The number of reports that one request to Redis fetches. A report has a few kilobytes, so the answer has a
#: few megabytes.
_PAGE: Final = 500


def audited_objects(audits: AuditReader, lookup: Lookup, audit_id: str) -> Iterator[AuditedObject]:
    """Yield all objects of an audit, in the order in which they were stored, with their current reports."""
    # If the audit is still running, it can add rows and their owners meanwhile. `zip` reads a row before its
    # owner, so no row lacks its owner.
    owned = zip(audits.rows(audit_id), chain(audits.owners(audit_id), repeat(NOT_ASKED)), strict=False)
    while page := list(islice(owned, _PAGE)):
        reports = lookup.reports_by_id([row.object_id for row, _ in page])
        for (row, (owner, unknown)), report in zip(page, reports, strict=True):
            yield AuditedObject(
                how=row.how, status=row.status, report=report, owner=owner, owner_unknown=unknown
            )


def known_reports(objects: Iterable[AuditedObject]) -> Iterator[OwnedReport]:
    """Yield the reports of the objects whose verdict has not expired."""
    for audited in objects:
        if audited.report is not None:
            yield OwnedReport(audited.report, Owner(audited.owner, audited.owner_unknown))


def most_urgent(objects: Iterable[AuditedObject], limit: int) -> tuple[list[OwnedReport], int]:
    """Return the reports of the `limit` most urgent objects, and the number of objects that are left out.

    The reports have the status that the object had in the audit. Objects whose verdict has expired are left
    out, because their names are unknown.
    """
    count = 0

    def known() -> Iterator[OwnedReport]:
        nonlocal count
        for audited in objects:
            count += 1
            if audited.report is not None:
                report = audited.report.model_copy(update={"status": audited.status})
                yield OwnedReport(report, Owner(audited.owner, audited.owner_unknown))

    found = heapq.nsmallest(limit, known(), key=_urgency)
    return found, count - len(found)


def _urgency(owned: OwnedReport) -> tuple[int, str, str]:
    report = owned.report
    return URGENCY[report.status], report.target, report.version_id or ""
