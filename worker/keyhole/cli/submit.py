"""`keyhole submit`: queues objects for the workers to scan."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import click

from keyhole.api import s3_access
from keyhole.cli.aws_options import aws_options
from keyhole.cli.backend import backend, is_embedded
from keyhole.cli.errors import ALL_SAFE, UNDECIDED, USAGE, CommandError, load_settings, one_line_errors
from keyhole.cli.exit_code import exit_code
from keyhole.cli.output import Output, output_options
from keyhole.cli.progress import progress
from keyhole.cli.verdicts import print_verdicts
from keyhole.cli.worker_note import (
    refuse_policy,
    refused_policy_option,
    tell_if_no_worker,
    tell_if_policies_differ,
)
from keyhole.inspectors.text import shown
from keyhole.intake.listing import list_objects
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import JOBS
from keyhole.jobs.wait import Arrived
from keyhole.reports.figures import counted
from keyhole.reports.tally import Tally
from keyhole.results.verification import look
from keyhole.scan.report import Report
from keyhole.settings import Settings
from keyhole.sources.errors import SourceError
from keyhole.sources.s3_uri import S3Uri, parse_s3_uri

#: The number of jobs that are recorded and published together.
CHUNK = 10_000
#: While a worker writes an object's tags, Redis contains a debt: a record that the tags must be written. The
#: worker removes the debt shortly after it has recorded the verdict. After the last verdict, the command
#: waits at most this many seconds until the debts are removed.
SETTLING = 5.0
#: The command waits for verdicts half a second at a time. If no verdict arrives during this many waits, the
#: command says that it still waits.
PATIENCE = 20
#: The bucket, the key and the version of an object.
Name = tuple[str, str, str | None]


@click.command("submit")
@click.argument("uris", nargs=-1, required=True, metavar="S3-URI...")
@click.option("-r", "--recursive", is_flag=True, help="Submit everything below a prefix.")
@click.option("--version-id", help="The version of the object; only with one object.")
@click.option(
    "--wait", is_flag=True, help="Wait for the verdicts, print them, and exit like `keyhole inspect`."
)
@refused_policy_option
@output_options(fail_on=True, json_help="The same as -o jsonl; without --wait, print one job per line.")
@aws_options
def submit_command(
    uris: tuple[str, ...],
    *,
    recursive: bool,
    version_id: str | None,
    wait: bool,
    policy: str | None,
    output: Output,
) -> None:
    """Queue objects for the workers to scan. Submitting an object again creates a new job.

    \b
    keyhole submit s3://images/debian.qcow2
    keyhole submit -r --wait s3://images/uploads/

    If no Redis is configured, the command starts a worker and waits for the verdicts. With --wait, if some
    tags could not be written yet, the command reports them and exits with 3 instead of 0. Verdicts are
    printed in the order in which the objects were submitted. KEYHOLE_POLICY of the workers sets the policy.
    """
    settings = load_settings()
    refuse_policy(policy, uris[0], embedded=is_embedded(settings), recursive=recursive)
    if version_id and (len(uris) > 1 or recursive):
        raise click.UsageError("--version-id can only be used with one object")
    embedded = is_embedded(settings)
    wait = wait or embedded
    if not wait and output.form not in {"table", "jsonl"}:
        raise CommandError(f"-o {output.form} needs verdicts; add --wait", USAGE)
    with one_line_errors(), backend(settings, work=True) as settings, _telling_what_stays(embedded=embedded):
        jobs = _jobs(uris, settings, recursive=recursive, version_id=version_id)
        entries, position = _submit(jobs, settings)
        if not wait:
            _print_jobs(entries, output)
        tell_if_policies_differ()
        if not embedded:
            tell_if_no_worker(output.tell, JOBS, waits=wait)
        if not wait:
            sys.exit(ALL_SAFE)
        names: list[Name] = []
        tally = _wait(entries, position, output, names)
        code = exit_code(tally.statuses, tally.not_images if recursive else 0, output.fail_on)
        if "tags" in settings.sinks and _tell_of_owed_tags(names) and code == ALL_SAFE:
            code = UNDECIDED
    sys.exit(code)


@contextmanager
def _telling_what_stays(*, embedded: bool) -> Iterator[None]:
    """If the user interrupts the command, say that the jobs stay queued.

    Args:
        embedded: Whether the command started the worker, which ends with the command.
    """
    try:
        yield
    except KeyboardInterrupt:
        then = "the next worker scans them" if embedded else "`keyhole results` will show their verdicts"
        click.echo(f"Jobs without a verdict stay queued; {then}.", err=True)
        raise


def _submit(jobs: Iterator[ScanJob], settings: Settings) -> tuple[list[Entry], str]:
    """Submit jobs, and return them with the position in the stream of verdicts before they were submitted."""
    from keyhole.app import configure
    from keyhole.fleet.services import services, use_settings
    from keyhole.fleet.traces import traced
    from keyhole.tasks import submit

    configure(settings)
    use_settings(settings)
    position = services().store.stream_position()
    entries: list[Entry] = []
    with traced(settings, "submit"):
        while chunk := list(islice(jobs, CHUNK)):
            entries += submit(chunk, batch_size=settings.batch_size)
    if not entries:
        raise CommandError("there are no objects; check the prefix")
    return entries, position


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
            _refuse_prefix(uri, S3Uri(bucket, key), version_id, settings)
            yield ScanJob(bucket=bucket, key=key, version_id=version_id)
        else:
            raise CommandError(f"{uri} is a bucket; add -r to submit everything in it", USAGE)


def _refuse_prefix(uri: str, place: S3Uri, version_id: str | None, settings: Settings) -> None:
    """End the command if a URI ends with `/` and names no object, because the user probably forgot `-r`.

    Such an object can exist: some programs store an empty object for each folder. If S3 does not tell whether
    it exists, the object is submitted, because this machine need not have access to S3.
    """
    if not place.key.endswith("/"):
        return
    try:
        seen = look(s3_access(settings).client, place.bucket, place.key, version_id)
    except SourceError:
        return
    if seen is None:
        raise CommandError(f"there is no object {uri}; to submit everything below it, add -r", USAGE)


def _print_jobs(entries: Sequence[Entry], output: Output) -> None:
    jobs = [job for entry in entries for job in entry.jobs]
    if output.is_table:
        if not output.quiet:
            told = f"{counted(len(jobs), 'object')} submitted"
            click.echo(f"{told}; see the verdicts with `keyhole results`, or submit with --wait")
    else:
        for job in jobs:
            click.echo(job.model_dump_json(exclude_none=True, ensure_ascii=True))


def _wait(entries: Sequence[Entry], position: str, output: Output, names: list[Name]) -> Tally:
    """Wait for the verdicts, print them in the order of submission, and add the objects' names to `names`."""
    total = sum(len(entry.jobs) for entry in entries)
    with progress("scanning", total, output) as (console, advance):
        reports = _in_order(entries, _arriving(entries, position, output, advance))
        return print_verdicts(_named(reports, names), output, console)


def _arriving(
    entries: Sequence[Entry], position: str, output: Output, advance: Callable[[], None]
) -> Iterator[Arrived]:
    """Yield each job when it is done. If no verdict arrives for a while, print a hint."""
    from keyhole.fleet.services import services
    from keyhole.jobs.wait import await_verdicts

    silences = 0
    for arrived in await_verdicts(entries, services().store, services().ledger, position):
        if arrived is None:
            silences += 1
            if silences == PATIENCE:
                output.tell("No verdict yet. Still waiting.")
            continue
        silences = 0
        advance()
        if arrived.report is None:
            target = shown(f"s3://{arrived.job.bucket}/{arrived.job.key}")
            click.echo(f"{target} was scanned, but Redis has no verdict on it", err=True)
        yield arrived


def _in_order(entries: Sequence[Entry], arriving: Iterator[Arrived]) -> Iterator[Report]:
    """Yield the reports in the order of the jobs, each one as soon as all earlier jobs are done."""
    early: dict[str, Report | None] = {}
    for job in (job for entry in entries for job in entry.jobs):
        while job.id not in early:
            arrived = next(arriving)
            early[arrived.job.id] = arrived.report
        report = early.pop(job.id)
        if report is not None:
            yield report


def _named(reports: Iterator[Report], names: list[Name]) -> Iterator[Report]:
    for report in reports:
        names.append((str(report.bucket), str(report.key), report.version_id))
        yield report


def _tell_of_owed_tags(names: Sequence[Name]) -> bool:
    """Print the number of objects whose tags could not be written yet, with one example.

    If there are no such objects, print nothing and return false. Otherwise return true.
    """
    from keyhole.fleet.services import services

    objects = list(names)
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
            f"The tags of {len(owed)} of {len(names)} objects are not written yet, for example "
            f"{shown(f's3://{bucket}/{key}')}: {shown(str(debt.history))}. Workers will retry.",
            err=True,
        )
    return bool(owed)
