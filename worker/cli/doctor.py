"""`keyhole doctor`: what is configured, reachable and permitted, and what to do about what is not."""

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from rich.table import Table
from rich.text import Text

from worker.api import s3_access, scan_s3
from worker.cli.backend import backend, is_embedded
from worker.cli.doctor_check import checked
from worker.cli.doctor_redis import ANSWER_SECONDS, RETRIES, of_redis, of_user
from worker.cli.doctor_work import of_confinement, of_guards, of_intakes, of_work
from worker.cli.errors import ALL_SAFE, UNDECIDED, USAGE, CommandError, load_settings, one_line_errors
from worker.cli.findings import ADVICE, BAD, GOOD, Finding
from worker.cli.terminal import SafeConsole
from worker.inspectors.text import escaped, shown
from worker.intake.listing import list_objects
from worker.results.connection import connect
from worker.scan.report import Status
from worker.services import Services
from worker.settings import Settings
from worker.sources.allowed import BucketNotAllowedError
from worker.sources.errors import SourceError
from worker.sources.masking import masked
from worker.sources.s3_refusal import explain
from worker.sources.s3_uri import S3Uri, parse_s3_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STYLES = {GOOD: "green", ADVICE: "yellow", BAD: "bold red"}


@click.command("doctor")
@click.argument("uri", required=False, metavar="[S3-URI]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, and nothing else.")
def doctor_command(*, uri: str | None, as_json: bool) -> None:
    """Say what is configured, reachable and permitted.

    Of what is not, it says what to do about it.

    \b
    keyhole doctor
    keyhole doctor s3://images/debian.qcow2    also tries what a scan of it takes
    keyhole doctor s3://images/                tries it on the first object there

    It changes nothing. Exit code: 0 nothing is bad, 3 something is.
    """
    try:
        place = parse_s3_uri(uri) if uri else None
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    settings = load_settings()
    findings = [*checked("settings", lambda: _settings(settings))]
    try:
        with one_line_errors():
            # One by one, so that what was found is kept.
            for finding in _services(settings):
                findings.append(finding)  # noqa: PERF402 - as said
    except CommandError as error:
        if error.exit_code == USAGE:
            raise
        findings.append(Finding("redis", BAD, str(error)))
    findings += checked("s3", lambda: _s3(settings))
    if place is not None:
        # A scan has a budget of seconds.
        findings += checked("bucket", lambda: _bucket(settings, place), silence=None)
    findings = [finding._replace(message=masked(finding.message)) for finding in findings]
    if as_json:
        import json

        for finding in findings:
            click.echo(json.dumps(finding._asdict()))
    else:
        SafeConsole().print(_table(findings))
    sys.exit(UNDECIDED if any(finding.state == BAD for finding in findings) else ALL_SAFE)


def _settings(settings: Settings) -> Iterator[Finding]:
    names = {f"KEYHOLE_{name.upper()}" for name in Settings.model_fields}
    chosen = sorted(name for name in os.environ if name in names)
    yield Finding("settings", GOOD, ", ".join(chosen) or "none set; the defaults are used")
    for name in sorted(name for name in os.environ if name.startswith("KEYHOLE_") and name not in names):
        yield Finding("settings", BAD, f"{name} is no setting; correct its spelling or unset it")
    if "tags" not in settings.sinks:
        yield Finding(
            "sinks", GOOD, "verdicts go to Redis; set KEYHOLE_SINKS=redis,tags for object tags, too"
        )
    elif "redis" not in settings.sinks:
        yield Finding(
            "sinks", ADVICE, "verdicts go to tags only; `keyhole results` and --wait need redis, too"
        )
    yield from of_guards(settings)
    yield of_confinement(Services(settings, os.getpid()))
    yield from of_intakes(settings)


def _services(settings: Settings) -> Iterator[Finding]:
    """Of Redis, the work and the broker. What one of them does not tell hides nothing of the others."""
    from worker.app import app, configure
    from worker.cli.doctor_broker import of_broker

    if is_embedded(settings):
        yield Finding(
            "redis", GOOD, f"embedded, data in {settings.data_dir}; for production set KEYHOLE_REDIS_URL"
        )
    with backend(settings, work=False) as ready:
        configure(ready)
        url = str(ready.redis_url)
        with connect(url, answer_seconds=ANSWER_SECONDS, retries=RETRIES) as client:
            of_server = list(checked("redis", lambda: of_redis(client, url)))
            is_broker = ready.broker_url in {None, ready.redis_url}
            of_server += checked("redis user", lambda: of_user(client, is_broker=is_broker))
        yield from of_server
        if of_server[0].state == GOOD:
            services = Services(ready, os.getpid(), impatient=True)
            yield from checked("work", lambda: of_work(services, limit=app.conf.task_time_limit))
        yield from checked("broker", lambda: of_broker(ready, embedded=is_embedded(settings)))


def _s3(settings: Settings) -> Iterator[Finding]:
    access = s3_access(settings)
    try:
        client = access.client
        method = access.credentials_from
    except SourceError as error:
        yield Finding("s3", BAD, str(error).removesuffix("; see `keyhole doctor`"))
        return
    yield Finding("s3", GOOD, f"{client.meta.endpoint_url}, region {client.meta.region_name}")
    if method is None:
        advice = (
            "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a role is attached"
        )
        yield Finding("credentials", BAD, f"none found: {advice}")
    else:
        yield Finding("credentials", GOOD, f"found by {method}")


def _bucket(settings: Settings, place: S3Uri) -> Iterator[Finding]:
    key = place.key
    if not settings.allowed_buckets.allow(place.bucket):
        yield Finding("bucket", BAD, str(BucketNotAllowedError(place.bucket)))
        return
    try:
        client = s3_access(settings).client
    except SourceError:
        return  # it was told of already
    try:
        first = next(list_objects(client, place.bucket, place.key), None)
    except SourceError as error:
        if error.reason == "access_denied":
            advice = "it takes s3:ListBucket, for -r and to tell missing from denied"
            yield Finding("list", ADVICE, f"{error}; {advice}")
        else:
            yield Finding("list", BAD, str(error))
    else:
        yield Finding("list", GOOD, f"s3://{place.bucket}/ can be listed")
        if not key or key.endswith("/"):
            key = first.key if first else ""
    if not key or key.endswith("/"):
        yield Finding("read", ADVICE, "not tried: there is no object; name one")
        return
    report = scan_s3(s3_access(settings), place.bucket, key, None, settings.scan)
    if report.status in {Status.UNREADABLE, Status.FAILED}:
        yield Finding("read", BAD, f"{shown(key)}: {report.details.get('error')}")
        return
    yield Finding("read", GOOD, f"{shown(key)}: {report.status}, {report.requests} requests")
    yield from _tags(client, place.bucket, key, wanted="tags" in settings.sinks)


def _tags(client: "S3Client", bucket: str, key: str, *, wanted: bool) -> Iterator[Finding]:
    try:
        count = len(client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"])
    except (ClientError, BotoCoreError, HTTPClientError) as error:
        state = BAD if wanted else ADVICE
        yield Finding("tags", state, f"cannot be read ({explain(error)}); it takes s3:GetObjectTagging")
        return
    yield Finding(
        "tags", GOOD, f"{count} of 10 in use; writing (s3:PutObjectTagging) is not tried, for it changes them"
    )


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for what, state, message in findings:
        table.add_row(Text(what), Text(state, style=STYLES[state]), Text(escaped(message)))
    return table
