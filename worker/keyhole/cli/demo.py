"""`keyhole demo`: runs all parts of Keyhole on this machine."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from keyhole.cli.errors import CommandError, one_line_errors
from keyhole.cli.output import Output
from keyhole.cli.render import STYLES
from keyhole.cli.service import last_words
from keyhole.cli.terminal import SafeConsole
from keyhole.cli.verdicts import print_verdicts
from keyhole.embedded.processes import worker_process
from keyhole.embedded.valkey import embedded_valkey
from keyhole.inspectors.text import shown
from keyhole.intake.audits.audit import Audit, AuditSpec
from keyhole.reasons import Status
from keyhole.reports.figures import share, size
from keyhole.scan.report import Report
from keyhole.settings import Settings

#: The number of worker processes: two, to show that processes share the work.
PROCESSES = 2
#: The prefix of the sample objects about which the bucket sends events to Keyhole. The demo submits the other
#: samples as jobs.
UPLOADS = "uploads/"
#: If no verdict arrives for this many milliseconds, the demo checks that the worker still runs.
SILENCE_MS = 500


@click.command("demo")
@click.option("--json", "as_json", is_flag=True, help="Print only the verdicts, one JSON object per line.")
def demo_command(*, as_json: bool) -> None:
    """Scan sample images, some of them hostile, with real workers.

    The demo starts a Valkey, an S3 server and a worker, and puts sample images into a bucket. It submits some
    of the images as jobs, and receives events of the bucket about the others. Then an audit of the bucket
    finds that all images have verdicts. The demo prints the verdicts, and the tags that the worker wrote. It
    needs no network and no setup, deletes everything that it created, and takes less than a minute.

    \b
    keyhole demo
    keyhole demo --json | jq 'select(.status != "safe") | .key, .reasons'
    """
    console = SafeConsole()
    notes = SafeConsole(stderr=True, quiet=as_json)
    with one_line_errors(), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyhole-demo-")))
        reports, tags, audit = _run(folder, notes, stack)
        if as_json:
            for report in reports:
                click.echo(report.model_dump_json(ensure_ascii=True))
        else:
            print_verdicts(reports, Output(quiet=True), console)
            console.print(_summary(reports))
            console.print(_came(reports, audit))
            console.print(_tag_table(tags))
        if any(report.status is Status.FAILED for report in reports):
            raise CommandError("some scans failed; their reasons are above")


def _run(
    folder: Path, notes: Console, stack: ExitStack
) -> tuple[list[Report], dict[str, dict[str, str]], Audit]:
    """Start the servers and the worker, and scan the samples.

    Return the verdicts, a mapping from the key of each object to its tags, and the audit of the bucket.
    """
    try:
        from keyhole.demo.local_s3 import BUCKET, CREDENTIALS, demo_client, local_s3, notify, put
        from keyhole.demo.samples import SAMPLES

        endpoint = stack.enter_context(local_s3())
    except ImportError:
        raise CommandError("the demo needs further packages: pip install 'keyhole[embedded]'") from None
    stack.enter_context(_environment(CREDENTIALS))
    url = stack.enter_context(embedded_valkey(folder))
    settings = Settings(
        redis_url=url, broker_url=url, s3_endpoint_url=endpoint, sinks=("redis", "tags"), data_dir=folder
    )
    notes.print(f"Valkey at {url}, S3 at {endpoint}, a worker with {PROCESSES} processes.", highlight=False)
    worker = stack.enter_context(worker_process(settings, folder / "worker.log", concurrency=PROCESSES))
    client = demo_client(endpoint)
    client.create_bucket(Bucket=BUCKET)
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
        bar = progress.add_task("scanning", total=len(SAMPLES))
        reports = []
        for report in _scan(settings, [sample.key for sample in SAMPLES], BUCKET, queue):
            if report is None:
                if worker.poll() is not None:
                    raise CommandError(f"the worker ended: {last_words(folder / 'worker.log')}")
                continue
            progress.advance(bar)
            reports.append(report)
        audit = _audit(BUCKET)
    tags = {}
    for sample in SAMPLES:
        answer = client.get_object_tagging(Bucket=BUCKET, Key=sample.key)
        tags[sample.key] = {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}
    order = {sample.key: place for place, sample in enumerate(SAMPLES)}
    return sorted(reports, key=lambda report: order[str(report.key)]), tags, audit


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


def _summary(reports: list[Report]) -> Text:
    requests = sum(report.requests for report in reports)
    read = sum(report.bytes_read for report in reports)
    stored = sum(report.size or 0 for report in reports)
    virtual = sum(report.virtual_size or 0 for report in reports)
    return Text(
        f"\n{len(reports)} objects, {size(virtual)} of disks in {size(stored)}: "
        f"{requests} requests, {size(read)} read ({share(read, stored)}).\n"
    )


def _came(reports: list[Report], audit: Audit) -> Text:
    told = sum(str(report.key).startswith(UPLOADS) for report in reports)
    totals = audit.totals
    return Text(
        f"{len(reports) - told} were submitted, S3's events reported {told}. An audit of the bucket then "
        f"found {totals.unchanged} of {totals.listed} unchanged: {totals.lists} LIST, "
        f"{totals.scanned} scanned.\n"
    )


def _tag_table(tags: dict[str, dict[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.title = "Tags, as S3 returns them"
    table.title_justify = "left"
    table.add_column("object", overflow="fold", ratio=1)
    table.add_column("tags", overflow="fold", ratio=2)
    for key, values in tags.items():
        status = values.get("keyhole-status")
        text = Text("\n").join(Text(f"{name}={value}") for name, value in sorted(values.items()))
        if status in set(Status):
            text.highlight_words([f"keyhole-status={status}"], STYLES[Status(status)])
        table.add_row(Text(shown(key)), text)
    return table
