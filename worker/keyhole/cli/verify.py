"""`keyhole verify`: compares objects with their verdicts and their tags."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import click
from rich.text import Text

from keyhole.api import s3_access
from keyhole.cli.audit_tags import refuse_without_tags, write_owed_tags
from keyhole.cli.aws_options import aws_options
from keyhole.cli.backend import backend, is_embedded
from keyhole.cli.errors import (
    ALL_SAFE,
    SOME_NOT_SAFE,
    UNDECIDED,
    USAGE,
    CommandError,
    load_settings,
    one_line_errors,
)
from keyhole.cli.output import Output, output_options
from keyhole.cli.terminal import SafeConsole, busy
from keyhole.cli.worker_note import tell_if_no_worker
from keyhole.errors import KeyholeError
from keyhole.fleet.services import use_settings
from keyhole.inspectors.text import shown
from keyhole.intake.listing import list_objects
from keyhole.jobs.queues import HOUSEKEEPING
from keyhole.jobs.tag_debts import TagDebts
from keyhole.reports.figures import counted
from keyhole.results.redis_store import RedisStore
from keyhole.results.tags import STATUS
from keyhole.results.verification import (
    Agreement,
    Code,
    Difference,
    Verification,
    compare,
    correction,
    look,
)
from keyhole.settings import Settings
from keyhole.sources.errors import SourceError
from keyhole.sources.retries import retried
from keyhole.sources.s3_uri import S3Uri, parse_s3_uri
from keyhole.store.connection import connect

STYLES = {Agreement.AGREE: "green", Agreement.DIFFER: "bold red", Agreement.UNKNOWN: "magenta"}
#: If an object differs from its verdict or its tags, the command compares the object this many times. During
#: the first comparison, a worker may have written the tags of a new verdict, but not yet recorded the
#: verdict.
READINGS = 2


#: The objects below a prefix are compared and printed in groups of this size.
GROUP = 1000


@click.command("verify")
@click.argument("uris", nargs=-1, required=True, metavar="S3-URI...")
@click.option("-r", "--recursive", is_flag=True, help="Compare everything below a prefix.")
@click.option("--version-id", help="The version of the object, only with one object; by default the latest.")
@click.option("--fix-tags", is_flag=True, help="Let workers correct tags that are missing or wrong.")
@output_options(
    without=("csv", "sarif", "markdown"),
    wide=False,
    quiet_help="Print only the objects that do not agree; no progress, summary or hints.",
)
@aws_options
def verify_command(
    uris: tuple[str, ...], *, recursive: bool, version_id: str | None, fix_tags: bool, output: Output
) -> None:
    """Compare objects with their verdicts and their tags.

    The command sends two requests for each object, for its ETag and its tags. If the object differs, the
    command sends both requests again. The command never reads the content of the object. For a whole bucket,
    `keyhole audit --check-tags` is cheaper.

    \b
    keyhole verify s3://images/debian.qcow2
    keyhole verify --json s3://images/a.vmdk s3://images/b.vmdk | jq .differences
    keyhole verify -r s3://images/uploads/
    keyhole verify -r -q s3://images/uploads/      only the objects that do not agree

    The JSON forms contain all objects, also with -q.

    Exit code: 0 all agree, 1 some differ, 2 wrong usage, 3 some could not be compared, because there is no
    verdict or a server did not answer. With --fix-tags, tags that are still to be corrected differ.
    """
    places = [_parsed(uri, recursive=recursive) for uri in uris]
    if version_id and (len(places) > 1 or recursive):
        raise click.UsageError("--version-id can only be used with one object")
    settings = load_settings()
    if fix_tags:
        refuse_without_tags(settings, "redis")
    with one_line_errors(), backend(settings, work=False) as ready:
        use_settings(ready)
        verifier = _Verifier(ready, fix_tags=fix_tags)
        found = _compared(_below(places, ready) if recursive else iter(places), verifier, version_id, ready)
        states, ended = _print(found, output)
        if verifier.corrects:
            if is_embedded(settings):
                write_owed_tags()
            else:
                tell_if_no_worker(output.tell, HOUSEKEEPING, waits=False)
    if not states:
        raise CommandError("there are no objects; check the prefix")
    if output.is_table and not output.quiet and states.total() > 1:
        click.echo(_told(states, ended))
    sys.exit(_exit_code(states))


def _below(places: Sequence[S3Uri], settings: Settings) -> Iterator[S3Uri]:
    """Yield the objects below prefixes."""
    client = s3_access(settings).client
    for place in places:
        for listed in list_objects(client, place.bucket, place.key):
            yield S3Uri(place.bucket, listed.key)


def _compared(
    places: Iterator[S3Uri], verifier: "_Verifier", version_id: str | None, settings: Settings
) -> Iterator[Verification]:
    """Yield the results for objects in their order. Several objects are compared at the same time."""
    with ThreadPoolExecutor(settings.scan_threads, thread_name_prefix="verify") as pool:
        while group := list(islice(places, GROUP)):
            with busy(f"comparing {counted(len(group), 'object')}"):
                found = list(pool.map(lambda place: verifier(place, version_id), group))
            yield from found


def _print(found: Iterator[Verification], output: Output) -> tuple[Counter[Agreement], int]:
    """Print the results, and return the number of objects in each state, and of those with ended waivers."""
    console = SafeConsole(soft_wrap=True)
    states: Counter[Agreement] = Counter()
    ended = 0
    for number, one in enumerate(found):
        states[one.state] += 1
        ended += bool(one.ended_waivers)
        if output.is_table:
            if not output.quiet or one.state is not Agreement.AGREE:
                console.print(_line(one))
        elif output.form == "jsonl":
            click.echo(one.model_dump_json(ensure_ascii=True))
        else:
            click.echo(("," if number else "[") + "\n" + one.model_dump_json(ensure_ascii=True), nl=False)
    if output.form == "json":
        click.echo("\n]" if states else "[]")
    return states, ended


class _Verifier:
    """Compares objects with their verdicts and tags. Call the instance with an object to get the result."""

    def __init__(self, settings: Settings, *, fix_tags: bool) -> None:
        client = connect(str(settings.redis_url))
        self._s3 = s3_access(settings).client
        self._store = RedisStore(
            client,
            expiry_seconds=settings.record_seconds or None,
            stream_length=settings.stream_length,
        )
        self._debts = TagDebts(client)
        self._sinks = settings.sinks
        self._fix_tags = fix_tags
        #: Whether tags of an object are to be corrected.
        self.corrects = False

    def __call__(self, place: S3Uri, version_id: str | None) -> Verification:
        """Return the result for one object. If the object differs, compare the object again."""
        for reading in range(READINGS):
            found = self._read(place, version_id, fix=self._fix_tags and reading == READINGS - 1)
            if found.state is not Agreement.DIFFER:
                break
        return found

    def _read(self, place: S3Uri, version_id: str | None, *, fix: bool) -> Verification:
        try:
            seen = retried(partial(look, self._s3, place.bucket, place.key, version_id))
            version_id = version_id if seen is None else seen.version_id
            report = self._store.get(place.bucket, place.key, version_id) if "redis" in self._sinks else None
        except KeyholeError as error:
            code = Code.OBJECT_UNREADABLE if isinstance(error, SourceError) else Code.NO_VERDICT
            return Verification.of(str(place), None, None, (Difference(code=code, message=str(error)),))
        differences = compare(seen, report, records="redis" in self._sinks, tags="tags" in self._sinks)
        debt = correction(place, seen, report, differences) if fix else None
        owed = self._debts.owed(place.bucket, place.key, version_id)
        if owed is not None and owed.since is not None and differences:
            since = owed.since.isoformat(timespec="seconds")
            message = f"its tags could not be written since {since}: {owed.history}"
            differences = (*differences, Difference(code=Code.TAGS_OWED, message=message))
        if debt is not None:
            self._debts.record(debt)
            self.corrects = True
            owing = Difference(code=Code.TAGS_OWED, message="the tags will be corrected")
            differences = (*differences, owing)
        return Verification.of(str(place), seen, report, differences)


def _line(found: Verification) -> Text:
    text = Text(f"{found.state.value:8}", style=STYLES[found.state])
    text.append(f"{shown(found.target)}: ", style="default")
    if found.differences:
        told = "; ".join(difference.message for difference in found.differences)
        if found.target.endswith("/") and found.differences[0].code is Code.NO_OBJECT:
            told += "; to compare everything below it, add -r"
    else:
        told = found.status.value if found.status else f"{found.tags[STATUS]}, according to its tags"
    text.append(shown(told), style="default")
    if found.ended_waivers:
        waivers = f"; the waiver of {' and of '.join(found.ended_waivers)} has ended"
        text.append(f"{waivers}, and the next audit scans the object again", style="yellow")
    return text


def _told(states: Counter[Agreement], ended: int) -> str:
    """Return one line with the number of objects in each state, and of objects whose waivers have ended."""
    counts = [f"{states[state]:,} {state.value}" for state in STYLES if states[state]]
    line = f"{counted(states.total(), 'object')}: {', '.join(counts)}"
    return line + (f"; the verdicts on {ended:,} depend on waivers that have ended" if ended else "")


def _exit_code(states: Counter[Agreement]) -> int:
    if states[Agreement.DIFFER]:
        return SOME_NOT_SAFE
    return UNDECIDED if states[Agreement.UNKNOWN] else ALL_SAFE


def _parsed(uri: str, *, recursive: bool) -> S3Uri:
    try:
        place = parse_s3_uri(uri)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    if not place.key and not recursive:
        raise CommandError(f"{uri} is a bucket; add -r to compare everything in it", USAGE)
    return place
