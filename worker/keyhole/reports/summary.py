"""Summarizes the objects of an audit for the HTML page, in one pass and with bounded memory.

The summary contains the rows that the page shows, and a few counts for each format and each reason. Keyhole
itself defines all formats and reasons, so the number of counts is limited. There are no counts for
subformats, because an image can state any text as its subformat, so the number of different subformats is not
limited.
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

#: The maximum number of objects that the page shows as examples of a reason.
EXAMPLES: Final = 3


@dataclass(slots=True)
class FormatTally:
    """The counts for one format. `stored` and `virtual` are sums of sizes in bytes."""

    objects: int = 0
    safe: int = 0
    stored: int = 0
    virtual: int = 0


class Example(NamedTuple):
    """An example of an object with a reason: the object's key, and the message of the finding or error."""

    key: str
    sentence: str


@dataclass(slots=True)
class ReasonTally:
    """The number of objects that have a certain status and a certain reason, and some examples.

    An object is counted only for its most serious reason.
    """

    objects: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class Summary:
    """The rows that the page shows, most urgent first, and the counts of all objects."""

    rows: list[Row] = field(default_factory=list)
    statuses: Counter[Status] = field(default_factory=Counter)
    formats: defaultdict[str | None, FormatTally] = field(default_factory=lambda: defaultdict(FormatTally))
    reasons: defaultdict[tuple[Status, str], ReasonTally] = field(
        default_factory=lambda: defaultdict(ReasonTally)
    )
    #: For each status, the number of objects whose verdict has expired. The key of an object is stored only
    #: in its verdict. So the keys of these objects are unknown, and `rows` does not contain these objects.
    expired: Counter[Status] = field(default_factory=Counter)

    @property
    def hidden(self) -> Counter[Status]:
        """Return, for each status, the number of objects with a known key that `rows` leaves out."""
        return self.statuses - self.expired - Counter(row.status for row in self.rows)


def summarize(objects: Iterable[AuditedObject], limit: int) -> Summary:
    """Count all objects, and select the `limit` most urgent ones for the page."""
    summary = Summary()
    summary.rows = heapq.nsmallest(limit, _counted(objects, summary), key=_urgency)
    return summary


def _counted(objects: Iterable[AuditedObject], summary: Summary) -> Iterator[Row]:
    """Add each object to the summary's counts, and yield its row if its verdict has not expired."""
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
    """Return the message of the first finding with the report's most serious reason, or its error message."""
    found = [finding.message for finding in report.findings if finding.check == report.reasons[0]]
    return found[0] if found else str(report.details.get("error", ""))


def _urgency(row: Row) -> tuple[int, str, str]:
    return URGENCY[row.status], row.key or "", row.version_id or ""
