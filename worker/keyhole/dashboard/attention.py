"""What needs a person's attention: problems of the workers, the queues and the audits, most urgent first."""

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import urlencode

from keyhole.intake.audits.audit import AuditState
from keyhole.jobs.lease_length import LEASE_SECONDS
from keyhole.masking import masked
from keyhole.metrics.snapshot import Snapshot
from keyhole.metrics.store_reader import oldest_seconds
from keyhole.reports.figures import counted, duration

#: A message that waits longer than this, in seconds, needs attention.
OLD_SECONDS: Final = 300.0


class Level(StrEnum):
    """How urgent a matter is."""

    URGENT = "urgent"
    LOOK = "look"
    NOTE = "note"


class Matter(NamedTuple):
    """One matter: a headline, what to do about it, and the page with the details."""

    level: Level
    headline: str
    advice: str
    href: str


def matters(snapshot: Snapshot) -> list[Matter]:
    """Return what needs attention, most urgent first."""
    found = [*_of_workers(snapshot), *_of_queues(snapshot), *_of_audits(snapshot), *_of_leftovers(snapshot)]
    levels = list(Level)
    return sorted(found, key=lambda matter: levels.index(matter.level))


def _of_workers(snapshot: Snapshot) -> Iterator[Matter]:
    waiting = sum(snapshot.backlog.messages.values()) or snapshot.reading.audits
    if not snapshot.reading.workers:
        level = Level.URGENT if waiting else Level.NOTE
        work = "work is waiting; " if waiting else ""
        yield Matter(level, "No worker takes work", f"{work}start one with `keyhole worker`", "/work")
    silent = [now for now in snapshot.work if now.process.silent_seconds > LEASE_SECONDS]
    if silent:
        headline = counted(
            len(silent), "busy process sends no heartbeat", "busy processes send no heartbeats"
        )
        yield Matter(Level.LOOK, headline, "its work will go to another worker; look at its log", "/work")


def _of_queues(snapshot: Snapshot) -> Iterator[Matter]:
    for queue, seconds in oldest_seconds(snapshot.backlog, snapshot.reading).items():
        if seconds > OLD_SECONDS and snapshot.backlog.messages.get(queue):
            headline = f"A message in the queue {queue} has waited {duration(timedelta(seconds=seconds))}"
            yield Matter(Level.LOOK, headline, "add workers, or look whether they are stuck", "/work")


def _of_audits(snapshot: Snapshot) -> Iterator[Matter]:
    for audit in snapshot.reading.progresses:
        page = "/audit?" + urlencode({"id": audit.id})
        target, reason = f"s3://{audit.bucket}/{audit.prefix}", masked(audit.reason)
        if audit.state is AuditState.PAUSED:
            advice = f"{reason or 'paused'}; go on with `keyhole audit --resume {audit.id}`"
            yield Matter(Level.NOTE, f"The audit of {target} is paused", advice, page)
        elif reason:
            yield Matter(Level.LOOK, f"The audit of {target} makes no progress", reason, page)


def _of_leftovers(snapshot: Snapshot) -> Iterator[Matter]:
    reading = snapshot.reading
    dead = sum(reading.dead.values())
    if dead:
        headline = counted(dead, "dead letter: work that failed", "dead letters: work that failed")
        yield Matter(Level.LOOK, headline, "read the reasons, then retry or drop them", "/dead")
    for kind, count in reading.owed.items():
        if count:
            what = "the tags of {}" if kind == "tags" else f"to {kind}: {{}}"
            things = counted(count, "object" if kind == "tags" else "notification")
            yield Matter(
                Level.NOTE, f"Not written yet: {what.format(things)}", "workers retry by themselves", "/work"
            )
    if reading.undecided:
        headline = counted(
            reading.undecided, "scan was postponed after failures", "scans were postponed after failures"
        )
        yield Matter(Level.NOTE, headline, "workers retry by themselves", "/work")
