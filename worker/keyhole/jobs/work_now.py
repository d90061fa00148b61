"""Reads which objects each busy worker process scans now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import redis

from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger_format import read_records
from keyhole.jobs.work_status import Busy, WorkStatus
from keyhole.store import keys

#: The most jobs whose state is read. Further entries have the objects `None`.
MOST_JOBS: Final = 3000


@dataclass(frozen=True, slots=True)
class EntryNow:
    """An entry that a process works on.

    Args:
        entry: The entry.
        done: The number of its jobs that are done; `None` if this was not read.
        scanned_now: The jobs whose objects the process scans now; `None` if this was not read.
    """

    entry: Entry
    done: int | None
    scanned_now: tuple[ScanJob, ...] | None


@dataclass(frozen=True, slots=True)
class ProcessNow:
    """A busy worker process, and the entries that it works on."""

    process: Busy
    entries: tuple[EntryNow, ...]


def read_work(client: redis.Redis) -> list[ProcessNow]:
    """Return the processes that hold leases, and what they do. The order is that of their names.

    Raises:
        redis.RedisError: Redis failed.
    """
    processes = WorkStatus(client).busy()
    ids = [(entry_id.encode(), 0.0) for process in processes for entry_id in process.entry_ids]
    entries = {found.entry.id: found.entry for found in read_records(client, ids)}
    left = MOST_JOBS
    detailed: list[Entry] = []
    for entry in entries.values():
        left -= len(entry.jobs)
        if left < 0:
            break
        detailed.append(entry)
    details = _details(client, detailed)
    return [
        ProcessNow(
            process,
            tuple(
                details.get(entry_id) or EntryNow(entries[entry_id], None, None)
                for entry_id in process.entry_ids
                # An entry that was completed in the meantime has no record any more.
                if entry_id in entries
            ),
        )
        for process in processes
    ]


def _details(client: redis.Redis, entries: Sequence[Entry]) -> dict[str, EntryNow]:
    with client.pipeline(transaction=False) as pipe:
        for entry in entries:
            for job in entry.jobs:
                pipe.exists(keys.job_done(job.id))
                pipe.hexists(keys.attempts(job.id), "started")
        answers = iter(cast("list[int]", pipe.execute()))
    found = {}
    for entry in entries:
        # A job that is done keeps the record of its last attempt.
        states = [(job, bool(next(answers)), bool(next(answers))) for job in entry.jobs]
        found[entry.id] = EntryNow(
            entry,
            sum(done for _, done, _ in states),
            tuple(job for job, done, started in states if started and not done),
        )
    return found
