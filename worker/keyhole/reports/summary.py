"""Summarizes the objects of an audit for the HTML page, in one pass and with bounded memory.

The summary contains the most urgent rows, all rows in a packed form, and counts for each format, reason,
folder and owner. Keyhole itself defines all formats and reasons, so the number of counts is limited. `groups`
limits the number of folders and owners. There are no counts for subformats, because an image can state any
text as its subformat, so the number of different subformats is not limited.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from keyhole.intake.audits.audit import AuditedObject
from keyhole.reasons import URGENCY, Status
from keyhole.reports.groups import Prefixes, Tally
from keyhole.reports.owners import Owners
from keyhole.reports.packed_rows import NumberedRow, PackedRows
from keyhole.reports.rows import row_of
from keyhole.scan.report import Report

#: The maximum number of objects that the page shows as examples of a reason or a change.
EXAMPLES: Final = 3


class Example(NamedTuple):
    """An example: the number of the object, its key, and the message of the finding or error."""

    number: int
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

    #: The rows that the page shows without its script.
    urgent: list[NumberedRow] = field(default_factory=list)
    #: The rows that the script shows, and how many of them have which status.
    blocks: list[str] = field(default_factory=list)
    packed: Counter[Status] = field(default_factory=Counter)
    statuses: Counter[Status] = field(default_factory=Counter)
    formats: defaultdict[str | None, Tally] = field(default_factory=lambda: defaultdict(Tally))
    reasons: defaultdict[tuple[Status, str], ReasonTally] = field(
        default_factory=lambda: defaultdict(ReasonTally)
    )
    #: All reasons that an object has.
    codes: set[str] = field(default_factory=set)
    prefixes: Prefixes = field(default_factory=lambda: Prefixes(""))
    owners: Owners = field(default_factory=Owners)
    #: Examples of each change: of objects with the same former and present status.
    changes: defaultdict[tuple[str, Status], list[Example]] = field(default_factory=lambda: defaultdict(list))
    #: For each status, the number of objects whose verdict has expired. The key of an object is stored only
    #: in its verdict. So the keys of these objects are unknown, and no row describes these objects.
    expired: Counter[Status] = field(default_factory=Counter)

    @property
    def hidden(self) -> Counter[Status]:
        """Return, for each status, the number of objects with a known key that have no row on the page."""
        return self.statuses - self.expired - self.packed


def no_change(_report: Report) -> str:
    """Return an empty text: nothing is known of an earlier audit."""
    return ""


def summarize(
    objects: Iterable[AuditedObject],
    *,
    urgent: int,
    limit: int,
    prefix: str = "",
    change: Callable[[Report], str] = no_change,
) -> Summary:
    """Count all objects, pack the `limit` most urgent rows, and select the `urgent` most urgent ones.

    `change` returns what changed about an object since the last audit.
    """
    summary = Summary(prefixes=Prefixes(prefix))
    packed = PackedRows(limit)
    summary.urgent = heapq.nsmallest(urgent, _counted(objects, summary, packed, change), key=_urgency)
    summary.blocks, summary.packed = packed.packed()
    return summary


def _counted(
    objects: Iterable[AuditedObject],
    summary: Summary,
    packed: PackedRows,
    change: Callable[[Report], str],
) -> Iterator[NumberedRow]:
    """Add each object to the summary's counts, and yield its row if its verdict has not expired."""
    for number, audited in enumerate(objects, 1):
        summary.statuses[audited.status] += 1
        report = audited.report
        if report is None:
            summary.expired[audited.status] += 1
            continue
        row = row_of(audited)
        numbered = NumberedRow(number, row, change(report))
        summary.formats[report.format].add(row)
        summary.prefixes.add(row)
        summary.owners.add(row)
        summary.codes.update(row.reasons)
        packed.add(numbered)
        if numbered.change:
            _exemplify(summary.changes[numbered.change, row.status], numbered, report)
        if row.reasons and row.status is not Status.SAFE:
            of_reason = summary.reasons[row.status, row.reasons[0]]
            of_reason.objects += 1
            _exemplify(of_reason.examples, numbered, report)
        yield numbered


def _exemplify(examples: list[Example], numbered: NumberedRow, report: Report) -> None:
    if len(examples) < EXAMPLES:
        examples.append(Example(numbered.number, numbered.row.key or "", _sentence(report)))


def _sentence(report: Report) -> str:
    """Return the message of the first finding with the report's most serious reason, or its error message."""
    found = [finding.message for finding in report.findings if finding.check in report.reasons[:1]]
    return found[0] if found else str(report.details.get("error", ""))


def _urgency(numbered: NumberedRow) -> tuple[int, str, str]:
    row = numbered.row
    return URGENCY[row.status], row.key or "", row.version_id or ""
