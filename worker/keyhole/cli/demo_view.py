"""Prints what `keyhole demo` found, and what to try next."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
from rich.text import Text

from keyhole.cli.render import STYLES
from keyhole.cli.terminal import SafeConsole
from keyhole.inspectors.text import shown
from keyhole.intake.audits.audit import Audit
from keyhole.reasons import Status
from keyhole.reports.figures import share, size
from keyhole.scan.report import Report

#: The objects whose tags are printed: one that is safe, one that is hostile, and one that is cut off.
TAGGED: Final = ("images/debian-12.qcow2", "uploads/backing.qcow2", "uploads/cut-off.vdi")
#: The prefix of the sample objects about which the bucket sends events to Keyhole.
UPLOADS: Final = "uploads/"


def print_end(reports: list[Report], tags: Mapping[str, str], audit: Audit, page: Path | None) -> None:
    """Print the lines below the table of verdicts.

    Args:
        reports: All verdicts.
        tags: The status and the reason in the tags of the objects `TAGGED`, as S3 returns them, in one line.
        audit: The audit of the bucket.
        page: The report of the audit; `None` if it could not be written.
    """
    console = SafeConsole()
    console.print(_summary(reports, audit))
    console.print(Text("Tags, as S3 returns them:", style="bold"))
    width = max(map(len, tags))
    for key, line in tags.items():
        text = Text(f"  {shown(key).ljust(width)}  {line}")
        for status in Status:
            text.highlight_words([f"keyhole-status={status}"], STYLES[status])
        console.print(text)
    if page is not None:
        console.print(Text.assemble(("Report:", "bold"), f" {page}  (open it in a browser)"), soft_wrap=True)


def print_next() -> None:
    """Print what a user can try after the demo has ended."""
    click.echo(
        "Next:   keyhole demo --keep                  the same, and stays up: try all commands on it\n"
        "        keyhole inspect FILE                 a file of yours\n"
        "        keyhole inspect s3://BUCKET/KEY      an object of yours"
    )


def print_kept(settings: Mapping[str, str], bucket: str, queue: str) -> None:
    """Print the settings of the demo as shell commands, and what to try.

    Args:
        settings: The environment variables of the demo.
        bucket: The bucket with the samples.
        queue: The URL of the queue of the bucket's events.
    """
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    click.echo("\nThe demo stays up until Ctrl-C. Paste these lines into another terminal:\n")
    click.echo("\n".join(lines))
    click.echo(
        f"\nNext:   keyhole inspect s3://{bucket}/{TAGGED[0]}\n"
        "        keyhole results --status unsafe\n"
        f"        keyhole submit --wait -r s3://{bucket}/{UPLOADS}\n"
        f"        keyhole listen {queue}\n"
        "        keyhole status"
    )


def _summary(reports: list[Report], audit: Audit) -> Text:
    requests = sum(report.requests for report in reports)
    read = sum(report.bytes_read for report in reports)
    stored = sum(report.size or 0 for report in reports)
    virtual = sum(report.virtual_size or 0 for report in reports)
    told = sum(str(report.key).startswith(UPLOADS) for report in reports)
    totals = audit.totals
    return Text(
        f"\n{len(reports)} objects, {size(virtual)} of disks in {size(stored)}: "
        f"{requests} requests, {size(read)} read ({share(read, stored)}).\n"
        f"{len(reports) - told} were submitted, S3's events reported {told}. An audit of the bucket then "
        f"found {totals.unchanged} of {totals.listed} unchanged: {totals.lists} LIST, "
        f"{totals.scanned} scanned.\n"
    )
