"""Waits for the verdicts of submitted jobs.

It reads the stream of verdicts. It also checks the ledger, because the stream does not contain a verdict for
every job that is done.
"""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.results.redis_store import RedisStore
from keyhole.scan.report import Report

#: Milliseconds between two checks of the ledger. The checks are necessary because a verdict is not added to
#: the stream if Redis already has a newer verdict on the same object.
BLOCK_MS = 500


class Arrived(NamedTuple):
    """A job that is done. `report` is `None` if Redis has no verdict on the object."""

    job: ScanJob
    report: Report | None


def await_verdicts(
    entries: Sequence[Entry],
    store: RedisStore,
    ledger: Ledger,
    after: str,
    *,
    until: float | None = None,
) -> Iterator[Arrived | None]:
    """Yield each job when it is done, until all jobs are done.

    Yield `None` whenever `BLOCK_MS` have passed without a verdict.

    Args:
        entries: The entries that were submitted.
        store: The store that contains the verdicts.
        ledger: The ledger, in which the entries are recorded.
        after: A position in the stream. Verdicts before it are found by the ledger.
        until: The time, by `time.monotonic`, after which to stop; `None` for never.

    Raises:
        TimeoutError: It is later than `until`, and not all jobs are done.
    """
    waiting = {job.id: job for entry in entries for job in entry.jobs}
    opened = {entry.id: entry for entry in entries}
    asked = time.monotonic() - BLOCK_MS / 1000
    block_ms = 0  # jobs can be done already
    while waiting:
        page = store.read_stream(after, block_ms=block_ms)
        block_ms = BLOCK_MS
        after = page.position
        for verdict in page.verdicts:
            job = waiting.pop(verdict.job_id, None)
            if job is not None:
                yield Arrived(job, verdict.report)
        if page.verdicts and time.monotonic() < asked + BLOCK_MS / 1000:
            continue
        asked = time.monotonic()
        for entry_id in ledger.done_among(list(opened)):
            for job in opened.pop(entry_id).jobs:
                if waiting.pop(job.id, None) is not None:
                    yield Arrived(job, store.get(job.bucket, job.key, job.version_id))
        if waiting and until is not None and time.monotonic() > until:
            left = len(waiting)
            jobs = (
                "1 job is not done yet; it stays"
                if left == 1
                else f"{left:,} jobs are not done yet; they stay"
            )
            raise TimeoutError(f"{jobs} queued")
        if waiting and not page.verdicts:
            yield None
