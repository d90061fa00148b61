"""Prints the most urgent objects of an audit, and its findings about the bucket, as a table."""

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import BinaryIO

from rich.console import Console
from rich.text import Text

from keyhole.cli.output import Output
from keyhole.cli.terminal import SafeConsole
from keyhole.cli.verdict_table import VerdictTable
from keyhole.cli.verdicts import summary
from keyhole.inspectors.text import shown
from keyhole.intake.audits.audit import BucketFinding
from keyhole.reports.owned import OwnedReport, UnknownOwners
from keyhole.reports.tally import Tally


def write_table(
    reports: Sequence[OwnedReport],
    findings: Sequence[BucketFinding],
    output: Output,
    out: BinaryIO,
    *,
    owners: bool,
) -> None:
    """Write a table to `out`. If `owners` is true, it shows the owner of each object."""
    if out is sys.stdout.buffer:
        _print(reports, output, SafeConsole(emoji=False), owners=owners)
        _print_findings(findings, SafeConsole(soft_wrap=True))
        return
    text = TextIOWrapper(out, encoding="utf-8", write_through=True)
    _print(reports, output, SafeConsole(file=text, emoji=False), owners=owners)
    _print_findings(findings, SafeConsole(file=text, emoji=False, soft_wrap=True))
    text.detach()


def _print(reports: Sequence[OwnedReport], output: Output, console: Console, *, owners: bool) -> None:
    table = VerdictTable(console, wide=output.wide, owners=owners)
    tally = Tally()
    unknown = UnknownOwners()
    for report, owner in reports:
        tally.add(report)
        unknown.add(owner)
        table.row(report, owner)
    if not tally.objects or output.quiet:
        return
    for line in (summary(tally, costs=True), *unknown.told()):
        console.print(line, soft_wrap=not console.is_terminal, highlight=False, markup=False)


def _print_findings(findings: Sequence[BucketFinding], console: Console) -> None:
    if findings:
        console.print(Text("\nfindings about the bucket", style="bold"))
    for one in findings:
        version = f" (version {one.version_id})" if one.version_id else ""
        console.print(Text(shown(f"{one.kind}  {one.target}{version}: {one.message}")))
