"""Joins the objects of an audit with their reports.

An audit stores only an id and a status for each object. The report comes from the object's recorded verdict,
which may be newer than the audit, or may have expired.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from keyhole.intake.audits.audit import AuditedObject
from keyhole.intake.audits.store import AuditStore
from keyhole.results.lookup import Lookup

#: The number of reports that one request to Redis fetches. A report has a few kilobytes, so the answer has a
#: few megabytes.
_PAGE: Final = 500


def audited_objects(audits: AuditStore, lookup: Lookup, audit_id: str) -> Iterator[AuditedObject]:
    """Yield all objects of an audit, in the order in which they were stored, with their current reports."""
    rows = audits.rows(audit_id)
    while page := list(islice(rows, _PAGE)):
        reports = lookup.reports_by_id([row.object_id for row in page])
        for row, report in zip(page, reports, strict=True):
            yield AuditedObject(how=row.how, status=row.status, report=report)
