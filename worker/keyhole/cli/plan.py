"""`keyhole plan`: predicts what an audit will cost and how long it will take, from a few numbers."""

import json
from datetime import timedelta

import click
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from keyhole.cli.errors import USAGE, CommandError, load_settings
from keyhole.cli.parsed import parsed
from keyhole.cli.quantities import parse_count, parse_gets, parse_rate, parse_time
from keyhole.cli.terminal import SafeConsole
from keyhole.inspectors.text import shown
from keyhole.intake.audits import plan as model
from keyhole.intake.audits.plan import Kept, Plan
from keyhole.intake.audits.prices import load_prices
from keyhole.intake.audits.speed import Resource
from keyhole.intake.audits.walls import Wall, walls
from keyhole.intake.audits.workload import MEAN_BYTES, MEAN_CPU_SECONDS, MEAN_GETS, Fleet, Work
from keyhole.intake.listing import ARCHIVED_CLASSES
from keyhole.reports.figures import counted, dollars, duration, size
from keyhole.scan.sizes import parse_size
from keyhole.settings import Settings

YEAR_SECONDS = 365.25 * 86_400
#: The printed name of each resource that can limit the speed of an audit.
RESOURCES = {
    Resource.RATE: "the audit's rate limit",
    Resource.LATENCY: "S3's latency and the threads",
    Resource.CPU: "the processors",
    Resource.S3_READS: "S3's reads for each prefix",
    Resource.S3_WRITES: "S3's writes for each prefix",
    Resource.LISTING: "the listing",
    Resource.REDIS: "the processor of Redis",
}


@click.command("plan")
@click.option(
    "--objects",
    type=parsed("COUNT", parse_count),
    required=True,
    help="The number of objects, such as 2M or 1e9.",
)
@click.option("--workers", type=click.IntRange(1, 100_000), required=True, help="Worker processes.")
@click.option(
    "--threads", type=click.IntRange(1, 256), help="Threads of a process; by default KEYHOLE_SCAN_THREADS."
)
@click.option(
    "--ttfb",
    type=parsed("TIME", parse_time),
    default="30ms",
    show_default=True,
    help="Average time from a request to the first byte of S3's answer.",
)
@click.option(
    "--gets",
    type=parsed("NUMBER", parse_gets),
    default=f"{MEAN_GETS:g}",
    show_default=True,
    help="Average GETs per object.",
)
@click.option(
    "--bytes",
    "bytes_",
    type=parsed("SIZE", parse_size),
    default=f"{MEAN_BYTES // 1024}KiB",
    show_default=True,
    help="Average bytes read per object.",
)
@click.option(
    "--cpu",
    type=parsed("TIME", parse_time),
    default=f"{MEAN_CPU_SECONDS * 1000:g}ms",
    show_default=True,
    help="Average CPU time of a worker process per object.",
)
@click.option(
    "--prefixes",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Prefixes that are audited at the same time, each by its own audit.",
)
@click.option(
    "--rate",
    type=parsed("RATE", parse_rate),
    help="Limit of requests per second to the bucket; 0: none; by default KEYHOLE_AUDIT_RATE.",
)
@click.option(
    "--tags/--no-tags", default=None, help="Whether verdicts are written as tags; by default KEYHOLE_SINKS."
)
@click.option("--owners", is_flag=True, help="The audit finds the owners of objects (--owner-tag).")
@click.option("--storage-class", default="STANDARD", show_default=True, help="Storage class of the objects.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan_command(*, as_json: bool, **options: object) -> None:
    """Predict requests, dollars, hours and memory of an audit, without accessing S3 or Redis.

    \b
    keyhole plan --objects 1e9 --workers 50 --ttfb 30ms
    keyhole plan --objects 20M --workers 8 --rate 2000 --tags
    KEYHOLE_AUDIT_OUTSTANDING=60 keyhole plan --objects 1e9 --workers 50 --rate 0

    The plan is for a first audit, in which no object has a verdict yet. If the audit scans every version of
    the objects, count every version in --objects. If the audit selects objects, for example with --suffix or
    --sample, `keyhole audit --dry-run` estimates that audit. The command also uses the settings that limit
    audits, the settings for what Redis stores, and the price table. `keyhole docs cost` explains the
    calculation, and what limits the speed of an audit.
    """
    settings = load_settings()
    found = _plan(settings, options)
    met = walls(found)
    if as_json:
        click.echo(json.dumps(_as_json(found, met)))
    else:
        _print(found, met)


def _plan(settings: Settings, options: dict[str, object]) -> Plan:
    if options["storage_class"] in ARCHIVED_CLASSES:
        message = f"audits do not read objects of {options['storage_class']} unless they are restored"
        raise CommandError(message, USAGE)
    threads, rate, tags = options["threads"], options["rate"], options["tags"]
    work = Work.model_validate(
        {
            **{name: options[name] for name in ("objects", "gets", "owners", "storage_class")},
            "bytes": options["bytes_"],
            "cpu_seconds": options["cpu"],
            "ttfb_seconds": options["ttfb"],
            "tags": "tags" in settings.sinks if tags is None else tags,
        }
    )
    fleet = Fleet.model_validate(
        {
            "processes": options["workers"],
            "threads": settings.scan_threads if threads is None else threads,
            "prefixes": options["prefixes"],
            "rate": settings.audit_rate if rate is None else rate,
            "outstanding": settings.audit_outstanding,
            "batch_size": settings.batch_size,
        }
    )
    kept = Kept(
        records="redis" in settings.sinks,
        record_seconds=settings.record_seconds,
        stream_length=settings.stream_length,
        done_seconds=settings.done_seconds,
    )
    return model.plan(work, fleet, kept, load_prices(settings.prices))


def _as_json(plan: Plan, met: tuple[Wall, ...]) -> dict[str, object]:
    return {
        **plan.model_dump(mode="json"),
        "requests": plan.spending.requests,
        "bits_per_second": round(plan.bits_per_second),
        "bound": plan.bound.value,
        "memory_total": plan.memory.total,
        "walls": [wall._asdict() for wall in met],
    }


def _print(plan: Plan, met: tuple[Wall, ...]) -> None:
    console = SafeConsole()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(plan):
        table.add_row(name, Text(value))
    console.print(table)
    speeds = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    speeds.add_column("at most", no_wrap=True)
    speeds.add_column("objects/s", justify="right")
    for ceiling in plan.ceilings:
        speeds.add_row(RESOURCES[ceiling.resource], _speed(ceiling.objects_per_second))
    console.print()
    console.print(speeds)
    console.print()
    console.print(Text("What limits this plan", style="bold"))
    for wall in met:
        console.print(_indented(f"{wall.message[0].upper()}{wall.message[1:]}.", 2))
        console.print(_indented(f"What to do: {wall.advice}.", 4))
    console.print()
    console.print(Text("What the plan assumes", style="bold"))
    for line in _assumptions(plan):
        console.print(_indented(line, 2))


def _indented(text: str, columns: int) -> Padding:
    return Padding(Text(text), (0, 0, 0, columns), expand=False)


def _rows(plan: Plan) -> list[tuple[str, str]]:
    spending, memory = plan.spending, plan.memory
    requests = [
        ("LIST requests", spending.lists),
        ("GET requests", spending.gets),
        ("HEAD requests", spending.heads),
        ("tag reads", spending.tag_reads),
        ("tag writes", spending.tag_writes),
    ]
    parts = [
        ("verdicts", memory.records),
        ("indexes", memory.indexes),
        ("stream", memory.stream),
        ("the audit's list", memory.audit_rows),
        ("jobs", memory.jobs),
    ]
    speed = f"{_speed(plan.objects_per_second)} objects per second"
    hours = f"{_length(plan.seconds)} ({plan.seconds / 3600:,.1f} hours)"
    return [
        ("objects", f"{plan.work.objects:,}"),
        *((name, f"{count:,}") for name, count in requests if count),
        ("read", f"{size(spending.bytes_read)}, at {plan.bits_per_second / 1e9:,.2f} Gbit/s"),
        ("dollars", dollars(spending.dollars)),
        ("time", f"{hours}, at {speed}, limited by {RESOURCES[plan.bound]}"),
        ("Redis memory", size(memory.total)),
        *((f"  {name}", size(count)) for name, count in parts if count),
    ]


def _speed(objects_per_second: float) -> str:
    return f"{objects_per_second:,.0f}" if objects_per_second >= 10 else f"{objects_per_second:.2g}"


def _length(seconds: float) -> str:
    years = seconds / YEAR_SECONDS
    # A `timedelta` cannot represent the longest durations.
    return f"{years:,.0f} years" if years > 100 else duration(timedelta(seconds=seconds))


def _assumptions(plan: Plan) -> list[str]:
    work, fleet = plan.work, plan.fleet
    each = (
        f"{work.gets:g} GETs, {size(work.bytes)}, {work.ttfb_seconds * 1e3:g} ms to the first byte of each "
        f"answer, {work.cpu_seconds * 1e3:g} ms of CPU time"
    )
    batches = f"{counted(fleet.outstanding, 'batch', 'batches')} of {counted(fleet.batch, 'object')}"
    workers = (
        f"{counted(fleet.processes, 'process', 'processes')} with one core each and "
        f"{counted(fleet.threads, 'thread')}, {counted(fleet.prefixes, 'audit')} with at most {batches} in "
        f"progress, {f'{fleet.rate:g} requests per second' if fleet.rate else 'no rate limit'}"
    )
    priced = "" if plan.priced else f"; {shown(work.storage_class)} has no price: estimated at the highest"
    return [
        f"For each object: {each}.",
        f"For the fleet: {workers}.",
        "For Redis: keys of about 20 bytes. Each further byte of a key adds one to two bytes of memory.",
        "No object has a verdict yet. Retries, storage and transfer out of the region are not included.",
        f"Prices: {plan.region}, {plan.prices_date}{priced}.",
    ]
