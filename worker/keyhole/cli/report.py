"""`keyhole report`: writes the results of an audit as an HTML page, CSV, Parquet or JSON Lines."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import click

from keyhole.cli.audit_id import full_audit_id
from keyhole.cli.backend import backend
from keyhole.cli.errors import USAGE, CommandError, load_settings, one_line_errors
from keyhole.fleet.services import services, use_settings
from keyhole.inspectors.text import shown
from keyhole.intake.audits.audit import Audit, AuditState
from keyhole.reports.figures import counted, size

#: The formats of reports, and the suffixes of their files.
SUFFIXES = {
    "html": (".html", ".htm"),
    "csv": (".csv",),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet", ".pq"),
}
#: The formats that contain only a table of objects. Files in these formats do not contain the findings about
#: the bucket.
TABLES = {"csv", "parquet"}
STDOUT = "-"


@click.command("report")
@click.argument("audit_id", metavar="ID")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(SUFFIXES)),
    help="The format; the default follows from the suffix of FILE, or is html.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The file to write; - is standard output. The default is keyhole-audit-ID.html (.csv, …) in the "
    "current folder, or standard output if it is redirected.",
)
def report_command(*, audit_id: str, format_name: str | None, output: str | None) -> None:
    """Write a report of an audit, which may still be running. `keyhole audits` lists audits.

    You can shorten the id of an audit, as long as no other id begins with the shortened id.

    \b
    keyhole report 3f0c9a1b2c4d                  # an HTML page
    keyhole report 3f0c9a1b2c4d -o found.csv     # for a spreadsheet, one row per object
    keyhole report 3f0c9a1b2c4d -o found.parquet
    keyhole report 3f0c9a1b2c4d --format jsonl | jq 'select(.status == "unsafe")'

    JSON Lines contain the audit, every object, and the findings about the bucket. The HTML page shows up to
    250,000 objects, which can be sorted and searched, and what changed since the last audit. In CSV, an
    apostrophe precedes text that a spreadsheet would treat as a formula.
    """
    settings = load_settings()
    format_name = format_name or _format_of(output)
    if output is None:
        output = f"keyhole-audit-{audit_id}.{format_name}" if sys.stdout.isatty() else STDOUT
    if output == STDOUT and format_name == "parquet" and sys.stdout.isatty():
        raise CommandError("Parquet cannot be shown on a terminal; write it to a file with -o FILE", USAGE)
    with one_line_errors(), backend(settings, work=False) as ready:
        use_settings(ready)
        audit = services().audits.get(full_audit_id(audit_id, ready))
        if audit is None:
            raise CommandError(f"there is no audit {shown(audit_id)}; `keyhole audits` lists them", USAGE)
        with _opened(output) as out:
            _write(audit, format_name, out)
        _tell(audit, format_name, output)


def _format_of(output: str | None) -> str:
    """Return the format of a report, according to the suffix of the file's name."""
    if output in {None, STDOUT}:
        return "html"
    for name, suffixes in SUFFIXES.items():
        if str(output).lower().endswith(suffixes):
            return name
    raise CommandError(
        f"{shown(str(output))} has no known suffix: use .html, .csv, .jsonl or .parquet, or --format",
        USAGE,
    )


def _write(audit: Audit, format_name: str, out: BinaryIO) -> None:
    from keyhole.reports.changes import changes_since_last
    from keyhole.reports.json_lines import write_jsonl
    from keyhole.reports.objects import audited_objects
    from keyhole.reports.page import write_html
    from keyhole.reports.parquet import write_parquet
    from keyhole.reports.spreadsheet import write_csv

    audits = services().audits
    objects, findings = audited_objects(audits, services().lookup, audit.id), audits.findings(audit.id)
    match format_name:
        case "html":
            changes = changes_since_last(audits, services().lookup, audit)
            write_html(audit, objects, findings, out, now=datetime.now(UTC), changes=changes)
        case "csv":
            write_csv(objects, out)
        case "jsonl":
            write_jsonl(audit, objects, findings, out)
        case "parquet":
            write_parquet(audit, objects, out)


@contextmanager
def _opened(output: str) -> Iterator[BinaryIO]:
    """Yield the file that receives the report: standard output, a temporary file, or a device or pipe.

    The temporary file replaces `output` when the `with` block ends without an error.
    """
    if output == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        target = Path(output).resolve()
        if (
            target.exists() and not target.is_file() and not target.is_dir()
        ):  # a device or a pipe: do not replace it
            with target.open("wb") as out:
                yield out
            return
        part = target.with_name(f".keyhole-{uuid4().hex}.part")
        try:
            with part.open("xb") as out:
                yield out
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"{shown(output)} cannot be written: {error.strerror or error}") from error


def _tell(audit: Audit, format_name: str, output: str) -> None:
    """Print the size of the report, and whether it is incomplete or lacks findings about the bucket."""
    if output != STDOUT:
        click.echo(f"{shown(output)} ({size(Path(output).stat().st_size)})", err=True)
    if audit.state is not AuditState.DONE:
        click.echo(f"The audit is {audit.state.value}; the report is incomplete.", err=True)
    findings = audit.totals.gone + audit.totals.tag_mismatches
    if findings and format_name in TABLES:
        missing = counted(findings, "finding")
        click.echo(f"Not included: {missing} about the bucket; use --format html or jsonl.", err=True)
