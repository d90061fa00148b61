"""`keyhole report`: writes the results of an audit as an HTML page, and in other forms."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import click

from keyhole.cli.audit_id import full_audit_id, no_audit
from keyhole.cli.backend import backend
from keyhole.cli.completion import complete_files
from keyhole.cli.errors import USAGE, CommandError, load_settings, one_line_errors
from keyhole.cli.output import Form, Output
from keyhole.cli.terminal import busy
from keyhole.fleet.services import services, use_settings
from keyhole.inspectors.text import shown
from keyhole.intake.audits.audit import Audit, AuditedObject, AuditState, BucketFinding
from keyhole.reports.figures import counted, size

#: The forms of reports, and the suffixes of their files.
SUFFIXES = {
    "html": (".html", ".htm"),
    "csv": (".csv",),
    "json": (".json",),
    "jsonl": (".jsonl", ".ndjson"),
    "markdown": (".md", ".markdown"),
    "parquet": (".parquet", ".pq"),
    "sarif": (".sarif",),
    "table": (".txt",),
}
#: The forms that contain only objects, or only some of the findings about the bucket.
TABLES = {"csv", "markdown", "parquet", "table"}
#: The forms that are written to a file if standard output is a terminal.
FILES = {"html", "parquet"}
#: A table and Markdown contain at most this many objects, the most urgent first, and at most this many
#: findings about the bucket, because people read them.
READABLE = 1000
STDOUT = "-"


class _Form(Form):
    """The name of a form. If it looks like a file, the error message names the option for files."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in SUFFIXES and ("." in value or value == STDOUT):
            self.fail(f"{value!r} is not a form of a report; use --to to name a file", param, ctx)
        return super().convert(value, param, ctx)


@click.command("report")
@click.argument("audit_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    "form",
    type=_Form(list(SUFFIXES)),
    help="The form of the report; the default follows from the suffix of FILE, or is html.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as -o jsonl.")
@click.option(
    "--to",
    "file",
    metavar="FILE",
    shell_complete=complete_files,
    help="The file to write; - is standard output. On a terminal, html and parquet are written to "
    "keyhole-audit-ID.html (.parquet) in the current folder by default.",
)
@click.option(
    "--owner",
    metavar="NAME",
    help="Only the objects of this owner: those with this value of the audit's owner tag.",
)
@click.option("--wide", is_flag=True, help="In a table, show all columns and whole names.")
@click.option("-q", "--quiet", is_flag=True, help="Print no summary or hints.")
def report_command(
    *,
    audit_id: str,
    form: str | None,
    as_json: bool,
    file: str | None,
    owner: str | None,
    wide: bool,
    quiet: bool,
) -> None:
    """Write a report of an audit, which may still be running. `keyhole audits` lists audits.

    You can shorten the id of an audit, as long as no other id begins with the shortened id. The id `latest`
    means the audit that started last.

    \b
    keyhole report latest                    # an HTML page
    keyhole report latest -o table           # the most urgent objects, on the terminal
    keyhole report latest --to found.csv     # for a spreadsheet, one row per object
    keyhole report latest --to found.sarif   # for a code-scanning viewer
    keyhole report latest -o jsonl | jq 'select(.status == "unsafe")'

    JSON and JSON Lines contain the audit, every object, and the findings about the bucket. SARIF contains
    what is not safe, and the findings about the bucket. CSV and Parquet contain one row for each object, and
    not the findings about the bucket. In CSV, an apostrophe precedes text that a spreadsheet would treat as a
    formula. The HTML page shows up to 250,000 objects, which can be sorted and searched, and what changed
    since the last audit. A table and Markdown show up to 1,000 objects, the most urgent first, and then the
    findings about the bucket. If the audit has an owner tag, every form shows the owner of each object.
    """
    settings = load_settings()
    if as_json and form not in {None, "jsonl"}:
        raise click.UsageError(f"--json means -o jsonl, which contradicts -o {form}")
    form = "jsonl" if as_json else form
    output = Output(form or _form_of(file), wide=wide, quiet=quiet)
    if owner is not None and output.form == "html":
        message = (
            "the HTML page has all owners and a filter; with --owner, name another form, such as -o table"
        )
        raise CommandError(message, USAGE)
    if file is None:
        to_file = output.form in FILES and sys.stdout.isatty()
        file = f"keyhole-audit-{audit_id}.{output.form}" if to_file else STDOUT
    if file == STDOUT and output.form == "parquet" and sys.stdout.isatty():
        raise CommandError("Parquet cannot be shown on a terminal; write it to a file with --to FILE", USAGE)
    with one_line_errors(), backend(settings, work=False) as ready:
        use_settings(ready)
        audit = services().audits.get(full_audit_id(audit_id, ready))
        if audit is None:
            raise no_audit(audit_id)
        if owner is not None and audit.spec.owner_tag is None:
            message = f"audit {audit.id} has no owners; start one with keyhole audit --owner-tag NAME"
            raise CommandError(message, USAGE)
        # A table or text on the terminal itself would be mixed with the line of progress.
        working = nullcontext() if file == STDOUT and sys.stdout.isatty() else busy("writing the report")
        with working, _opened(file) as out:
            _write(audit, output, out, owner)
        _tell(audit, output, file, owner)


def _form_of(file: str | None) -> str:
    """Return the form of a report, according to the suffix of the file's name."""
    if file in {None, STDOUT}:
        return "html"
    for name, suffixes in SUFFIXES.items():
        if str(file).lower().endswith(suffixes):
            return name
    known = ", ".join(suffixes[0] for suffixes in SUFFIXES.values())
    raise CommandError(
        f"{shown(str(file))} has no known suffix: use {known}, or name the form with -o", USAGE
    )


def _write(audit: Audit, output: Output, out: BinaryIO, owner: str | None) -> None:
    from keyhole.reports.changes import changes_since_last
    from keyhole.reports.json_lines import write_json, write_jsonl
    from keyhole.reports.objects import known_reports, most_urgent
    from keyhole.reports.page import write_html
    from keyhole.reports.parquet import write_parquet
    from keyhole.reports.sarif import Run, write_runs
    from keyhole.reports.spreadsheet import write_csv

    audits = services().audits
    objects, findings = _contents(audit, owner)
    match output.form:
        case "html":
            changes = changes_since_last(audits, services().lookup, audit)
            write_html(audit, objects, findings, out, now=datetime.now(UTC), changes=changes)
        case "csv":
            write_csv(objects, out)
        case "json":
            write_json(audit, objects, findings, out)
        case "jsonl":
            write_jsonl(audit, objects, findings, out)
        case "parquet":
            write_parquet(audit, objects, out)
        case "sarif":
            out.writelines(write_runs([Run(known_reports(objects), findings, audit)]))
        case "markdown" | "table":
            urgent, left_out = most_urgent(objects, READABLE)
            found = list(islice(findings, READABLE))
            owners = audit.spec.owner_tag is not None
            if output.is_table:
                from keyhole.cli.report_table import write_table

                write_table(urgent, found, output, out, owners=owners)
            else:
                from keyhole.reports.markdown import write_findings, write_owned_markdown

                table = write_owned_markdown(urgent, owners=owners, quiet=output.quiet)
                out.writelines(chain(table, write_findings(found)))
            if left_out:
                output.tell(f"Not included: {counted(left_out, 'object')}; use -o csv or jsonl for all.")


def _contents(audit: Audit, owner: str | None) -> tuple[Iterator[AuditedObject], Iterator[BucketFinding]]:
    """Return the objects and the findings of an audit; with an owner, only the objects of this owner."""
    from keyhole.reports.objects import audited_objects

    audits = services().audits
    objects = audited_objects(audits, services().lookup, audit.id)
    if owner is None:
        return objects, audits.findings(audit.id)
    # Nothing states the owners of the objects in findings.
    return (one for one in objects if one.owner == owner), iter(())


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """Yield the file that receives the report: standard output, a temporary file, or a device or pipe.

    The temporary file replaces `file` when the `with` block ends without an error.
    """
    if file == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        target = Path(file).resolve()
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
        raise CommandError(f"{shown(file)} cannot be written: {error.strerror or error}") from error


def _tell(audit: Audit, output: Output, file: str, owner: str | None) -> None:
    """Print the size of the report, and whether it is incomplete or lacks findings about the bucket."""
    if file != STDOUT:
        output.tell(f"{shown(file)} ({size(Path(file).stat().st_size)})")
    if audit.state is not AuditState.DONE:
        output.tell(f"The audit is {audit.state.value}; the report is incomplete.")
    findings = audit.totals.gone + audit.totals.tag_mismatches
    if owner is None and output.form in {"markdown", "table"}:
        findings = max(0, findings - READABLE)
    if findings and (owner is not None or output.form in TABLES):
        missing = counted(findings, "finding")
        forms = "html, json, jsonl or sarif" + (", without --owner" if owner is not None else "")
        output.tell(f"Not included: {missing} about the bucket; use -o {forms}.")
