"""`keyhole schedules`: lists schedules with their next and their last run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import humanize
import redis
from rich.table import Table
from rich.text import Text

from keyhole.cli import audit_view
from keyhole.cli.backend import backend
from keyhole.cli.errors import USAGE, CommandError, load_settings, one_line_errors
from keyhole.cli.scheduler import NONE_CONFIGURED
from keyhole.cli.table import Column
from keyhole.cli.table import Table as Rows
from keyhole.cli.terminal import SafeConsole
from keyhole.fleet.services import services, use_settings
from keyhole.inspectors.text import shown
from keyhole.intake.audits.audit import Audit
from keyhole.reasons import Status
from keyhole.reports.figures import counted

if TYPE_CHECKING:
    from keyhole.intake.schedules import Schedule


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a schedule. Times are in UTC."""

    schedule: "Schedule"
    #: The time of the next run. If the schedule has an interval (`every`), the first interval begins when a
    #: scheduler stores this version of the schedule in Redis. Until then, the time is `None`.
    next_run: datetime | None
    #: The id of the last audit that this schedule started; `None` if the schedule has not started an audit.
    last_id: str | None
    #: The last audit that this schedule started; `None` if Redis no longer stores the audit.
    last: Audit | None
    #: How many times the schedule was due while its last audit was still running.
    skipped: int


@click.command("schedules")
@click.option("--check", "file", metavar="FILE", help="Only check whether a file of schedules is valid.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, and nothing else.")
def schedules_command(*, file: str | None, as_json: bool) -> None:
    """List the schedules of KEYHOLE_SCHEDULES, with their next run and their last audit.

    \b
    keyhole schedules
    keyhole schedules --check schedules.toml
    keyhole schedules --json | jq -r 'select(.last_run.state == "failed") | .name'

    A file of schedules:

    \b
    [[schedules]]
    name = "nightly"              # letters, digits, - _ .
    bucket = "images"
    prefix = "uploads/"
    crontab = "15 3 * * *"        # in UTC; or every = "6h"
    suffix = [".qcow2", ".vmdk"]  # any option of `keyhole audit`, with _ instead of -
    max_dollars = 2.5
    """
    if file is not None:
        _check(file)
        return
    settings = load_settings()
    if settings.schedules is None:
        raise CommandError(NONE_CONFIGURED, USAGE)
    with one_line_errors(), backend(settings, work=False) as ready:
        from keyhole.fleet.scheduling import is_at_work
        from keyhole.intake.schedules import load_schedules

        schedules = load_schedules(settings.schedules)
        use_settings(ready)
        client = services().redis
        at_work = is_at_work(client)
        now = datetime.now(UTC)
        standings = [_standing(client, schedule, now) for schedule in schedules]
        if as_json:
            for standing in standings:
                click.echo(json.dumps(_as_json(standing, at_work=at_work)))
            return
        _print(standings, now)
        if not at_work:
            click.echo(
                "No scheduler is running, so no audit will start; start one with: keyhole scheduler", err=True
            )
        elif unread := _unread(client, schedules):
            click.echo(f"The scheduler has an older version of {', '.join(unread)}; restart it.", err=True)


def _check(file: str) -> None:
    from keyhole.intake.schedules import load_schedules

    count = len(load_schedules(file))
    click.echo(f"{shown(file)}: valid, {count} schedule{'' if count == 1 else 's'}")


def _standing(client: redis.Redis, schedule: "Schedule", now: datetime) -> Standing:
    from keyhole.fleet.scheduling import beat_entry
    from keyhole.intake.schedule_runs import ScheduleRuns

    entry = beat_entry(client, schedule.name)
    if entry is not None and entry.comes(schedule):
        next_run: datetime | None = schedule.when.next_after(entry.due_before)
    else:
        next_run = schedule.when.next_after(now) if schedule.crontab is not None else None
    last = ScheduleRuns(client).last(schedule.name)
    audit = services().audits.get(last.audit_id) if last.audit_id is not None else None
    return Standing(schedule, next_run, last.audit_id, audit, last.skipped)


def _unread(client: redis.Redis, schedules: "Sequence[Schedule]") -> list[str]:
    """Return the names of all schedules that have changed since a scheduler read the file.

    A schedule that was added to the file, or removed from it, has also changed.
    """
    from keyhole.fleet.scheduling import beat_entry, known_names

    entries = {schedule.name: beat_entry(client, schedule.name) for schedule in schedules}
    changed = {
        schedule.name
        for schedule in schedules
        if (entry := entries[schedule.name]) is None or not entry.comes(schedule)
    }
    return sorted(changed | (known_names(client) - entries.keys()))


def _as_json(standing: Standing, *, at_work: bool) -> dict[str, object]:
    schedule = standing.schedule
    return {
        "name": schedule.name,
        "bucket": schedule.bucket,
        "prefix": schedule.prefix,
        "when": str(schedule.when),
        "next_run": standing.next_run and standing.next_run.isoformat(),
        "last_audit": standing.last_id,
        "last_run": standing.last and standing.last.model_dump(mode="json"),
        "skipped": standing.skipped,
        "scheduler_running": at_work,
    }


def _print(standings: Sequence[Standing], now: datetime) -> None:
    """Print a table of schedules, and a line with their number. In a pipe, each schedule is one line."""
    console = SafeConsole()
    if console.is_terminal:
        console.print(_table(standings, now))
    else:
        columns = [
            Column("schedule", max((len(standing.schedule.name) for standing in standings), default=8)),
            Column("when", max((len(str(standing.schedule.when)) for standing in standings), default=8)),
            Column("next (UTC)", 24),
            Column("last", 50),
            Column("skipped", 7, right=True),
        ]
        rows = Rows(console, columns, "of", whole=True)
        for standing in standings:
            schedule = standing.schedule
            told = [_next(standing, now), _last(standing)]
            cells = [Text(", ".join(text.plain.split("\n"))) for text in told]
            name = f"s3://{schedule.bucket}/{schedule.prefix}"
            rows.row([schedule.name, str(schedule.when), *cells, f"{standing.skipped:,}"], name)
    overdue = sum(standing.next_run is not None and standing.next_run <= now for standing in standings)
    click.echo(counted(len(standings), "schedule") + (f": {overdue:,} overdue" if overdue else ""))


def _table(standings: Sequence[Standing], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("schedule", overflow="fold", min_width=8)
    table.add_column("of", overflow="fold", ratio=1, min_width=12)
    table.add_column("when", overflow="fold")
    table.add_column("next (UTC)", no_wrap=True)
    table.add_column("last", overflow="fold")
    table.add_column("skipped", justify="right", no_wrap=True)
    for standing in standings:
        schedule = standing.schedule
        table.add_row(
            schedule.name,
            Text(shown(f"s3://{schedule.bucket}/{schedule.prefix}")),
            Text(str(schedule.when)),
            _next(standing, now),
            _last(standing),
            f"{standing.skipped:,}",
        )
    return table


def _next(standing: Standing, now: datetime) -> Text:
    if standing.next_run is None:
        return Text("unknown yet")
    if standing.next_run <= now:
        return Text("overdue", style="yellow")
    wait = humanize.naturaldelta(standing.next_run - now)
    return Text(f"{standing.next_run:%m-%d %H:%M}\nin {wait}")


def _last(standing: Standing) -> Text:
    if standing.last_id is None:
        return Text("-")
    if standing.last is None:
        return Text(f"{standing.last_id}\nno longer stored")
    audit = standing.last
    images = audit_view.images_of(audit.totals)
    safe = images.get(Status.SAFE, 0)
    return Text.assemble(
        f"{audit.id} ",
        (audit.state.value, audit_view.STATE_STYLES[audit.state]),
        f"\n{audit.started_at:%m-%d %H:%M}",
        f"\n{safe:,} safe, {sum(images.values()) - safe:,} not",
    )
