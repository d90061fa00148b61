"""An entry of the ledger: the jobs that travel in one message."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import ConfigDict, TypeAdapter, with_config

from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import JOBS

#: Seconds without a heartbeat after which the lease of an entry has expired: six heartbeats.
LEASE_SECONDS: Final = 30.0


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Entry:
    """The jobs of one message, its queue, and the audit that it belongs to. The same id is the same work.

    `part_of` is the id of the entry that was split into this one and others.
    """

    id: str
    jobs: tuple[ScanJob, ...]
    queue: str = JOBS
    audit: str | None = None
    part_of: str | None = None


#: An entry as JSON, in messages and in the ledger. Unknown fields are refused.
ENTRY: Final = TypeAdapter(Entry)


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """An entry that lacks verdicts, and the time of its last activity (UTC, by the ledger's clock)."""

    entry: Entry
    last_active_at: datetime
