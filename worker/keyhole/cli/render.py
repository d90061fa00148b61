"""Shows one report in full on a terminal."""

from typing import TYPE_CHECKING

from pydantic import JsonValue
from rich.table import Table
from rich.text import Text

from keyhole.inspectors.text import escaped, shown
from keyhole.reasons import Status
from keyhole.reports.figures import counted, size
from keyhole.scan.report import Report
from keyhole.scan.waivers import waiver_of

if TYPE_CHECKING:
    from keyhole.jobs.tag_debts import Owed

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


def report_page(report: Report, owed: "Owed | None" = None) -> Table:
    """Return one report in full, one line for each fact.

    `owed` describes the object's tags if they are not written yet.
    """
    page = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    page.add_column(no_wrap=True, style="bold")
    page.add_column(overflow="fold")
    status = Text(report.status.value, style=STYLES[report.status])
    if report.shown_marks:
        status.append(f" ({', '.join(report.shown_marks)})")
    page.add_row("object", Text(shown(report.target)))
    page.add_row("status", status)
    for check, until in report.ended_waivers.items():
        text = f"the waiver of {check} ended on {until}; the next audit scans the object again"
        page.add_row("waiver", Text(text, style="yellow"))
    _add_findings(page, report)
    image = " ".join((report.image_format or "none", *report.content))
    page.add_row("format", Text(escaped(image)))
    page.add_row("virtual size", Text(_exactly(report.virtual_size)))
    page.add_row("size", Text(_exactly(report.size)))
    page.add_row("wholeness", Text(report.wholeness.value))
    for name, value in report.details.items():
        page.add_row(shown(name.replace("_", " ")), Text(escaped(_told(value))))
    for member in report.members:
        what = Text(
            f"{shown(member.target)}: {shown(member.image_format or 'none')}, {size(member.virtual_size)}, "
        )
        what.append(member.status.value, style=STYLES[member.status])
        page.add_row("member", what.append(f" {' '.join(member.reasons)}".rstrip()))
    for label, identity in (("etag", report.etag), ("version", report.version_id)):
        if identity:
            page.add_row(label, Text(shown(identity)))
    if report.last_modified:
        page.add_row("last modified", Text(report.last_modified.isoformat()))
    page.add_row(
        "scanned", Text(f"{report.scanned_at.isoformat()} by {report.scanner}, rules {report.ruleset}")
    )
    if report.last_attempt is not None:
        attempt = report.last_attempt
        text = f"{attempt.scanned_at.isoformat()}: {attempt.status.value}, {' '.join(attempt.reasons)}"
        page.add_row("last attempt", Text(text + (f" ({shown(attempt.error)})" if attempt.error else "")))
    if owed is not None and owed.since is not None:
        since = owed.since.isoformat(timespec="seconds")
        page.add_row("tags", Text(f"not written since {since}: {shown(str(owed.history))}"))
    page.add_row("cost", Text(_cost(report)))
    return page


def _add_findings(page: Table, report: Report) -> None:
    """Add the findings with their waivers, and one line for each reason that tells what to do."""
    for finding in report.findings:
        page.add_row("", Text(escaped(f"{finding.check} [{finding.severity}]: {finding.message}")))
        if waiver := waiver_of(finding, report.waivers):
            page.add_row("", Text(escaped(f"  {waiver.sentence()}"), style="yellow"))
    if not report.reasons:
        return
    from keyhole.remedies import what_to_do

    for number, code in enumerate(report.reasons):
        page.add_row("" if number else "what to do", Text(escaped(f"{code}: {what_to_do(code)}")))
    page.add_row("", Text(escaped(f"more: keyhole explain {' '.join(report.reasons)}"), style="dim"))


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
