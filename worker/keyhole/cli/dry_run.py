"""`keyhole audit --dry-run`: estimates how many objects an audit would scan, and what it would cost."""

import json
import sys
import tempfile
from pathlib import Path

import click
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from keyhole.cli.terminal import SafeConsole
from keyhole.fleet.auditing import lister_of
from keyhole.fleet.services import services
from keyhole.inspectors.text import shown
from keyhole.intake.audits.audit import AuditSpec, Totals
from keyhole.intake.audits.costs import BYTES_PER_OBJECT, GETS_PER_OBJECT
from keyhole.intake.audits.dry_run import dry_run
from keyhole.intake.audits.estimate import Estimate, Estimator, Spending
from keyhole.reports.figures import dollars, size


def print_estimate(spec: AuditSpec, *, as_json: bool) -> None:
    """List the objects of an audit, and print an estimate of the audit's requests and costs."""
    ours = services()
    settings = ours.settings
    estimator = Estimator(
        ours.prices,
        "tags" in settings.sinks,
        GETS_PER_OBJECT,
        BYTES_PER_OBJECT,
        settings.budget_requests,
        settings.budget_bytes,
        owner=spec.owner_tag is not None,
    )
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        console=SafeConsole(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with tempfile.TemporaryDirectory(prefix="keyhole-inventory-") as folder, progress:
        task = progress.add_task("listing")
        totals, estimate = dry_run(
            spec,
            lister_of(ours, spec, Path(folder)),
            ours.lookup,
            estimator,
            ruleset=ours.ruleset,
            on_page=lambda so_far: progress.update(task, description=f"{so_far.listed:,} listed"),
        )
    if as_json:
        values = {"totals": totals.model_dump(mode="json"), "estimate": estimate.model_dump(mode="json")}
        click.echo(json.dumps(values))
    else:
        _print(spec, totals, estimate)


def _print(spec: AuditSpec, totals: Totals, estimate: Estimate) -> None:
    console = SafeConsole()
    console.print(Text(f"s3://{spec.bucket}/{spec.prefix}: dry run; no object was read."))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    left_out = f" ({totals.left_out:,} not selected)" if totals.left_out else ""
    table.add_row("listed", f"{totals.listed:,}{left_out}, {size(totals.listed_bytes)}")
    if totals.unchanged:
        table.add_row("unchanged", f"{totals.unchanged:,}: their verdicts are still valid")
    if totals.archived:
        table.add_row("archived", f"{totals.archived:,}: they must be restored before they can be read")
    table.add_row("to be scanned", f"{totals.queued:,}")
    for name, of_class in estimate.classes.items():
        note = "" if of_class.priced else ", which has no price: estimated at the highest price"
        table.add_row("", Text(f"{shown(name)}: {of_class.objects:,}, {size(of_class.bytes)}{note}"))
    console.print(table)
    costs = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, justify in (("", "left"), ("expected", "right"), ("at most", "right")):
        costs.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    for name, expected, most in _rows(estimate.expected, estimate.most):
        costs.add_row(name, expected, most)
    console.print(costs)
    note = f"Prices: {estimate.region}, {estimate.prices_date}; transfer out of the region is not included."
    click.echo(note)


def _rows(expected: Spending, most: Spending) -> list[tuple[str, str, str]]:
    counted = [
        ("LIST requests", expected.lists, most.lists),
        ("GET requests", expected.gets, most.gets),
        ("HEAD requests", expected.heads, most.heads),
        ("tag reads", expected.tag_reads, most.tag_reads),
        ("tag writes", expected.tag_writes, most.tag_writes),
    ]
    rows = [(name, f"{usual:,}", f"{limit:,}") for name, usual, limit in counted if limit]
    rows.append(("read", size(expected.bytes_read), size(most.bytes_read)))
    rows.append(("dollars", dollars(expected.dollars), dollars(most.dollars)))
    return rows
