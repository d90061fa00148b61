"""`keyhole submit`: queues objects for the workers to scan."""

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice

import click
from rich.progress import Progress

from keyhole.api import s3_access
from keyhole.cli.backend import backend, is_embedded
from keyhole.cli.errors import ALL_SAFE, UNDECIDED, USAGE, CommandError, load_settings, one_line_errors
from keyhole.cli.exit_code import exit_code
from keyhole.cli.render import report_table
from keyhole.cli.terminal import SafeConsole
from keyhole.inspectors.text import shown
from keyhole.intake.listing import list_objects
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.scan.report import Report
from keyhole.settings import Settings
from keyhole.sources.s3_uri import parse_s3_uri

#: The number of jobs that are recorded and published together.
CHUNK = 10_000
#: While a worker writes an object's tags, Redis contains a debt: a record that the tags must be written. The
#: worker removes the debt shortly after it has recorded the verdict. After the last verdict, the command
#: waits at most this many seconds until the debts are removed.
SETTLING = 5.0
#: The command waits for verdicts half a second at a time. If no verdict arrives during this many waits, the
#: command prints a hint that no worker seems to be running.
PATIENCE = 20


@click.command("submit")
@click.argument("uris", nargs=-1, required=True, metavar="S3-URI...")
@click.option("-r", "--recursive", is_flag=True, help="Submit everything below a prefix.")
@click.option("--version-id", help="The version of the object; only with one object.")
@click.option(
    "--wait", is_flag=True, help="Wait for the verdicts, print them, and exit like `keyhole inspect`."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line: a job, or with --wait a verdict."
)
def submit_command(
    uris: tuple[str, ...], *, recursive: bool, version_id: str | None, wait: bool, as_json: bool
) -> None:
    """Queue objects for the workers to scan. Submitting an object again creates a new job.

    \b
    keyhole submit s3://images/debian.qcow2
    keyhole submit -r --wait s3://images/uploads/

    If no Redis is configured, the command starts a worker and waits for the verdicts. With --wait, if some
    tags could not be written yet, the command reports them and exits with 3 instead of 0.
    """
    settings = load_settings()
    if version_id and (len(uris) > 1 or recursive):
        raise click.UsageError("--version-id can only be used with one object")
    wait = wait or is_embedded(settings)
    with one_line_errors(), backend(settings, work=True) as settings:
        jobs = _jobs(uris, settings, recursive=recursive, version_id=version_id)
        reports = run_jobs(jobs, settings, wait=wait, as_json=as_json)
        code = exit_code(report.status for report in reports)
        if wait and "tags" in settings.sinks and _tell_of_owed_tags(reports) and code == ALL_SAFE:
            code = UNDECIDED
    sys.exit(code)


def run_jobs(jobs: Iterator[ScanJob], settings: Settings, *, wait: bool, as_json: bool) -> list[Report]:
    """Submit jobs. If `wait` is true, wait for the reports, and print and return them.

    If `wait` is false, print the jobs, and return no reports.
    """
    from keyhole.app import configure
    from keyhole.fleet.services import services, use_settings
    from keyhole.tasks import submit

    configure(settings)
    use_settings(settings)
    position = services().store.stream_position()
    entries: list[Entry] = []
    while chunk := list(islice(jobs, CHUNK)):
        entries += submit(chunk, batch_size=settings.batch_size)
    count = sum(len(entry.jobs) for entry in entries)
    if not count:
        raise CommandError("there are no objects; check the prefix")
    if not wait:
        _print_jobs(entries, count, as_json=as_json)
        return []
    reports = _wait(entries, count, position, as_json=as_json)
    if not as_json:
        console = SafeConsole()
        console.print(report_table(reports, console))
    return reports


def _jobs(
    uris: Sequence[str], settings: Settings, *, recursive: bool, version_id: str | None
) -> Iterator[ScanJob]:
    for uri in uris:
        try:
            bucket, key = parse_s3_uri(uri)
        except ValueError as error:
            raise CommandError(str(error), USAGE) from error
        if recursive:
            for listed in list_objects(s3_access(settings).client, bucket, key):
                yield ScanJob(bucket=bucket, key=listed.key)
        elif key:
            yield ScanJob(bucket=bucket, key=key, version_id=version_id)
        else:
            raise CommandError(f"{uri} is a bucket; add -r to submit everything in it", USAGE)


def _print_jobs(entries: Sequence[Entry], count: int, *, as_json: bool) -> None:
    if as_json:
        for entry in entries:
            for job in entry.jobs:
                click.echo(job.model_dump_json(exclude_none=True, ensure_ascii=True))
    else:
        click.echo(f"{count} submitted; see the verdicts with `keyhole results`, or submit with --wait")


def _wait(entries: Sequence[Entry], count: int, position: str, *, as_json: bool) -> list[Report]:
    from keyhole.fleet.services import services
    from keyhole.jobs.wait import await_verdicts

    reports = []
    silences = 0
    with Progress(console=SafeConsole(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("scanning", total=count)
        for arrived in await_verdicts(entries, services().store, services().ledger, position):
            if arrived is None:
                silences += 1
                if silences == PATIENCE:
                    click.echo(
                        "No verdict yet: is a worker running (`keyhole worker`)? Still waiting.", err=True
                    )
                continue
            silences = 0
            progress.advance(bar)
            if arrived.report is None:
                target = shown(f"s3://{arrived.job.bucket}/{arrived.job.key}")
                click.echo(f"{target} was scanned, but Redis has no verdict on it", err=True)
                continue
            reports.append(arrived.report)
            if as_json:
                click.echo(arrived.report.model_dump_json(ensure_ascii=True))
    return reports


def _tell_of_owed_tags(reports: Sequence[Report]) -> bool:
    """Print the number of objects whose tags could not be written yet, with one example.

    If there are no such objects, print nothing and return false. Otherwise return true.
    """
    from keyhole.fleet.services import services

    objects = [(str(report.bucket), str(report.key), report.version_id) for report in reports]
    until = time.monotonic() + SETTLING
    owed = []
    while objects:
        found = list(zip(objects, services().tag_debts.owed_among(objects), strict=True))
        owed += [(name, debt) for name, debt in found if debt is not None and debt.times]
        # For these objects, no attempt to write the tags has failed yet, so a worker is still writing the
        # tags.
        objects = [name for name, debt in found if debt is not None and not debt.times]
        if time.monotonic() > until:
            break
        time.sleep(0.1 if objects else 0)
    if owed:
        (bucket, key, _), debt = owed[0]
        click.echo(
            f"The tags of {len(owed)} of {len(reports)} objects are not written yet, for example "
            f"{shown(f's3://{bucket}/{key}')}: {shown(str(debt.history))}. Workers will retry.",
            err=True,
        )
    return bool(owed)
