"""`keyhole doctor`: checks the configuration, the servers and the permissions, and gives advice."""

import os
import sys
from collections.abc import Iterator
from functools import partial

import click
from rich.table import Table
from rich.text import Text

from keyhole.cli.aws_options import aws_options
from keyhole.cli.backend import backend, is_embedded
from keyhole.cli.doctor_check import Check, checked
from keyhole.cli.doctor_events import of_events
from keyhole.cli.doctor_redis import of_redis, of_user
from keyhole.cli.doctor_s3 import Reading, of_listing, of_s3, of_tags, why_not_tried
from keyhole.cli.doctor_sinks import of_choice, of_sink
from keyhole.cli.doctor_traces import of_traces
from keyhole.cli.errors import (
    ALL_SAFE,
    UNDECIDED,
    USAGE,
    CommandError,
    exit_code_of,
    load_settings,
    one_line_errors,
)
from keyhole.cli.findings import ADVICE, BAD, GOOD, Finding
from keyhole.cli.terminal import SafeConsole, busy
from keyhole.errors import KeyholeError
from keyhole.fleet.services import Services
from keyhole.inspectors.text import escaped
from keyhole.masking import masked
from keyhole.settings import Settings
from keyhole.settings.unknown import is_other
from keyhole.sources.s3_uri import S3Uri, parse_s3_uri

#: A finding that begins with one of these texts means that Keyhole cannot use the Redis, so the doctor runs
#: no further checks of this Redis.
OF_NO_USE = ("this is a sentinel", "this Redis belongs to a cluster")
STYLES = {GOOD: "green", ADVICE: "yellow", BAD: "bold red"}


@click.command("doctor")
@click.argument("uri", required=False, metavar="[S3-URI]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, and nothing else.")
@aws_options
def doctor_command(*, uri: str | None, as_json: bool) -> None:
    """Check what is configured, reachable and permitted.

    For every problem, the command prints what to do. It changes nothing.

    \b
    keyhole doctor
    keyhole doctor s3://images/debian.qcow2    also tries to read this object and its tags
    keyhole doctor s3://images/                also tries to list, and to read the first object

    Exit code: 0 there is no problem, 3 there is a problem.
    """
    try:
        place = parse_s3_uri(uri) if uri else None
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    settings = load_settings()
    with busy("checking"):
        findings = _findings(settings, place)
    if as_json:
        import json

        for finding in findings:
            click.echo(json.dumps(finding._asdict()))
    else:
        SafeConsole().print(_table(findings))
    sys.exit(UNDECIDED if any(finding.state == BAD for finding in findings) else ALL_SAFE)


def _findings(settings: Settings, place: S3Uri | None) -> list[Finding]:
    """Run all checks, and return their findings. `place` is the bucket or object that the user named."""
    # Import Celery after the settings have been validated, and before the checks start. The checks run in
    # threads, and two threads must not import Celery at the same time.
    import keyhole.fleet.pool_process  # noqa: F401 - for the checks, see above

    first = [
        Check("settings", lambda: _settings(settings)),
        Check("events", lambda: of_events(settings)),
        Check("s3", lambda: of_s3(settings)),
    ]
    sinks = [Check(f"sink {name}", partial(of_sink, settings, name)) for name in settings.event_sinks]
    traces = [Check("traces", of_traces)] if settings.traces else []
    services = _services(settings)
    stated, events, s3 = (list(check.findings()) for check in first)
    findings = [*stated, *services, *events, *s3]
    findings += [finding for check in (*sinks, *traces) for finding in check.findings()]
    if place is not None and s3 and s3[0].state == GOOD:
        findings += _bucket(settings, place)
    return [finding._replace(message=masked(finding.message)) for finding in findings]


def _settings(settings: Settings) -> Iterator[Finding]:
    # The command itself reads KEYHOLE_DEBUG.
    names = {*(f"KEYHOLE_{name.upper()}" for name in Settings.model_fields), "KEYHOLE_DEBUG"}
    others = {name for name, value in os.environ.items() if is_other(name.lower(), value)}
    chosen = sorted(name for name in os.environ if name in names)
    yield Finding("settings", GOOD, ", ".join(chosen) or "none set; the defaults are used")
    for name in sorted({name for name in os.environ if name.startswith("KEYHOLE_")} - names - others):
        yield Finding("settings", BAD, f"{name} is not a setting; correct its spelling or unset it")
    yield from of_choice(settings)
    from keyhole.cli.doctor_work import of_confinement, of_guards, of_policy, of_schedules

    yield from of_policy(settings)
    yield from of_guards(settings)
    yield of_confinement(Services(settings, os.getpid()))
    yield from of_schedules(settings)


def _services(settings: Settings) -> list[Finding]:
    """Return findings on Redis, the broker and the jobs. If one check fails, the other checks still run."""
    findings = []
    if is_embedded(settings):
        findings.append(
            Finding(
                "redis", GOOD, f"embedded, data in {settings.data_dir}; for production set KEYHOLE_REDIS_URL"
            )
        )
    try:
        with one_line_errors(), backend(settings, work=False, look=False) as ready:
            findings += _servers(ready, embedded=is_embedded(settings))
    except KeyholeError as error:
        if exit_code_of(error) == USAGE:
            raise
        findings.append(Finding("redis", BAD, str(error)))
    return findings


def _servers(settings: Settings, *, embedded: bool) -> list[Finding]:
    """Return findings on Redis and the broker.

    If Keyhole can use these servers, also return findings on the Redis users, the jobs, the queues and the
    workers.
    """
    from keyhole.app import app, configure
    from keyhole.cli import doctor_broker
    from keyhole.cli.doctor_work import of_work

    configure(settings)
    doctor_broker.be_impatient()
    url, broker_url = str(settings.redis_url), str(settings.broker_url or settings.redis_url)
    one = broker_url == url
    answering = doctor_broker.Answering(settings)
    first = (
        Check("redis", lambda: of_redis(url, is_broker=one)),
        Check("broker", answering.findings, why_late=answering.why_late),
    )
    redis, broker = (list(check.findings()) for check in first)
    checks = []
    if _is_usable(redis):
        services = Services(settings, os.getpid(), short_timeouts=True)
        checks += [
            ("redis user", lambda: of_user(url, what="redis user", is_broker=one)),
            ("work", lambda: of_work(services, limit=app.conf.task_time_limit)),
        ]
    if _is_usable(broker) and (_is_usable(redis) or not one):
        checks += [
            ("queue", lambda: doctor_broker.of_queues(settings)),
            ("workers", lambda: doctor_broker.of_workers(embedded=embedded)),
        ]
        if not one and broker_url.partition(":")[0] in doctor_broker.REDIS:
            checks += [("broker user", lambda: of_user(broker_url, what="broker user", is_broker=True))]
    found = dict(zip((what for what, _ in checks), checked(*checks), strict=True))
    return [
        *redis,
        *found.get("redis user", ()),
        *found.get("work", ()),
        *broker,
        *found.get("broker user", ()),
        *found.get("queue", ()),
        *found.get("workers", ()),
    ]


def _is_usable(findings: list[Finding]) -> bool:
    """Return whether a server answers and Keyhole can use it, so that the doctor can run further checks."""
    answers = bool(findings) and findings[0].state != BAD
    return answers and not any(finding.message.startswith(OF_NO_USE) for finding in findings)


def _bucket(settings: Settings, place: S3Uri) -> list[Finding]:
    """Return findings on whether Keyhole can list objects, read an object, and read its tags."""
    refused = why_not_tried(settings, place)
    if refused is not None:
        return [refused]
    bucket, key = place.bucket, place.key
    keys: list[str] = []
    (findings,) = checked(("list", lambda: of_listing(settings, place, keys)))
    if not key or key.endswith("/"):
        key = next(iter(keys), "")
    if not key or key.endswith("/"):
        return [*findings, Finding("read", ADVICE, "not tried: there is no object; name one")]
    reading = Reading(settings, bucket, key)
    read = list(Check("read", reading.findings, why_late=reading.why_late).findings())
    findings += read
    if all(finding.state == GOOD for finding in read):
        (tags,) = checked(("tags", lambda: of_tags(settings, bucket, key)))
        findings += tags
    return findings


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for what, state, message in findings:
        table.add_row(Text(what), Text(state, style=STYLES[state]), Text(escaped(message)))
    return table
