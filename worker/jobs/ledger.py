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

from worker.jobs.job import ScanJob
from worker.jobs.queues import JOBS
from worker.results import keys

_log = logging.getLogger(__name__)

#: Ids in one MGET: an answer of some kilobytes, and no command that holds up the server.
_IDS_PER_COMMAND: Final = 1000

_NOTE: Final = """
-- KEYS[1]  zset: open entries by their last sign of life
-- KEYS[2]  hash: open entries
-- KEYS[3]  the entry's marker that it is done
-- ARGV[1]  entry id
-- ARGV[2]  the entry, a JSON object
-- returns 1 if the entry is open now, 0 if it is done
if redis.call('EXISTS', KEYS[3]) == 1 then
    return 0
end
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2]) == 1 then
    local now = redis.call('TIME')
    redis.call('ZADD', KEYS[1], 'NX', now[1] + now[2] / 1e6, ARGV[1])
end
return 1
"""

_RENEW: Final = """
-- KEYS[1]  zset: open entries by their last sign of life
-- ARGV     entry ids
local now = redis.call('TIME')
for _, entry in ipairs(ARGV) do
    redis.call('ZADD', KEYS[1], 'XX', now[1] + now[2] / 1e6, entry)
end
"""

_STRIKE: Final = """
-- KEYS[1]  zset: open entries by their last sign of life
-- KEYS[2]  hash: open entries
-- KEYS[3]  the entry's marker that it is done
-- KEYS[4]  hash: how often open entries were sent again
-- ARGV[1]  entry id
-- ARGV[2]  seconds that the marker stays
-- ARGV[3]  what stands before a job's id in the key of its marker
-- ARGV[4]  what stands before a job's id in the key of its count of starts
redis.call('SET', KEYS[3], '1', 'EX', ARGV[2])
local readable, entry = pcall(cjson.decode, redis.call('HGET', KEYS[2], ARGV[1]) or '{}')
if readable and type(entry) == 'table' then
    for _, job in ipairs(entry.jobs or {}) do
        redis.call('DEL', ARGV[3] .. job.id, ARGV[4] .. job.id)
    end
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
"""


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
        self._note = client.register_script(_NOTE)
        self._renew = client.register_script(_RENEW)
        self._strike = client.register_script(_STRIKE)

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
                    keys=[keys.LEDGER_OPEN, keys.LEDGER_ENTRIES, keys.entry_done(entry.id)],
                    args=[entry.id, ENTRY.dump_json(entry, exclude_none=True)],
                    client=pipe,
                )
            is_open = pipe.execute()
        return [entry for entry, opened in zip(entries, is_open, strict=True) if opened]

    def renew(self, entry_ids: Sequence[str]) -> None:
        """Give a sign of life for entries that are open: they were sent again, or somebody works on them."""
        if entry_ids:
            self._renew(keys=[keys.LEDGER_OPEN], args=entry_ids)

    def strike(self, entry_id: str) -> None:
        """Strike an entry whose verdicts all stand, and the markers and counts of its jobs. Twice is fine."""
        self._strike(
            keys=[
                keys.LEDGER_OPEN,
                keys.LEDGER_ENTRIES,
                keys.entry_done(entry_id),
                keys.LEDGER_RESENT,
            ],
            args=[entry_id, self._done_seconds, keys.JOB_DONE_PREFIX, keys.ATTEMPTS_PREFIX],
        )

    def is_done(self, entry_id: str) -> bool:
        """Whether an entry was struck, within the last `done_seconds`."""
        return bool(self._client.exists(keys.entry_done(entry_id)))

    def done_among(self, entry_ids: Sequence[str]) -> set[str]:
        """Those of the entries that were struck, for whoever waits for many."""
        return self._marked(entry_ids, keys.entry_done)

    def attempt(self, entry_id: str, job_id: str) -> int:
        """Count a start of the work on a job, before the work: 1 for the first. Striking forgets it.

        It is a sign of life of the entry, too.
        """
        with self._client.pipeline(transaction=True) as pipe:
            pipe.incr(keys.attempts(job_id))
            pipe.expire(keys.attempts(job_id), self._done_seconds)
            self._renew(keys=[keys.LEDGER_OPEN], args=[entry_id], client=pipe)
            return int(pipe.execute()[0])

    def mark_done(self, job_id: str) -> None:
        """Mark one job of an open entry: its verdict stands, and the next delivery may pass it over."""
        self._client.set(keys.job_done(job_id), "1", ex=self._done_seconds)

    def job_done(self, job_id: str) -> bool:
        """Whether a job of an open entry is marked. Once the entry is struck, ask `is_done` of the entry."""
        return bool(self._client.exists(keys.job_done(job_id)))

    def sent_again(self, entry_id: str) -> int:
        """Count that an entry was sent again: 1 for the first time. It is a sign of life, too."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hincrby(keys.LEDGER_RESENT, entry_id, 1)
            self._renew(keys=[keys.LEDGER_OPEN], args=[entry_id], client=pipe)
            return int(pipe.execute()[0])

    def bury(self, entry_id: str) -> None:
        """Take an entry out of the ledger that is not done, and that nobody is to send again."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.zrem(keys.LEDGER_OPEN, entry_id)
            pipe.hdel(keys.LEDGER_ENTRIES, entry_id)
            pipe.hdel(keys.LEDGER_RESENT, entry_id)
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
        return self._client.zcard(keys.LEDGER_OPEN)

    def oldest_age(self) -> float | None:
        """Seconds since the longest silent entry's last sign of life; `None` if none is open."""
        oldest = self._by_silence(limit=1)
        return None if not oldest else max(0.0, self._now() - oldest[0][1])

    def pending(self, limit: int, *, silent_seconds: float = 0.0) -> list[OpenEntry]:
        """Up to `limit` entries without a sign of life for so many seconds, the most silent first.

        An entry that can't be read (a later version wrote it, or somebody else) is logged and stays in the
        ledger.
        """
        silent = self._by_silence(limit=limit, until=self._now() - silent_seconds)
        if not silent:
            return []
        found = self._client.hmget(keys.LEDGER_ENTRIES, [entry_id for entry_id, _ in silent])
        entries = []
        for (entry_id, alive_at), text in zip(silent, found, strict=True):
            if text is None:
                continue  # struck since
            try:
                entry = ENTRY.validate_json(text)
            except ValueError as error:  # pydantic's ValidationError is one, and so is what decode raises
                _log.warning(
                    "ledger entry %r cannot be read, and is left alone: %s", entry_id, _reason(error)
                )
                continue
            entries.append(OpenEntry(entry, datetime.fromtimestamp(alive_at, UTC)))
        return entries

    def _marked(self, entry_ids: Sequence[str], marker_of: Callable[[str], str]) -> set[str]:
        """Those of the entries that have a marker."""
        marked: set[str] = set()
        for start in range(0, len(entry_ids), _IDS_PER_COMMAND):
            ids = entry_ids[start : start + _IDS_PER_COMMAND]
            markers = self._client.mget([marker_of(entry_id) for entry_id in ids])
            marked.update(
                entry_id for entry_id, marker in zip(ids, markers, strict=True) if marker is not None
            )
        return marked

    def _by_silence(self, *, limit: int, until: float | None = None) -> list[tuple[bytes, float]]:
        """Ids of open entries and their last sign of life, epoch seconds."""
        found = self._client.zrange(
            keys.LEDGER_OPEN,
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
