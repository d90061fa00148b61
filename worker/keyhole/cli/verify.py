"""`keyhole verify`: compares objects with their verdicts and their tags."""

import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import click
from rich.text import Text

from keyhole.api import s3_access
from keyhole.cli.aws_options import aws_options
from keyhole.cli.backend import backend
from keyhole.cli.errors import (
    ALL_SAFE,
    SOME_NOT_SAFE,
    UNDECIDED,
    USAGE,
    CommandError,
    load_settings,
    one_line_errors,
)
from keyhole.cli.terminal import SafeConsole, busy
from keyhole.errors import KeyholeError
from keyhole.inspectors.text import shown
from keyhole.jobs.tag_debts import TagDebts
from keyhole.reports.figures import counted
from keyhole.results.redis_store import RedisStore
from keyhole.results.tags import STATUS
from keyhole.results.verification import Agreement, Code, Difference, Verification, compare, look
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


@click.command("verify")
@click.argument("uris", nargs=-1, required=True, metavar="S3-URI...")
@click.option("--version-id", help="The version of the object, only with one object; by default the latest.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, and nothing else.")
@aws_options
def verify_command(uris: tuple[str, ...], *, version_id: str | None, as_json: bool) -> None:
    """Compare objects with their verdicts and their tags.

    The command sends two requests for each object, for its ETag and its tags. If the object differs, the
    command sends both requests again. The command never reads the content of the object.

    \b
    keyhole verify s3://images/debian.qcow2
    keyhole verify --json s3://images/a.vmdk s3://images/b.vmdk | jq .differences

    Exit code: 0 all agree, 1 some differ, 2 wrong usage, 3 some could not be compared, because there is no
    verdict or a server did not answer.
    """
    places = [_parsed(uri) for uri in uris]
    if version_id and len(places) > 1:
        raise click.UsageError("--version-id can only be used with one object")
    settings = load_settings()
    with one_line_errors(), backend(settings, work=False) as ready:
        verifier = _Verifier(ready)
        with (
            busy(f"comparing {counted(len(places), 'object')}"),
            ThreadPoolExecutor(ready.scan_threads, thread_name_prefix="verify") as pool,
        ):
            found = list(pool.map(lambda place: verifier(place, version_id), places))
    console = SafeConsole(soft_wrap=True)
    for one in found:
        if as_json:
            click.echo(one.model_dump_json(ensure_ascii=True))
        else:
            console.print(_line(one))
    if not as_json and len(found) > 1:
        click.echo(_told(found))
    sys.exit(_exit_code(found))


class _Verifier:
    """Compares objects with their verdicts and tags. Call the instance with an object to get the result."""

    def __init__(self, settings: Settings) -> None:
        client = connect(str(settings.redis_url))
        self._s3 = s3_access(settings).client
        self._store = RedisStore(
            client,
            expiry_seconds=settings.record_seconds or None,
            stream_length=settings.stream_length,
        )
        self._debts = TagDebts(client)
        self._sinks = settings.sinks

    def __call__(self, place: S3Uri, version_id: str | None) -> Verification:
        """Return the result for one object. If the object differs, compare the object again."""
        for _ in range(READINGS):
            found = self._read(place, version_id)
            if found.state is not Agreement.DIFFER:
                break
        return found

    def _read(self, place: S3Uri, version_id: str | None) -> Verification:
        try:
            seen = retried(partial(look, self._s3, place.bucket, place.key, version_id))
            version_id = version_id if seen is None else seen.version_id
            report = self._store.get(place.bucket, place.key, version_id) if "redis" in self._sinks else None
        except KeyholeError as error:
            code = Code.OBJECT_UNREADABLE if isinstance(error, SourceError) else Code.NO_VERDICT
            return Verification.of(str(place), None, None, (Difference(code=code, message=str(error)),))
        differences = compare(seen, report, records="redis" in self._sinks, tags="tags" in self._sinks)
        owed = self._debts.owed(place.bucket, place.key, version_id)
        if owed is not None and owed.since is not None and differences:
            since = owed.since.isoformat(timespec="seconds")
            message = f"its tags could not be written since {since}: {owed.history}"
            differences = (*differences, Difference(code=Code.TAGS_OWED, message=message))
        return Verification.of(str(place), seen, report, differences)


def _line(found: Verification) -> Text:
    text = Text(f"{found.state.value:8}", style=STYLES[found.state])
    text.append(f"{shown(found.target)}: ", style="default")
    if found.differences:
        told = "; ".join(difference.message for difference in found.differences)
    else:
        told = found.status.value if found.status else f"{found.tags[STATUS]}, according to its tags"
    return text.append(shown(told), style="default")


def _told(found: Sequence[Verification]) -> str:
    """Return one line with the number of objects in each state."""
    states = Counter(one.state for one in found)
    counts = [f"{states[state]:,} {state.value}" for state in STYLES if states[state]]
    return f"{counted(len(found), 'object')}: {', '.join(counts)}"


def _exit_code(found: Sequence[Verification]) -> int:
    states = {one.state for one in found}
    if Agreement.DIFFER in states:
        return SOME_NOT_SAFE
    return UNDECIDED if Agreement.UNKNOWN in states else ALL_SAFE


def _parsed(uri: str) -> S3Uri:
    try:
        place = parse_s3_uri(uri)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    if not place.key:
        raise CommandError(f"{uri} is a bucket; name an object in it", USAGE)
    return place
