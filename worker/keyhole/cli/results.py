"""`keyhole results` and `keyhole show`: list and show recorded verdicts."""

import shlex
import sys
from datetime import UTC, datetime
from itertools import islice

import click

from keyhole.cli.backend import backend
from keyhole.cli.completion import complete_formats, complete_reasons
from keyhole.cli.errors import UNDECIDED, USAGE, CommandError, load_settings, one_line_errors
from keyhole.cli.exit_code import exit_code
from keyhole.cli.output import Output, output_options, status_option
from keyhole.cli.parsed import parsed
from keyhole.cli.render import print_page
from keyhole.cli.terminal import SafeConsole
from keyhole.cli.verdicts import print_verdicts
from keyhole.inspectors.text import shown
from keyhole.jobs.tag_debts import TagDebts
from keyhole.reasons import STATUSES, Status
from keyhole.results.history import history
from keyhole.results.redis_store import RedisStore
from keyhole.results.search import Filter, Search
from keyhole.results.since import parse_since
from keyhole.results.spelling import misspelling
from keyhole.settings import Settings
from keyhole.sources.s3_uri import parse_s3_uri
from keyhole.store.connection import connect


@click.command("results", context_settings={"allow_extra_args": True})
@click.option("--bucket", default="", help="Only objects in this bucket.")
@click.option("--prefix", default="", help="Only keys that begin with this text.")
@click.option("--contains", "part", default="", metavar="TEXT", help="Only keys that contain this text.")
@status_option()
@click.option(
    "--reason",
    default="",
    metavar="CODE",
    shell_complete=complete_reasons,
    help="Only this reason, such as truncated.",
)
@click.option(
    "--format", default="", shell_complete=complete_formats, help="Only this format: qcow2, vmdk, …"
)
@click.option(
    "--since",
    type=parsed("TIME", lambda text: parse_since(text, datetime.now(UTC))),
    help="Only scans since this time: 90m, 24h, 7d, 2026-01-31 …",
)
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="List at most this many verdicts."
)
@output_options()
def results_command(
    *, statuses: frozenset[Status] | None, since: datetime | None, limit: int, output: Output, **texts: str
) -> None:
    """List verdicts, the latest first.

    \b
    keyhole results --status not-safe
    keyhole results --bucket images --prefix nightly/ --since 24h
    keyhole results --format vmdk --limit 1000 -o jsonl | jq -r .target
    keyhole results --status unsafe -o csv > unsafe.csv

    If nothing matches, a line states what was searched, and whether there are other verdicts. It is on
    standard error, unless the output is a table.
    """
    _refuse_addresses(texts, click.get_current_context().args)
    settings = load_settings()
    wanted = Filter(statuses=tuple(sorted(statuses or ())), since=since, **texts)
    with one_line_errors(), backend(settings, work=False) as settings:
        store = _store(settings)
        search = Search(connect(str(settings.redis_url)))
        if wrong := misspelling(wanted, search):
            raise CommandError(wrong, USAGE)
        found = search.all(wanted, limit + 1)
        tally = print_verdicts(islice(found, limit), output, costs=False, scanned=True)
        if not tally.objects:
            if output.is_table:
                click.echo(_nothing(wanted, search))
            else:
                output.tell(_nothing(wanted, search))
        if not tally.objects or not output.is_table:
            return
        more = next(found, None) is not None
        if more:
            output.tell(f"These are the latest {limit:,}; there are more (--limit).")
        if output.quiet:
            return
        if more or wanted != Filter():  # otherwise, the line below the table already counts all verdicts
            click.echo(_all(store.counts()))
        owed = TagDebts(connect(str(settings.redis_url))).count()
        if owed:
            click.echo(f"The tags of {owed:,} objects could not be written yet; workers will retry.")


@click.command("show")
@click.argument("uri", metavar="S3-URI")
@click.option("--version-id", help="The version; by default the newest scanned version.")
@output_options(fail_on=True)
def show_command(*, uri: str, version_id: str | None, output: Output) -> None:
    """Show the verdict on one object, with all findings and the last ten earlier verdicts.

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
        if output.is_table:
            client = connect(str(settings.redis_url))
            debts = TagDebts(client)
            owed = debts.owed(bucket, key, report.version_id) or debts.owed(bucket, key, version_id)
            print_page(SafeConsole(), report, owed, history(client, bucket, key, version_id))
        else:
            print_verdicts([report], output)
    sys.exit(exit_code({report.status: 1}, fail_on=output.fail_on))


def _refuse_addresses(texts: dict[str, str], others: list[str]) -> None:
    """End the command if an option, or an argument, is the address of objects. The message has the options.

    Args:
        texts: The values of the options.
        others: The arguments that are not options.

    Raises:
        CommandError: There is an address.
        click.UsageError: There is another argument.
    """
    bucket, prefix = texts["bucket"], texts["prefix"]
    if others and not others[0].startswith("s3://"):
        raise click.UsageError(f"unexpected extra argument: {others[0]}")
    if others:
        address, wrong = others[0], "an address is written with options"
    elif "/" in bucket:  # no bucket's name contains a slash
        address, wrong = bucket, "--bucket takes only the name of a bucket"
    elif prefix.startswith("s3://"):
        address, wrong = prefix, "--prefix takes only the beginning of keys"
    else:
        return
    name, _, key = address.removeprefix("s3://").partition("/")
    options = shlex.join(["--bucket", name or "NAME", *(["--prefix", key] if key else [])])
    raise CommandError(f"{wrong}; write {shown(options)}", USAGE)


def _all(counts: dict[Status, int]) -> str:
    """Return one line with the number of recorded verdicts for each status.

    Redis counts verdicts by status, so it does not know which unrecognized objects are not images.
    """
    names = {status: status.value for status in STATUSES}
    names[Status.UNRECOGNIZED] += " or not images"
    return "All: " + ", ".join(f"{counts[of]:,} {name}" for of, name in names.items() if counts[of])


def _nothing(wanted: Filter, search: Search) -> str:
    """Return one line for an empty list: what was searched, and whether there are other verdicts."""
    if wanted.bucket and next(search.all(Filter(bucket=wanted.bucket), 1), None) is None:
        return f"there is no verdict on an object in bucket {shown(wanted.bucket)}"
    if not wanted.bucket and next(search.all(Filter(), 1), None) is None:
        return "no verdicts yet; try `keyhole submit`"
    others = "this bucket has other verdicts" if wanted.bucket else "there are other verdicts"
    return f"no verdict matches {shown(_options_of(wanted))}; {others}"


def _options_of(wanted: Filter) -> str:
    """Return the options of a search, as a user writes them."""
    chosen = {
        "--bucket": wanted.bucket,
        "--prefix": wanted.prefix,
        "--contains": wanted.part,
        "--status": ",".join(wanted.statuses),
        "--reason": wanted.reason,
        "--format": wanted.format,
        "--since": "" if wanted.since is None else wanted.since.isoformat(timespec="seconds"),
    }
    return " ".join(f"{option} {shlex.quote(value)}" for option, value in chosen.items() if value)


def _store(settings: Settings) -> RedisStore:
    return RedisStore(
        connect(str(settings.redis_url)),
        expiry_seconds=settings.record_seconds or None,
        stream_length=settings.stream_length,
    )
