"""Joins the objects of an audit with their reports. An audit stores only the ids of its objects."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from keyhole.intake.audits.audit import AuditedObject
from keyhole.intake.audits.store import AuditStore
from keyhole.results.lookup import Lookup

#: Records per request. A report has a few kilobytes, so Redis's answer has at most a few megabytes.
_PAGE: Final = 500


def audited_objects(audits: AuditStore, lookup: Lookup, audit_id: str) -> Iterator[AuditedObject]:
    """Yield all objects of an audit, in the order in which they were stored, with their current reports."""
    rows = audits.rows(audit_id)
    while page := list(islice(rows, _PAGE)):
        reports = lookup.reports_by_id([row.object_id for row in page])
        for row, report in zip(page, reports, strict=True):
            yield AuditedObject(how=row.how, status=row.status, report=report)
