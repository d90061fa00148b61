"""Prints verdicts in the form that the user chose, while they arrive."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import click

from keyhole.cli.output import Output
from keyhole.reasons import Status
from keyhole.reports.forms import write_reports
from keyhole.reports.tally import Tally, told
from keyhole.scan.report import Report

if TYPE_CHECKING:
    from rich.console import Console


def print_verdicts(
    reports: Iterable[Report],
    output: Output,
    console: "Console | None" = None,
    *,
    costs: bool = True,
    scanned: bool = False,
    statuses: Collection[Status] | None = None,
) -> Tally:
    """Print reports while they arrive, and return their numbers.

    Args:
        reports: The reports.
        output: The form of the output. Below a table, the function prints a summary.
        console: The console of a table; by default, standard output.
        costs: Whether a table shows what each scan has cost.
        scanned: Whether a table shows when each object was scanned.
        statuses: The statuses of the reports to print; `None` for all. All reports are counted.
    """
    tally = Tally()
    listed = (one for one in tally.counting(reports) if statuses is None or one.status in statuses)
    if not output.is_table:
        for part in write_reports(output.form, listed, quiet=output.quiet):
            click.echo(part, nl=False)
        return tally
    # Imported here, because scripts often want JSON, which does not need these imports.
    from keyhole.cli.terminal import SafeConsole
    from keyhole.cli.verdict_table import VerdictTable

    console = console or SafeConsole(emoji=False)
    table = VerdictTable(console, wide=output.wide, costs=costs, scanned=scanned)
    for report in listed:
        table.row(report)
    if tally.objects and not output.quiet:
        console.print(
            summary(tally, costs=costs), soft_wrap=not console.is_terminal, highlight=False, markup=False
        )
    return tally


def summary(tally: Tally, *, costs: bool) -> str:
    """Return the line below a table: the number of objects with each status, and what the scans have cost."""
    from keyhole.reports.figures import counted, share, size

    line = told(tally)
    if costs and tally.requests:
        read = share(min(tally.bytes_read, tally.stored), tally.stored)
        line += f"; {counted(tally.requests, 'request')}, {size(tally.bytes_read)} read ({read})"
    return line
