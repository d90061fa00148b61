"""Shows a running audit: as a live display on a terminal, otherwise as a line every ten seconds."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from keyhole.cli.output import Output
from keyhole.cli.render import STYLES
from keyhole.cli.terminal import SafeConsole
from keyhole.inspectors.text import shown
from keyhole.intake.audits.audit import Audit, AuditState, Totals
from keyhole.reasons import STATUSES, Status
from keyhole.reports.figures import counted, dollars, duration, size

#: The number of seconds between two lines about the audit, if standard error is not a terminal.
LINE_SECONDS = 10.0
STATE_STYLES = {
    AuditState.RUNNING: "cyan",
    AuditState.PAUSED: "yellow",
    AuditState.DONE: "green",
    AuditState.CANCELLED: "yellow",
    AuditState.STOPPED: "yellow",
    AuditState.FAILED: "bold red",
}


class Speed:
    """Measures how many objects an audit completes per second."""

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None
        self.objects_per_second = 0.0

    def see(self, audit: Audit) -> None:
        """Update the speed from the audit's current state."""
        done = done_of(audit.totals)
        now = time.monotonic()
        if self._began is None or done < self._began[1]:
            self._began = (now, done)
        began, at_first = self._began
        if now > began:
            self.objects_per_second = (done - at_first) / (now - began)

    def seconds_left(self, audit: Audit) -> float | None:
        """Return the estimated seconds until all objects are done.

        Return `None` if the audit is still listing objects, or if it makes no progress.
        """
        if not audit.listed_all or not self.objects_per_second:
            return None
        return (audit.totals.queued - audit.totals.scanned) / self.objects_per_second


def done_of(totals: Totals) -> int:
    """Return how many listed objects are done: the scanned objects, and the objects that need no scan."""
    return totals.left_out + totals.unchanged + totals.archived + totals.scanned


def images_of(totals: Totals) -> dict[Status, int]:
    """Return the number of images with each status, the most urgent first.

    Objects that are certainly not images are left out. Objects of an unknown format are included.
    """
    counts = Counter(totals.statuses) - Counter({Status.UNRECOGNIZED: totals.not_images})
    return {status: counts[status] for status in STATUSES if counts[status]}


def counts_of(totals: Totals) -> list[str]:
    """Return the number of images with each status, and the number of other objects, in words."""
    counts = [f"{count:,} {status.value}" for status, count in images_of(totals).items()]
    other = [counted(totals.not_images, "not an image", "not images")] if totals.not_images else []
    return counts + other


def target(audit: Audit) -> str:
    """Return the bucket and the prefix of an audit."""
    return shown(f"s3://{audit.spec.bucket}/{audit.spec.prefix}")


def lasted(audit: Audit) -> timedelta:
    """Return how long an audit took, or how long it has been running if it has not ended."""
    return (audit.ended_at or datetime.now(UTC)) - audit.started_at


def one_line(audit: Audit, speed: Speed | None = None) -> str:
    """Return one line about an audit."""
    totals = audit.totals
    parts = [
        f"{audit.state.value}",
        f"{totals.listed:,} listed",
        f"{totals.scanned:,} of {totals.queued:,} scanned",
        f"{totals.unchanged:,} unchanged",
        *counts_of(totals),
        counted(totals.requests, "request"),
        f"{size(totals.bytes_read)} read",
        dollars(totals.dollars),
    ]
    if speed is not None and not audit.state.ended:
        parts.append(f"{speed.objects_per_second:,.0f} objects/s")
        left = speed.seconds_left(audit)
        if left is not None:
            parts.append(f"about {duration(timedelta(seconds=left))} left")
    if audit.reason:
        parts.append(shown(audit.reason))
    return f"{audit.id}: " + ", ".join(parts)


def page(audit: Audit, speed: Speed | None = None) -> RenderableType:
    """Return a table with all facts about an audit. The table fits on a terminal with 80 columns."""
    totals = audit.totals
    head = Text.assemble(
        (f"audit {audit.id}  ", "bold"), target(audit), "  ", (audit.state.value, STATE_STYLES[audit.state])
    )
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    if audit.reason:
        table.add_row("because" if audit.state.ended else "trouble", Text(shown(audit.reason)))
    _add_objects(table, audit)
    if audit.listed_all and totals.queued:
        table.add_row("", ProgressBar(totals.queued, totals.scanned, width=40))
    statuses = Text("  ").join(
        Text(f"{count:,} {status.value}", style=STYLES[status]) for status, count in images_of(totals).items()
    )
    if totals.not_images:
        statuses.append(("  " if statuses else "") + counted(totals.not_images, "not an image", "not images"))
    table.add_row("verdicts", statuses or ("none" if audit.state.ended else "none yet"))
    _add_findings(table, totals)
    if totals.owners_unknown:
        found = f"{counted(totals.owners_unknown, 'object')} with unknown owner: the tags could not be read"
        table.add_row("owners", Text(found, style="yellow"))
    table.add_row("read", f"{size(totals.bytes_read)} of {size(totals.listed_bytes)}")
    lists = f" ({totals.lists:,} for the list)" if totals.lists else ""
    table.add_row("cost", f"{counted(totals.requests, 'request')}{lists}, {dollars(totals.dollars)}")
    took = duration(lasted(audit))
    if audit.state.ended or speed is None:
        table.add_row("took" if audit.state.ended else "for", took)
    else:
        left = speed.seconds_left(audit)
        about = "" if left is None else f", about {duration(timedelta(seconds=left))} left"
        table.add_row("speed", f"{speed.objects_per_second:,.0f} objects/s, {took} so far{about}")
    return Group(head, table)


def _add_objects(table: Table, audit: Audit) -> None:
    """Add the numbers of objects, without those that are zero."""
    totals = audit.totals
    listed = f"{totals.listed:,}" + ("" if audit.listed_all else " so far")
    left_out = f" ({totals.left_out:,} not selected)" if totals.left_out else ""
    table.add_row("listed", f"{listed}{left_out}, {size(totals.listed_bytes)}")
    if totals.unchanged:
        table.add_row("unchanged", f"{totals.unchanged:,}")
    if totals.archived:
        table.add_row("archived", f"{totals.archived:,}")
    if totals.queued:
        table.add_row("scanned", f"{totals.scanned:,} of {totals.queued:,}")


def _add_findings(table: Table, totals: Totals) -> None:
    """Add the findings about the bucket, if there are any."""
    found = []
    if totals.gone:
        found.append(counted(totals.gone, "verdict without an object", "verdicts without an object"))
    if totals.tag_mismatches:
        found.append(counted(totals.tag_mismatches, "tag that disagrees", "tags that disagree"))
    if found:
        table.add_row("bucket", Text(", ".join(found), style="yellow"))
    if totals.tag_fixes:
        table.add_row("", f"{totals.tag_fixes:,} of these tags will be corrected")


@contextmanager
def following(output: Output) -> Iterator[Callable[[Audit], None]]:
    """Yield a function that shows an audit.

    The caller must call this function several times per second while the audit runs, and once more after the
    audit has ended.
    """
    speed = Speed()
    console = SafeConsole(stderr=True)
    if not output.is_table or not console.is_terminal or output.quiet:
        due = time.monotonic() + LINE_SECONDS

        def tell(audit: Audit) -> None:
            nonlocal due
            speed.see(audit)
            if audit.state.ended or time.monotonic() < due:
                return
            due = time.monotonic() + LINE_SECONDS
            if output.form == "jsonl":
                click.echo(audit.model_dump_json(ensure_ascii=True))
            elif output.is_table:
                output.tell(one_line(audit, speed))

        yield tell
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:

        def draw(audit: Audit) -> None:
            speed.see(audit)
            live.update(page(audit, speed))

        yield draw
