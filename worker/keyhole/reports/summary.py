"""A summary of an audit's objects for the page, made in one pass over any number of objects.

Memory holds the rows that are shown, and a few counts for each format and each reason. Formats and reasons
are Keyhole's own names, so their number is bounded. Subformats come from images, so they are not counted.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from keyhole.intake.audits.audit import AuditedObject
from keyhole.reasons import URGENCY, Status
from keyhole.reports.rows import Row, row_of
from keyhole.scan.report import Report

#: How many objects are named as examples of a reason.
EXAMPLES: Final = 3


@dataclass(slots=True)
class FormatTally:
    """The counts of one format. `stored` and `virtual` in bytes."""

    objects: int = 0
    safe: int = 0
    stored: int = 0
    virtual: int = 0


class Example(NamedTuple):
    """An object whose most serious reason this is, and a sentence about what was found in it."""

    key: str
    sentence: str


@dataclass(slots=True)
class ReasonTally:
    """The counts of one reason with one status. An object counts for its most serious reason only."""

    objects: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class Summary:
    """The rows to show, the most urgent first, and counts of all objects."""

    rows: list[Row] = field(default_factory=list)
    statuses: Counter[Status] = field(default_factory=Counter)
    formats: defaultdict[str | None, FormatTally] = field(default_factory=lambda: defaultdict(FormatTally))
    reasons: defaultdict[tuple[Status, str], ReasonTally] = field(
        default_factory=lambda: defaultdict(ReasonTally)
    )
    #: Objects whose verdict is no longer kept, so that not even their names are known.
    expired: Counter[Status] = field(default_factory=Counter)

    @property
    def hidden(self) -> Counter[Status]:
        """Return the statuses of the named objects that are left out of the rows."""
        return self.statuses - self.expired - Counter(row.status for row in self.rows)


def summarize(objects: Iterable[AuditedObject], limit: int) -> Summary:
    """Count all objects, and keep up to `limit` of them to show."""
    summary = Summary()
    summary.rows = heapq.nsmallest(limit, _counted(objects, summary), key=_urgency)
    return summary


def _counted(objects: Iterable[AuditedObject], summary: Summary) -> Iterator[Row]:
    """Count each object, and yield the rows of those whose name is known."""
    for audited in objects:
        summary.statuses[audited.status] += 1
        report = audited.report
        if report is None:
            summary.expired[audited.status] += 1
            continue
        of_format = summary.formats[report.format]
        of_format.objects += 1
        of_format.safe += audited.status is Status.SAFE
        of_format.stored += report.size or 0
        of_format.virtual += report.virtual_size or 0
        row = row_of(audited)
        if row.reasons and row.status is not Status.SAFE:
            of_reason = summary.reasons[row.status, row.reasons[0]]
            of_reason.objects += 1
            if len(of_reason.examples) < EXAMPLES:
                of_reason.examples.append(Example(row.key or "", _sentence(report)))
        yield row


def _sentence(report: Report) -> str:
    """Return the sentences about a report's most serious reason."""
    found = [finding.message for finding in report.findings if finding.check == report.reasons[0]]
    return found[0] if found else str(report.details.get("error", ""))


def _urgency(row: Row) -> tuple[int, str, str]:
    return URGENCY[row.status], row.key or "", row.version_id or ""
