"""`keyhole inspect`: scans objects or files directly, without a queue."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyhole.cli.aws_options import aws_options
from keyhole.cli.completion import complete_files, complete_policies
from keyhole.cli.errors import USAGE, CommandError, load_settings, one_line_errors
from keyhole.cli.exit_code import exit_code
from keyhole.cli.output import Output, output_options, status_option
from keyhole.inspectors.text import shown
from keyhole.reasons import Reason, Status
from keyhole.reports.tally import Tally
from keyhole.sources.s3_uri import S3Uri, parse_s3_uri
from keyhole.sources.uri_hints import exists, uri_trouble

if TYPE_CHECKING:
    from concurrent.futures import Future

    from keyhole.scan.report import Report
    from keyhole.settings import Settings

#: For each thread, at most this many scans are submitted at a time: the running scan, and scans that wait for
#: the thread. A thread that has finished a scan can start a waiting scan immediately. The limit bounds the
#: memory even if millions of objects are listed.
WAITING = 4


@click.command("inspect")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...", shell_complete=complete_files)
@click.option("-r", "--recursive", is_flag=True, help="Scan everything below a prefix or in a folder.")
@click.option("--version-id", help="The version of the object; only with one s3:// object.")
@click.option(
    "--policy",
    metavar="NAME|FILE",
    shell_complete=complete_policies,
    help="The policy: a profile or a file of rules.",
)
@click.option(
    "--allow-private", is_flag=True, help="Allow https:// URLs with private addresses, proxies, and http://."
)
@status_option()
@output_options(fail_on=True)
@aws_options
def inspect_command(
    targets: tuple[str, ...],
    *,
    recursive: bool,
    version_id: str | None,
    policy: str | None,
    allow_private: bool,
    statuses: frozenset[Status] | None,
    output: Output,
) -> None:
    """Scan objects in S3 or on web servers, files, or a stream on standard input (-).

    The command usually reads less than 2 MiB of each object. It never opens files that an image refers
    to.

    \b
    keyhole inspect s3://images/debian.qcow2
    keyhole inspect -o jsonl disk.vmdk | jq .status
    keyhole inspect -r --policy azure s3://images/uploads/
    keyhole inspect -r --status not-safe s3://images/uploads/
    keyhole inspect https://images.example/debian.qcow2
    zcat disk.vhd.gz | keyhole inspect -

    --status filters what is listed. The summary and the exit code count all objects.

    Exit code: 0 all objects are safe, 1 some are not safe, 2 wrong usage, 3 Keyhole could not read an object
    or decide about it. With -r, objects that are certainly not images, such as PDFs, do not count, unless
    there is nothing else.
    """
    settings = load_settings(policy=policy)
    if allow_private:
        settings = settings.model_copy(update={"https_private": True})
    if version_id and (len(targets) > 1 or recursive or not targets[0].startswith("s3://")):
        raise click.UsageError("--version-id can only be used with one s3:// object")
    if "" in targets:
        # An empty path means the current folder. The user probably meant the value of a variable.
        raise CommandError("a target is empty; is a variable of the shell not set?", USAGE)
    if recursive:
        _refuse_urls(targets)
    with one_line_errors():
        scans = _scans(targets, settings, recursive=recursive, version_id=version_id)
        is_one = len(targets) == 1 and not recursive
        hints: list[str] = []
        scanned = (scan() for scan in scans) if is_one else _at_once(scans, settings.scan_threads)
        reports = _noting_hints(scanned, hints)
        if output.is_table and is_one:
            tally = _page(reports, statuses)
        else:
            tally = _print_all(reports, output, None if recursive else len(targets), statuses)
    if not tally.objects:
        raise CommandError("there are no objects; check the prefix")
    for hint in hints:
        output.tell(hint)
    sys.exit(exit_code(tally.statuses, tally.not_images if recursive else 0, output.fail_on))


def _refuse_urls(targets: tuple[str, ...]) -> None:
    """End the command with `-r` if a target is on a web server, because nothing lists its objects."""
    from keyhole.api import is_url

    if any(is_url(target) for target in targets):
        message = (
            "-r lists a prefix or a folder, and web servers list nothing; leave out -r, and name each URL"
        )
        raise CommandError(message, USAGE)


def _page(reports: "Iterator[Report]", statuses: frozenset[Status] | None) -> Tally:
    """Print all facts about the only object, if it has one of these statuses."""
    from keyhole.cli.render import print_page
    from keyhole.cli.terminal import SafeConsole

    tally = Tally()
    # Switch emoji codes off: a report contains no emoji codes, and the table of these codes takes long to
    # import.
    console = SafeConsole(soft_wrap=False, emoji=False)
    for report in tally.counting(reports):
        if statuses is None or report.status in statuses:
            print_page(console, report)
    return tally


def _print_all(
    reports: "Iterator[Report]", output: Output, total: int | None, statuses: frozenset[Status] | None
) -> Tally:
    """Print the reports while the scans run."""
    from keyhole.cli.verdicts import print_verdicts

    if not output.is_table and not sys.stderr.isatty():
        # Without progress and without a table, nothing needs the library for terminals.
        return print_verdicts(reports, output, statuses=statuses)
    from keyhole.cli.progress import progress

    with progress("scanning", total, output, many=total != 1) as (console, advance):
        return print_verdicts(_each(reports, advance), output, console, statuses=statuses)


def _each(reports: "Iterator[Report]", advance: Callable[[], None]) -> "Iterator[Report]":
    for report in reports:
        yield report
        advance()


def _noting_hints(reports: "Iterator[Report]", hints: list[str]) -> "Iterator[Report]":
    """Yield reports, and add a hint for the first object or file that does not exist."""
    for report in reports:
        yield report
        if not hints and report.reasons == (Reason.NOT_FOUND,):
            hint = _hint(report)
            hints.extend([hint] if hint else [])


def _hint(report: "Report") -> str | None:
    """Return what the user probably meant by the name of an object or a file that does not exist."""
    name = shown(report.target)
    if report.bucket is None:
        return (
            None if "://" in name else f"There is no file {name}; for an object in S3, write s3://bucket/key."
        )
    if report.target.endswith("/"):
        return f"There is no object {name}; to scan everything below it, add -r."
    return None


def _scans(
    targets: tuple[str, ...], settings: "Settings", *, recursive: bool, version_id: str | None
) -> Iterator[Callable[[], "Report"]]:
    """Yield, for each object, a function that scans the object. Objects are listed while the scans run."""
    # Imported here, so that the shell need not wait for these imports when it completes the command's
    # options.
    from keyhole.api import inspect_stream, s3_access, scan_object, scan_path, scan_s3

    for target in targets:
        if target == "-":
            yield partial(inspect_stream, sys.stdin.buffer, settings=settings)
        elif recursive and target.startswith("s3://"):
            from keyhole.intake.listing import list_objects

            bucket, prefix = _parsed(target)
            access = s3_access(settings)
            for listed in list_objects(access.client, bucket, prefix):
                yield partial(scan_s3, access, bucket, listed.key, None, settings.scan)
        elif recursive and Path(target).is_dir():
            for path in sorted(Path(target).rglob("*")):
                if path.is_file():
                    yield partial(scan_path, path, settings.scan)
        else:
            _refuse_place(target)
            yield partial(scan_object, target, version_id=version_id, settings=settings)


def _refuse_place(target: str) -> None:
    """End the command if a target without `-r` is not one object, file or stream."""
    from keyhole.api import is_url

    if target.startswith("s3://") and not _parsed(target).key:
        raise CommandError(f"{target} is a bucket; add -r to scan everything in it", USAGE)
    if is_url(target):
        from keyhole.sources.https_url import WebUrl

        try:
            WebUrl.parse(target)
        except ValueError as error:
            raise CommandError(str(error), USAGE) from error
        return
    trouble = None if exists(target) else uri_trouble(target, ("s3", "https"))
    if trouble is not None:
        raise CommandError(trouble, USAGE)
    if Path(target).is_dir():
        raise CommandError(f"{target} is a folder; add -r to scan everything in it", USAGE)


def _parsed(target: str) -> S3Uri:
    try:
        return parse_s3_uri(target)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error


def _at_once(scans: Iterator[Callable[[], "Report"]], threads: int) -> Iterator["Report"]:
    """Run the scans in threads, and yield the reports in the order of the scans."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        under_way: list[Future[Report]] = [pool.submit(scan) for scan in islice(scans, threads * WAITING)]
        try:
            while under_way:
                yield under_way.pop(0).result()
                under_way.extend(pool.submit(scan) for scan in islice(scans, 1))
        finally:
            pool.shutdown(cancel_futures=True)
