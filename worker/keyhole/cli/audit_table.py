"""Prints a list of audits in the form that the user chose."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

import click
from rich.text import Text

from keyhole.cli import audit_view
from keyhole.cli.output import Output
from keyhole.cli.table import Column, Table
from keyhole.cli.terminal import SafeConsole
from keyhole.fleet.services import services
from keyhole.intake.audits.audit import Audit, AuditState
from keyhole.reasons import Status
from keyhole.reports.figures import counted, size
from keyhole.reports.json_document import json_array, json_lines
from keyhole.reports.markdown import code_span, table
from keyhole.reports.spreadsheet import csv_lines

#: On a terminal with at least this many columns, all columns are shown.
WIDE: Final = 110
#: The columns in CSV that are fields of `Audit`, of `AuditSpec` or of `Totals`.
_ABOUT: Final = ("id", "state", "reason", "started_at", "ended_at")
_SPEC: Final = ("bucket", "prefix", "schedule")
_TOTALS: Final = (
    *("listed", "left_out", "unchanged", "archived", "queued", "scanned", "not_images"),
    *("listed_bytes", "bytes_read", "requests", "dollars"),
)


def print_audits(audits: Sequence[Audit], output: Output) -> None:
    """Print audits, the latest first."""
    parts: Iterator[bytes]
    match output.form:
        case "json":
            parts = json_array(audits)
        case "jsonl":
            parts = json_lines(audits)
        case "csv":
            parts = csv_lines((*_ABOUT, *_SPEC, *Status, *_TOTALS), map(_record, audits))
        case "markdown":
            heads = ("audit", "started, UTC", "state", "listed", "done", "not safe", "not images", "of")
            parts = chain(table(heads, map(_cells, audits)), [f"\n{_told(audits)}\n".encode()])
        case _:
            _print_table(audits, output)
            return
    for part in parts:
        click.echo(part, nl=False)


def print_runs(audits: Sequence[Audit]) -> None:
    """Print the findings of audits as SARIF, with a run for each audit."""
    from keyhole.reports.objects import audited_objects, known_reports
    from keyhole.reports.sarif import Run, write_runs

    store, lookup = services().audits, services().lookup
    runs = (
        Run(known_reports(audited_objects(store, lookup, audit.id)), store.findings(audit.id), audit)
        for audit in audits
    )
    for part in write_runs(runs):
        click.echo(part, nl=False)


def _record(audit: Audit) -> list[object]:
    """Return the cells of an audit in CSV. The dollars are a text, because they are no whole number."""
    totals = audit.totals
    figures = [getattr(totals, name) for name in _TOTALS[:-1]]
    return [
        *(getattr(audit, name) for name in _ABOUT),
        *(getattr(audit.spec, name) for name in _SPEC),
        *(totals.statuses.get(status, 0) for status in Status),
        *figures,
        f"{totals.dollars:.6f}",
    ]


def _cells(audit: Audit) -> list[str]:
    totals = audit.totals
    return [
        code_span(audit.id),
        f"{audit.started_at:%Y-%m-%d %H:%M}",
        audit.state.value,
        f"{totals.listed:,}",
        f"{audit_view.done_of(totals):,}",
        f"{_not_safe(audit):,}",
        f"{totals.not_images:,}",
        code_span(f"s3://{audit.spec.bucket}/{audit.spec.prefix}"),
    ]


def _print_table(audits: Sequence[Audit], output: Output) -> None:
    console = SafeConsole()
    whole = output.wide or not console.is_terminal
    narrow = not whole and console.width < WIDE
    columns = [
        Column("audit", max((len(audit.id) for audit in audits), default=0)),
        Column("started, UTC", 12 if narrow else 16),
        Column("state", 9),
        Column("listed", 8, right=True),
        *([] if narrow else [Column("done", 8, right=True)]),
        Column("not safe", 8, right=True),
        *([] if narrow else [Column("not images", 10, right=True), Column("read", 8, right=True)]),
    ]
    rows = Table(console, columns, "of", whole=whole)
    for audit in audits:
        totals = audit.totals
        rows.row(
            [
                audit.id,
                f"{audit.started_at:%m-%d %H:%M}" if narrow else f"{audit.started_at:%Y-%m-%d %H:%M}",
                Text(audit.state.value, style=audit_view.STATE_STYLES[audit.state]),
                f"{totals.listed:,}",
                *([] if narrow else [f"{audit_view.done_of(totals):,}"]),
                f"{_not_safe(audit):,}",
                *([] if narrow else [f"{totals.not_images:,}", size(totals.bytes_read)]),
            ],
            f"s3://{audit.spec.bucket}/{audit.spec.prefix}",
        )
    if audits and not output.quiet:
        click.echo(_told(audits))


def _not_safe(audit: Audit) -> int:
    """Return the number of images that are not safe."""
    return sum(count for status, count in audit_view.images_of(audit.totals).items() if status != Status.SAFE)


def _told(audits: Sequence[Audit]) -> str:
    """Return one line with the number of audits, and the number of audits in each state."""
    states = Counter(audit.state for audit in audits)
    told = ", ".join(f"{states[state]:,} {state.value}" for state in AuditState if states[state])
    return f"{counted(len(audits), 'audit')}: {told}" if told else "0 audits"
