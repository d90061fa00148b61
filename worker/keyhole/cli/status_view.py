"""Formats the status of a fleet: as one screen, or as a JSON object."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from keyhole.inspectors.text import shown
from keyhole.jobs.lease_length import LEASE_SECONDS
from keyhole.jobs.queues import QUEUES
from keyhole.jobs.work_now import EntryNow, ProcessNow
from keyhole.metrics.snapshot import Rates, Snapshot
from keyhole.metrics.store_reader import Reading, oldest_seconds
from keyhole.reports.figures import counted, duration, share

#: On a screen, the processes, the workers and the audits each take at most this many rows. The values are
#: tried in this order until the page fits.
_LIMITS: Final = (50, 20, 12, 8, 6, 4, 3, 2, 1, 0)
#: At most this many different rules of workers are shown.
_MOST_RULES: Final = 3
#: Ages above this many seconds are shown in yellow.
_OLD_SECONDS: Final = 60.0


def as_json_object(snapshot: Snapshot, rates: Rates) -> dict[str, Any]:
    """Return the whole status as an object for `json.dumps`. Unknown values are `None`."""
    reading = snapshot.reading
    oldest = oldest_seconds(snapshot.backlog, reading)
    return {
        "at": datetime.fromtimestamp(reading.at, UTC).isoformat(timespec="milliseconds"),
        "queues": [
            {
                "queue": queue,
                "messages": snapshot.backlog.messages.get(queue),
                "unacknowledged": reading.unacknowledged[queue],
                "oldest_seconds": oldest.get(queue),
            }
            for queue in QUEUES
        ],
        "workers": {
            "count": reading.workers,
            "names": list(reading.names),
            "rulesets": dict(sorted(snapshot.rulesets.items())),
        },
        "busy_processes": [_process_json(process) for process in snapshot.work],
        "undecided_objects": reading.undecided,
        "dead_letters": dict(reading.dead),
        "owed": dict(reading.owed),
        "audits_running": reading.audits,
        "audits": [
            {
                "id": audit.id,
                "state": audit.state.value,
                "bucket": audit.bucket,
                "prefix": audit.prefix,
                "listed": audit.listed,
                "listed_all": audit.listed_all,
                "handled": audit.handled,
                "progress_ratio": round(audit.ratio, 4),
                "objects_per_second": round(rates.of(audit), 3),
                "seconds": audit.seconds,
                "reason": audit.reason or None,
            }
            for audit in reading.progresses
        ],
    }


def _process_json(now: ProcessNow) -> dict[str, Any]:
    return {
        "name": now.process.name,
        "busy_seconds": now.process.busy_seconds,
        "silent_seconds": now.process.silent_seconds,
        "entries": [
            {
                "id": entry.entry.id,
                "queue": entry.entry.queue,
                "audit": entry.entry.audit,
                "objects": len(entry.entry.jobs),
                "done": entry.done,
                "scanned_now": None
                if entry.scanned_now is None
                else [_uri(job.bucket, job.key) for job in entry.scanned_now],
            }
            for entry in now.entries
        ],
    }


def page(
    snapshot: Snapshot,
    rates: Rates,
    console: Console,
    *,
    height: int | None = None,
    trouble: str | None = None,
) -> RenderableType:
    """Return the status as text.

    Args:
        snapshot: The status.
        rates: The rates of the audits.
        console: The console for which the page is made.
        height: The number of lines of the screen. If it is given, processes, workers and audits are left out
            until the page has fewer lines than the screen. The page states how many are left out.
        trouble: Why a later reading of the status failed.
    """
    if height is None:
        return _page(snapshot, rates, None, trouble)
    made: RenderableType = Text()
    # Each row takes at least one line, so skip values that cannot fit.
    for limit in (limit for limit in _LIMITS if limit < height):
        made = _page(snapshot, rates, limit, trouble)
        # The cursor needs the last line of the screen.
        if len(console.render_lines(made, pad=False)) < height:
            break
    return made


def _page(snapshot: Snapshot, rates: Rates, limit: int | None, trouble: str | None) -> RenderableType:
    reading = snapshot.reading
    at = datetime.fromtimestamp(reading.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    parts: list[RenderableType] = [Text.assemble(("Keyhole ", "bold"), at)]
    if trouble is not None:
        parts.append(Text(f"this is old, trying again: {shown(trouble)}", style="red"))
    parts += [Text(), _queues(snapshot), Text(), _facts(snapshot)]
    parts += _workers(reading, limit)
    parts += _processes(snapshot.work, limit)
    parts += _audits(reading, rates, limit)
    return Group(*parts)


def _queues(snapshot: Snapshot) -> Table:
    table = _table(("queue", False), ("messages", True), ("unacknowledged", True), ("oldest", True))
    ages = oldest_seconds(snapshot.backlog, snapshot.reading)
    for queue in QUEUES:
        messages, oldest = snapshot.backlog.messages.get(queue), ages.get(queue)
        table.add_row(
            queue,
            "unknown" if messages is None else f"{messages:,}",
            f"{snapshot.reading.unacknowledged[queue]:,}",
            "unknown" if oldest is None else _age(oldest if messages else None),
        )
    return table


def _facts(snapshot: Snapshot) -> Table:
    reading = snapshot.reading
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(
        "workers",
        Text(counted(reading.workers, "worker takes work", "workers take work"))
        if reading.workers
        else Text("none takes work; start one with `keyhole worker`", style="red"),
    )
    if snapshot.rulesets:
        table.add_row("rules", _rules(snapshot.rulesets))
    again = f"{counted(reading.undecided, 'message')} postponed; workers will scan again"
    table.add_row("undecided", again if reading.undecided else "none")
    dead = {kind: count for kind, count in reading.dead.items() if count}
    table.add_row(
        "dead letters",
        Text(f"{_sum(dead)}; see `keyhole dead list`", style="yellow") if dead else Text("none"),
    )
    owed = {kind: count for kind, count in reading.owed.items() if count}
    table.add_row("owed", Text(f"{_sum(owed)}; workers retry", style="yellow") if owed else Text("nothing"))
    return table


def _rules(rulesets: Mapping[str, str | None]) -> Text:
    """Return the rules that workers apply, with the number of workers if not all apply the same."""
    workers = Counter(shown(rules or "not stated") for rules in rulesets.values())
    if len(workers) == 1:
        return Text(next(iter(workers)))
    told = "; ".join(
        f"{rules} ({counted(number, 'worker')})" for rules, number in workers.most_common(_MOST_RULES)
    )
    if len(workers) > _MOST_RULES:
        told += f"; {counted(len(workers) - _MOST_RULES, 'other')}"
    differ = len(set(rulesets.values()) - {None}) > 1
    return Text(f"{told}; see `keyhole doctor`", style="yellow") if differ else Text(told)


def _sum(counts: dict[str, int]) -> str:
    return (
        f"{sum(counts.values()):,} (" + ", ".join(f"{shown(kind)} {n:,}" for kind, n in counts.items()) + ")"
    )


def _workers(reading: Reading, limit: int | None) -> list[RenderableType]:
    names = reading.names[:limit]
    if not names:
        return []
    parts: list[RenderableType] = [Text(), Text("workers that take work", style="bold")]
    parts += [Text(shown(name), overflow="fold") for name in names]
    return parts + _left_out(reading.workers - len(names), "worker")


def _processes(work: Sequence[ProcessNow], limit: int | None) -> list[RenderableType]:
    if not work or limit == 0:
        return [] if not work else _left_out(len(work), "busy process", "busy processes")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("busy process", overflow="fold", ratio=2)
    table.add_column("for", justify="right", no_wrap=True)
    table.add_column("works on", overflow="fold", ratio=3)
    for now in work[:limit]:
        process = now.process
        silent = process.silent_seconds > LEASE_SECONDS
        works = Text("\n").join(_works_on(entry) for entry in now.entries) or Text("ending")
        if silent:
            works.append(f"\nno heartbeat for {_plain_age(process.silent_seconds)}", style="red")
        table.add_row(
            Text(shown(process.name)),
            "" if process.busy_seconds is None else _age(process.busy_seconds),
            works,
        )
    return [Text(), table, *_left_out(len(work[limit:]) if limit else 0, "busy process", "busy processes")]


def _works_on(now: EntryNow) -> Text:
    jobs, entry = now.entry.jobs, now.entry
    first = next(chain(now.scanned_now or (), jobs), None)
    text = Text("" if first is None else shown(_uri(first.bucket, first.key)))
    if len(jobs) > 1:
        more = len(now.scanned_now or ()) - 1
        text.append(f" and {more:,} more" if more > 0 else "", style="dim")
        done = f"{len(jobs):,} objects" if now.done is None else f"{now.done:,} of {len(jobs):,} objects done"
        of_audit = "" if entry.audit is None else f", audit {shown(entry.audit)}"
        text.append(f" ({done}{of_audit})", style="dim")
    return text


def _audits(reading: Reading, rates: Rates, limit: int | None) -> list[RenderableType]:
    if not reading.progresses or limit == 0:
        return _left_out(len(reading.progresses), "audit")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("audit", no_wrap=True)
    table.add_column("of", overflow="fold", ratio=1)
    for name in ("state", "done", "listed", "share", "objects/s"):
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for audit in reading.progresses[:limit]:
        target = Text(shown(f"s3://{audit.bucket}/{audit.prefix}"))
        if audit.reason:
            target.append(f"\n{shown(audit.reason)}", style="yellow")
        table.add_row(
            Text(shown(audit.id)),
            target,
            audit.state.value,
            f"{audit.handled:,}",
            f"{audit.listed:,}" + ("" if audit.listed_all else "+"),
            share(audit.handled, audit.listed),
            f"{rates.of(audit):,.1f}",
        )
    return [Text(), table, *_left_out(len(reading.progresses[limit:]) if limit else 0, "audit")]


def _left_out(count: int, noun: str, nouns: str | None = None) -> list[RenderableType]:
    return [Text(f"and {counted(count, 'more ' + noun, 'more ' + (nouns or noun + 's'))}", style="dim")] * (
        count > 0
    )


def _table(*columns: tuple[str, bool]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, right in columns:
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    return table


def _age(seconds: float | None) -> Text:
    if seconds is None:
        return Text("-")
    return Text(_plain_age(seconds), style="yellow" if seconds > _OLD_SECONDS else "")


def _plain_age(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else duration(timedelta(seconds=seconds))


def _uri(bucket: str, key: str) -> str:
    return f"s3://{bucket}/{key}"
