"""An audit's objects with their reports: the audit knows them by a hash, their records know the rest."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from keyhole.intake.audits.audit import AuditedObject
from keyhole.intake.audits.store import AuditStore
from keyhole.results.lookup import Lookup

#: Records in one answer: at some kilobytes a report, a few megabytes at the most.
_PAGE: Final = 500


def audited_objects(audits: AuditStore, lookup: Lookup, audit_id: str) -> Iterator[AuditedObject]:
    """All objects of an audit, in the order in which it came to them, with the reports that are kept now."""
    rows = audits.rows(audit_id)
    while page := list(islice(rows, _PAGE)):
        reports = lookup.reports_by_id([row.object_id for row in page])
        for row, report in zip(page, reports, strict=True):
            yield AuditedObject(how=row.how, status=row.status, report=report)
