"""`keyhole results` and `keyhole show`: list and show recorded verdicts."""

import sys

import click

from keyhole.cli.backend import backend
from keyhole.cli.errors import UNDECIDED, USAGE, CommandError, load_settings, one_line_errors
from keyhole.cli.exit_code import exit_code
from keyhole.cli.render import report_page, report_table
from keyhole.cli.terminal import SafeConsole
from keyhole.inspectors.text import shown
from keyhole.jobs.tag_debts import TagDebts
from keyhole.reasons import Status
from keyhole.results.redis_store import RedisStore
from keyhole.scan.report import Report
from keyhole.settings import Settings
from keyhole.sources.s3_uri import parse_s3_uri
from keyhole.store.connection import connect


@click.command("results")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only this status.")
@click.option("--format", "format_name", help="Only this format: qcow2, vmdk, …")
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="List at most this many verdicts."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, and nothing else.")
def results_command(*, status: str | None, format_name: str | None, limit: int, as_json: bool) -> None:
    """List verdicts, the latest first.

    \b
    keyhole results --status unsafe
    keyhole results --format vmdk --limit 1000 --json | jq -r .target
    """
    settings = load_settings()
    with one_line_errors(), backend(settings, work=False) as settings:
        store = _store(settings)
        reports: list[Report] = []
        more = False
        for report in store.find(Status(status) if status else None):
            if format_name is not None and report.format != format_name:
                continue
            more = len(reports) == limit
            if more:
                break
            reports.append(report)
        if as_json:
            for report in reports:
                click.echo(report.model_dump_json(ensure_ascii=True))
            return
        if not reports:
            click.echo("no verdicts" + (" match" if status or format_name else " yet; try `keyhole submit`"))
            return
        console = SafeConsole()
        console.print(report_table(reports, console, costs=False))
        if more:
            click.echo(f"These are the latest {limit}; there are more (--limit).", err=True)
        counts = store.counts()
        click.echo("All: " + ", ".join(f"{count} {of.value}" for of, count in counts.items() if count))
        owed = TagDebts(connect(str(settings.redis_url))).count()
        if owed:
            click.echo(f"The tags of {owed:,} objects could not be written yet; workers will retry.")


@click.command("show")
@click.argument("uri", metavar="S3-URI")
@click.option("--version-id", help="The version; by default the newest scanned version.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one line of JSON.")
def show_command(*, uri: str, version_id: str | None, as_json: bool) -> None:
    """Show the verdict on one object, with all findings.

    Exit code: 0 the object is safe, 1 it is not safe, 2 wrong usage, 3 there is no verdict, or Keyhole could
    not read the object or decide about it.

    \b
    keyhole show s3://images/debian.qcow2
    """
    settings = load_settings()
    try:
        bucket, key = parse_s3_uri(uri)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    with one_line_errors(), backend(settings, work=False) as settings:
        report = _store(settings).get(bucket, key, version_id)
        if report is None:
            raise CommandError(f"no verdict on {shown(uri)}; try `keyhole submit`", UNDECIDED)
        if as_json:
            click.echo(report.model_dump_json(ensure_ascii=True))
        else:
            debts = TagDebts(connect(str(settings.redis_url)))
            owed = debts.owed(bucket, key, report.version_id) or debts.owed(bucket, key, version_id)
            SafeConsole().print(report_page(report, owed))
    sys.exit(exit_code([report.status]))


def _store(settings: Settings) -> RedisStore:
    return RedisStore(
        connect(str(settings.redis_url)),
        expiry_seconds=settings.record_seconds or None,
        stream_length=settings.stream_length,
    )
