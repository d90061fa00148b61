"""An entry of the ledger consists of the jobs of one message."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from pydantic import ConfigDict, Field, TypeAdapter, with_config

from keyhole import versions
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import JOBS


# `defer_build` builds the validator on first use. Some commands import this module and never use it.
@with_config(ConfigDict(extra="forbid", defer_build=True))
@dataclass(frozen=True, slots=True)
class Entry:
    """The jobs of one message, and the message's queue.

    Two entries with the same id are the same work. If the jobs belong to an audit, `audit` is the audit's id.
    If this entry is a part of an entry that was split, `part_of` is the id of the original entry.
    `version` is the version of this format; entries of a later version are refused. The batches of an audit
    have version 2 if the audit's specification has version 2.
    """

    id: str
    jobs: tuple[ScanJob, ...]
    queue: str = JOBS
    audit: str | None = None
    part_of: str | None = None
    version: Annotated[int, Field(ge=1, le=versions.ENTRY)] = 1


#: Converts entries to the JSON of messages and of the ledger, and back. Unknown fields are refused.
ENTRY: Final = TypeAdapter(Entry)


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """An open entry and the time of its last activity (UTC, by the ledger's clock)."""

    entry: Entry
    last_active_at: datetime
