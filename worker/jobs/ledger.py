"""The ledger: what was accepted and has no verdict yet, so that what a broker loses stays findable.

An *entry* is what travels in one message: one job, or a batch of them. Its life:

    noted ──► published ──► worked on: each job's start is counted, each verdict marked ──► struck
      ▲           │
      └── renew ──┘  whoever sweeps finds the entry without a sign of life, and sends it again

- An entry is noted *before* it is published. Noting again changes nothing; noting what was struck does not
  revive it.
- A struck entry leaves a marker, so that a message delivered once more is recognised and does nothing.
- Starts are counted before the work, because a job that kills its worker can't be counted after it.
- Ages are told by the server's clock alone: the clocks of the hosts need not agree.
- What a broker lost is told by the order of its queue: first in, first out. An entry that has been silent
  since before another was noted whose work has begun was passed over, so its message is gone.
- An entry that is sent again and again without an end is buried: it is open no longer, and not done.

What it can't do: it is as durable as its Redis. FLUSHDB, eviction, or a fail-over to a replica that lags
forget entries without a trace. Markers and counts expire after `done_seconds`; a message delivered later than
that is worked on anew (harmless: a verdict is fenced by its own record, but paid for). A command sent again
after a lost answer can count one start twice.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

import redis
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from worker.jobs import ledger_scripts
from worker.jobs.job import ScanJob
from worker.jobs.queues import JOBS, QUEUES
from worker.results import keys

_log = logging.getLogger(__name__)

#: Ids in one MGET: an answer of some kilobytes, and no command that holds up the server.
_IDS_PER_COMMAND: Final = 1000
#: Seconds by which entries may be taken out of the order in which they were noted: those of one bulk are
#: noted first and published then, and several consumers take them at once.
_OUT_OF_ORDER_SECONDS: Final = 10.0


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Entry:
    """What travels in one message, on which queue, for which audit. The same id is the same work."""

    id: str
    jobs: tuple[ScanJob, ...]
    queue: str = JOBS
    audit: str | None = None


#: An entry as JSON, in messages and in the ledger. What it does not know, it refuses.
ENTRY: Final = TypeAdapter(Entry)


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """An entry without all of its verdicts, and its last sign of life (UTC, by the server's clock)."""

    entry: Entry
    alive_at: datetime


class Ledger:
    """The ledger in Redis, through a client as `worker.results.connection.connect` makes it.

    `done_seconds` is how long markers and counts stay. It must be longer than the broker may take to deliver
    a message again (its visibility timeout), or that message is worked on anew.
    """

    def __init__(self, client: redis.Redis, *, done_seconds: int) -> None:
        self._client = client
        self._done_seconds = done_seconds
        self._note = client.register_script(ledger_scripts.NOTE)
        self._renew = client.register_script(ledger_scripts.RENEW)
        self._begin = client.register_script(ledger_scripts.BEGIN)
        self._attempt = client.register_script(ledger_scripts.ATTEMPT)
        self._strike = client.register_script(ledger_scripts.STRIKE)

    def note(self, entry: Entry) -> bool:
        """Note an entry before it is published; false if it is done already, and need not be."""
        return bool(self.note_many([entry]))

    def note_many(self, entries: Sequence[Entry]) -> list[Entry]:
        """Note entries in one round trip; returns those that are not done already."""
        if not entries:
            return []
        with self._client.pipeline(transaction=False) as pipe:
            for entry in entries:
                self._note(
                    keys=[keys.ledger_open(entry.queue), keys.LEDGER_ENTRIES, keys.entry_done(entry.id)],
                    args=[entry.id, ENTRY.dump_json(entry, exclude_none=True)],
                    client=pipe,
                )
            is_open = pipe.execute()
        return [entry for entry, opened in zip(entries, is_open, strict=True) if opened]

    def renew(self, entry: Entry) -> None:
        """Give a sign of life for an entry, if it is open: somebody works on it."""
        self._renew(keys=[keys.ledger_open(entry.queue)], args=[entry.id])

    def begin(self, entry: Entry) -> None:
        """Say that the work on an entry has begun: what was noted before it on its queue has had its turn."""
        self._begin(
            keys=[keys.ledger_open(entry.queue), keys.LEDGER_ENTRIES, keys.LEDGER_BEGUN],
            args=[entry.id, entry.queue],
        )

    def strike(self, entry: Entry) -> None:
        """Strike an entry whose verdicts all stand, and the markers and counts of its jobs. Twice is fine."""
        self._strike(
            keys=[
                keys.ledger_open(entry.queue),
                keys.LEDGER_ENTRIES,
                keys.entry_done(entry.id),
                keys.LEDGER_RESENT,
            ],
            args=[entry.id, self._done_seconds, keys.JOB_DONE_PREFIX, keys.ATTEMPTS_PREFIX],
        )

    def is_done(self, entry_id: str) -> bool:
        """Whether an entry was struck, within the last `done_seconds`."""
        return bool(self._client.exists(keys.entry_done(entry_id)))

    def done_among(self, entry_ids: Sequence[str]) -> set[str]:
        """Those of the entries that were struck, for whoever waits for many."""
        return self._marked(entry_ids, keys.entry_done)

    def attempt(self, entry: Entry, job_id: str) -> int:
        """Count a start of the work on a job, before the work: 1 for the first. Striking forgets it.

        It is a sign of life of the entry, too.
        """
        starts = self._attempt(
            keys=[keys.attempts(job_id), keys.ledger_open(entry.queue)], args=[entry.id, self._done_seconds]
        )
        return int(starts)

    def mark_done(self, job_id: str) -> None:
        """Mark one job of an open entry: its verdict stands, and the next delivery may pass it over."""
        self._client.set(keys.job_done(job_id), "1", ex=self._done_seconds)

    def job_done(self, job_id: str) -> bool:
        """Whether a job of an open entry is marked. Once the entry is struck, ask `is_done` of the entry."""
        return bool(self._client.exists(keys.job_done(job_id)))

    def jobs_done(self, entry: Entry) -> set[str]:
        """Those of an open entry's jobs that are marked, by their ids."""
        return self._marked([job.id for job in entry.jobs], keys.job_done)

    def times_sent_again(self, entry: Entry) -> int:
        """How often an open entry was sent again."""
        return int(cast("bytes | None", self._client.hget(keys.LEDGER_RESENT, entry.id)) or 0)

    def sent_again(self, entry: Entry) -> int:
        """Count that an entry was sent again: 1 for the first time. It is a sign of life, too."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hincrby(keys.LEDGER_RESENT, entry.id, 1)
            self._renew(keys=[keys.ledger_open(entry.queue)], args=[entry.id], client=pipe)
            return int(pipe.execute()[0])

    def bury(self, entry: Entry) -> None:
        """Take an entry out of the ledger that is not done, and that nobody is to send again."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.zrem(keys.ledger_open(entry.queue), entry.id)
            pipe.hdel(keys.LEDGER_ENTRIES, entry.id)
            pipe.hdel(keys.LEDGER_RESENT, entry.id)
            pipe.execute()

    def mark_published(self, entry_ids: Sequence[str], seconds: int) -> None:
        """Remember for so long that entries are on the broker, so that a duplicate need not follow them."""
        with self._client.pipeline(transaction=False) as pipe:
            for entry_id in entry_ids:
                pipe.set(keys.entry_published(entry_id), "1", ex=seconds)
            pipe.execute()

    def published_among(self, entry_ids: Sequence[str]) -> set[str]:
        """Those of the entries that were marked so, within the time that was said."""
        return self._marked(entry_ids, keys.entry_published)

    def count(self) -> int:
        """How many entries are open."""
        return self._client.hlen(keys.LEDGER_ENTRIES)

    def is_open(self, entry_id: str) -> bool:
        """Whether an entry is noted and not struck."""
        return bool(self._client.hexists(keys.LEDGER_ENTRIES, entry_id))

    def oldest_age(self) -> float | None:
        """Seconds since the longest silent entry's last sign of life; `None` if none is open."""
        signs = [sign for queue in QUEUES for _, sign in self._by_silence(queue, limit=1)]
        return None if not signs else max(0.0, self._now() - min(signs))

    def silent(self, queue: str, limit: int, *, seconds: float = 0.0) -> list[OpenEntry]:
        """Up to `limit` entries of a queue without a sign of life for so long, the most silent first."""
        return self._open_entries(self._by_silence(queue, limit=limit, until=self._now() - seconds))

    def passed_over(self, queue: str, limit: int, *, seconds: float) -> list[OpenEntry]:
        """Of those that are `silent`, the entries whose turn has passed.

        An entry that was noted at least ten seconds after their last sign of life has begun before them.
        """
        latest = float(cast("bytes | None", self._client.hget(keys.LEDGER_BEGUN, queue)) or 0)
        until = min(self._now() - seconds, latest - _OUT_OF_ORDER_SECONDS)
        return self._open_entries(self._by_silence(queue, limit=limit, until=until))

    def _open_entries(self, silent: Sequence[tuple[bytes, float]]) -> list[OpenEntry]:
        """The entries of these ids.

        One that cannot be read (a later version wrote it, or somebody else) is logged, and stays there.
        """
        if not silent:
            return []
        found = self._client.hmget(keys.LEDGER_ENTRIES, [entry_id for entry_id, _ in silent])
        entries = []
        for (entry_id, alive_at), value in zip(silent, cast("list[bytes | None]", found), strict=True):
            if value is None:
                continue  # struck since
            try:
                entry = ENTRY.validate_json(value.partition(b" ")[2])
            except ValueError as error:  # pydantic's ValidationError is one, and so is what decode raises
                _log.warning(
                    "ledger entry %r cannot be read, and is left alone: %s", entry_id, _reason(error)
                )
                continue
            entries.append(OpenEntry(entry, datetime.fromtimestamp(alive_at, UTC)))
        return entries

    def _marked(self, of_ids: Sequence[str], marker_of: Callable[[str], str]) -> set[str]:
        """Those of the ids that have a marker."""
        marked: set[str] = set()
        for start in range(0, len(of_ids), _IDS_PER_COMMAND):
            ids = of_ids[start : start + _IDS_PER_COMMAND]
            markers = self._client.mget([marker_of(one) for one in ids])
            marked.update(one for one, marker in zip(ids, markers, strict=True) if marker is not None)
        return marked

    def _by_silence(self, queue: str, *, limit: int, until: float | None = None) -> list[tuple[bytes, float]]:
        """Ids of open entries and their last sign of life, epoch seconds."""
        found = self._client.zrange(
            keys.ledger_open(queue),
            "-inf",
            "+inf" if until is None else until,
            byscore=True,
            offset=0,
            num=limit,
            withscores=True,
        )
        # redis-py's type covers every option and protocol; with scores and protocol 2 it is this.
        return cast("list[tuple[bytes, float]]", found)

    def _now(self) -> float:
        """The server's clock, epoch seconds."""
        seconds, microseconds = self._client.time()
        return float(seconds) + microseconds / 1e6


def _reason(error: ValueError) -> str:
    """What is wrong, in one line."""
    if isinstance(error, ValidationError):
        return error.errors(include_url=False, include_context=False)[0]["msg"]
    return str(error)
