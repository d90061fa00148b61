"""Prints one report in full for people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.text import escaped, shown
from keyhole.reasons import Status
from keyhole.reports.figures import counted, size
from keyhole.scan.report import Report
from keyhole.scan.waivers import waiver_of

if TYPE_CHECKING:
    from rich.console import Console

    from keyhole.jobs.tag_debts import Owed
    from keyhole.results.history import Past

#: The lines of a page: labels and texts. A line without a label belongs to the one above.
_Facts = list[tuple[str, Text]]

#: The name of the fact that states why an object could not be read.
ERROR = "error"

STYLES = {
    Status.SAFE: "green",
    Status.UNSAFE: "bold red",
    Status.DAMAGED: "red",
    Status.REJECTED: "yellow",
    Status.UNRECOGNIZED: "yellow",
    Status.INCONCLUSIVE: "magenta",
    Status.UNREADABLE: "magenta",
    Status.FAILED: "magenta",
}


def print_page(
    console: "Console", report: Report, owed: "Owed | None" = None, past: "Sequence[Past]" = ()
) -> None:
    """Print one report in full. In a pipe or a file, each fact is one line, however long it is.

    `owed` describes the object's tags if they are not written yet. `past` are earlier verdicts on the object.
    """
    facts = _facts(report, owed, past)
    if console.is_terminal:
        page = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        page.add_column(no_wrap=True, style="bold")
        page.add_column(overflow="fold")
        for label, text in facts:
            page.add_row(label, text)
        console.print(page)
        return
    width = max(cell_len(label) for label, _ in facts)
    for label, text in facts:
        line = Text(label + " " * (width - cell_len(label) + 2)) + text
        line.rstrip()
        console.print(line, soft_wrap=True)


def _facts(report: Report, owed: "Owed | None", past: "Sequence[Past]") -> _Facts:
    """Return the lines of the page of a report."""
    facts = _verdict(report)
    _add_image(facts, report)
    for name, value in report.details.items():
        if name != ERROR:
            facts.append((shown(name.replace("_", " ")), Text(escaped(_told(value)))))
    for member in report.members:
        what = Text(
            f"{shown(member.target)}: {shown(member.image_format or 'none')}, {size(member.virtual_size)}, "
        )
        what.append(member.status.value, style=STYLES[member.status])
        facts.append(("member", what.append(f" {' '.join(member.reasons)}".rstrip())))
    for label, identity in (("etag", report.etag), ("version", report.version_id)):
        if identity:
            facts.append((label, Text(shown(identity))))
    if report.last_modified:
        facts.append(("last modified", Text(report.last_modified.isoformat())))
    facts.append(
        ("scanned", Text(f"{report.scanned_at.isoformat()} by {report.scanner}, rules {report.ruleset}"))
    )
    if report.last_attempt is not None:
        attempt = report.last_attempt
        text = f"{attempt.scanned_at.isoformat()}: {attempt.status.value}, {' '.join(attempt.reasons)}"
        facts.append(("last attempt", Text(text + (f" ({shown(attempt.error)})" if attempt.error else ""))))
    if owed is not None and owed.since is not None:
        since = owed.since.isoformat(timespec="seconds")
        facts.append(("tags", Text(f"not written since {since}: {shown(str(owed.history))}")))
    facts += [("before", _earlier(one, report)) for one in past]
    facts.append(("cost", Text(_cost(report))))
    return facts


def _verdict(report: Report) -> _Facts:
    """Return the first lines: the object, its status, and why it has this status."""
    status = Text(report.status.value, style=STYLES[report.status])
    if report.shown_marks:
        status.append(f" ({', '.join(report.shown_marks)})")
    facts: _Facts = [("object", Text(shown(report.target))), ("status", status)]
    if ERROR in report.details:
        facts.append((ERROR, Text(escaped(_told(report.details[ERROR])))))
    for check, until in report.ended_waivers.items():
        text = f"the waiver of {check} ended on {until}; the next audit scans the object again"
        facts.append(("waiver", Text(text, style="yellow")))
    _add_findings(facts, report)
    return facts


def _add_image(facts: _Facts, report: Report) -> None:
    """Add the format, the sizes and the wholeness. If the object was not read, add only what is known."""
    read = report.status not in {Status.UNREADABLE, Status.FAILED}
    if read or report.image_format:
        image = " ".join((report.image_format or "none", *report.content))
        facts.append(("format", Text(escaped(image))))
    if read or report.virtual_size is not None:
        facts.append(("virtual size", Text(_exactly(report.virtual_size))))
    if read or report.size is not None:
        facts.append(("size", Text(_exactly(report.size))))
    if read or report.wholeness is not Wholeness.UNCHECKED:
        facts.append(("wholeness", Text(report.wholeness.value)))


def _earlier(past: "Past", report: Report) -> Text:
    """Return an earlier verdict, and whether the object had the same ETag as now."""
    text = Text(f"{past.scanned_at.isoformat(timespec='seconds')}: ")
    text.append(past.status.value, style=STYLES[past.status])
    if past.reasons:
        text.append(f" ({shown(', '.join(past.reasons))})")
    if past.etag and report.etag:
        text.append("; same ETag" if past.etag == report.etag.strip('"') else "; other ETag")
    return text


def _add_findings(facts: _Facts, report: Report) -> None:
    """Add the findings with their waivers, and one line for each reason that tells what to do."""
    for finding in report.findings:
        facts.append(("", Text(escaped(f"{finding.check} [{finding.severity}]: {finding.message}"))))
        if waiver := waiver_of(finding, report.waivers):
            facts.append(("", Text(escaped(f"  {waiver.sentence()}"), style="yellow")))
    if not report.reasons:
        return
    from keyhole.remedies import what_to_do

    for number, code in enumerate(report.reasons):
        facts.append(("" if number else "what to do", Text(escaped(f"{code}: {what_to_do(code)}"))))
    facts.append(("", Text(escaped(f"more: keyhole explain {' '.join(report.reasons)}"), style="dim")))


def _told(value: JsonValue) -> str:
    """Return a detail of an image in words. Other programs should read the JSON."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_told, value)) or "none"
    return "unknown" if value is None else str(value)


def _cost(report: Report) -> str:
    cost = f"{counted(report.requests, 'request')}, {size(report.bytes_read)}, {report.elapsed_ms:.0f} ms"
    return cost + (f", {report.cpu_ms:.0f} ms of CPU" if report.cpu_ms else "")


def _exactly(count: int | None) -> str:
    return "unknown" if count is None else f"{size(count)} ({count:,} bytes)"
