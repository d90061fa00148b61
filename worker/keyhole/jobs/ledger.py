"""The ledger: what was accepted and has no verdict yet, so that nothing a broker or a worker loses is lost.

An *entry* is what travels in one message: one job, or a batch of them. Its life:

    noted ──► published ──► held: a worker is busy with it ──► struck: all its verdicts stand
      ▲                       │         │           │
      │                       │         │           └──► split: its jobs go on as entries of their own
      │                       │         └──► postponed: some objects are undecided; due later
      └── sent again ─────────┴── lost: its holder fell silent, or the broker lost its message

- An entry is noted *before* it is published. Noting again changes nothing; noting what was struck does not
  revive it.
- A struck entry leaves a marker, so that a message delivered once more is recognised and does nothing.
- Whoever works on an entry holds it, and beats. An entry whose holder is silent is taken back.
- The ledger has a clock of its own, which follows the server's but never goes back and never jumps
  (`ledger_scripts.NOW`): neither the hosts' clocks nor the server's need be right.
- What a broker lost is told by the order of its queue: first in, first out. An entry that has been silent
  since before another was noted whose work has begun was passed over, so its message is gone.
- An entry that is sent again and again without progress is buried: it is open no longer, and not done.
- A server that crashes loses the end of what it wrote, while workers live on. A job is marked only in the
  run of the server in which its attempt began, and an entry is struck only if all markers are there: a marker
  is written after the verdict, so where it is, the verdict is.

What it can't do: it is as durable as its Redis. Where the server can tell (`WAITAOF`), noting waits until the
entry is on its disk. FLUSHDB, eviction, or a fail-over to a replica that lags forget entries without a trace.
Markers expire after `done_seconds`; a message delivered later than that is worked on anew (harmless: a
verdict is fenced by its own record, but paid for).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple, cast

import redis
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from keyhole.jobs import ledger_scripts
from keyhole.jobs.attempts import Attempts
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import JOBS
from keyhole.store import keys
from keyhole.store.durability import Durability

_log = logging.getLogger(__name__)

#: Seconds without a heartbeat after which a holder is taken for lost: six beats.
HOLDER_SECONDS: Final = 30.0
#: Ids in one MGET: an answer of some kilobytes, and no command that holds up the server.
_IDS_PER_COMMAND: Final = 1000
#: Seconds by which entries may be taken out of the order in which they were noted: those of one bulk are
#: noted first and published then, and several consumers take them at once.
_OUT_OF_ORDER_SECONDS: Final = 10.0


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Entry:
    """What travels in one message, on which queue, for which audit. The same id is the same work.

    `part_of` is the id of the entry that this one is a part of, where that one was split.
    """

    id: str
    jobs: tuple[ScanJob, ...]
    queue: str = JOBS
    audit: str | None = None
    part_of: str | None = None


#: An entry as JSON, in messages and in the ledger. What it does not know, it refuses.
ENTRY: Final = TypeAdapter(Entry)


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """An entry without all of its verdicts, and its last sign of life (UTC, by the server's clock)."""

    entry: Entry
    alive_at: datetime


class Holder(NamedTuple):
    """A worker process that holds an entry, and whether it gave a sign of life just now."""

    name: str
    beats: bool


class Ledger:
    """The ledger in Redis, through a client as `keyhole.store.connection.connect` makes it.

    `done_seconds` is how long markers and attempts stay. It must be longer than the broker may take to
    deliver a message again (its visibility timeout), or that message is worked on anew.
    """

    def __init__(self, client: redis.Redis, *, done_seconds: int) -> None:
        self._client = client
        self._done_seconds = done_seconds
        self._durable = Durability(client)
        self.attempts = Attempts(client, seconds=done_seconds)
        self._clock = client.register_script(ledger_scripts.READ_CLOCK)
        self._claim_sweep = client.register_script(ledger_scripts.CLAIM_SWEEP)
        self._note = client.register_script(ledger_scripts.NOTE)
        self._renew = client.register_script(ledger_scripts.RENEW)
        self._begin = client.register_script(ledger_scripts.BEGIN)
        self._let_go = client.register_script(ledger_scripts.LET_GO)
        self._take_back = client.register_script(ledger_scripts.TAKE_BACK)
        self._take_due = client.register_script(ledger_scripts.TAKE_DUE)
        self._sent_again = client.register_script(ledger_scripts.SENT_AGAIN)
        self._split = client.register_script(ledger_scripts.SPLIT)
        self._strike = client.register_script(ledger_scripts.STRIKE)
        self._mark = client.register_script(ledger_scripts.MARK)

    def note(self, entry: Entry) -> bool:
        """Note an entry before it is published; false if it is done already, and need not be."""
        return bool(self.note_many([entry]))

    def note_many(self, entries: Sequence[Entry]) -> list[Entry]:
        """Note entries in one round trip; returns those that are not done already.

        Once it returns they are on the server's disk, where the server can tell (see `durability`).
        """
        if not entries:
            return []
        with self._client.pipeline(transaction=False) as pipe:
            for entry in entries:
                self._note_by(entry, pipe)
            is_open = self._durable.execute(pipe)
        return [entry for entry, opened in zip(entries, is_open, strict=True) if opened]

    def _note_by(self, entry: Entry, pipe: redis.client.Pipeline) -> None:
        self._note(
            keys=[
                keys.ledger_open(entry.queue),
                keys.LEDGER_ENTRIES,
                keys.entry_done(entry.id),
                keys.LEDGER_CLOCK,
            ],
            args=[entry.id, ENTRY.dump_json(entry, exclude_none=True)],
            client=pipe,
        )

    def get(self, entry_id: str) -> Entry | None:
        """An open entry; `None` if it is not open, or cannot be read."""
        value = cast("bytes | None", self._client.hget(keys.LEDGER_ENTRIES, entry_id))
        return None if value is None else _readable(entry_id, value)

    # Who works on it

    def begin(self, entry: Entry, holder: str, *, take: bool = False) -> "Holder | None":
        """Hold an entry: what was noted before it on its queue has had its turn.

        An entry whose holder beats is not held by another, unless it is to be taken.

        Returns:
            Who held it before and never let go; `None` if nobody did.
        """
        before, beats = self._begin(
            keys=[
                keys.ledger_open(entry.queue),
                keys.LEDGER_ENTRIES,
                keys.LEDGER_BEGUN,
                keys.ledger_held(entry.queue),
                keys.LEDGER_HOLDERS,
                keys.LEDGER_LATER,
                keys.LEDGER_CLOCK,
            ],
            args=[entry.id, entry.queue, holder, HOLDER_SECONDS, int(take)],
        )
        name = bytes(before).decode(errors="replace")
        return None if name in {"", holder} else Holder(name, beats=bool(beats))

    def renew(self, queue: str, entry_ids: Sequence[str]) -> None:
        """Give a sign of life for entries of a queue that are open: somebody works on them."""
        self._renew(
            keys=[keys.ledger_open(queue), keys.ledger_held(queue), keys.LEDGER_CLOCK], args=[*entry_ids]
        )

    def let_go(self, entry: Entry, holder: str, *, postponed: float | None = None) -> None:
        """Hold an entry no more, if this holder still does. `postponed`: it is due after so many seconds."""
        self._let_go(
            keys=[
                keys.ledger_open(entry.queue),
                keys.ledger_held(entry.queue),
                keys.LEDGER_HOLDERS,
                keys.LEDGER_LATER,
                keys.LEDGER_CLOCK,
            ],
            args=[entry.id, "" if postponed is None else f"{postponed:.3f}", holder],
        )

    def split(self, entry: Entry, parts: Sequence[Entry]) -> list[Entry]:
        """Note the parts of an entry, which from now on are sent in its place; returns those to be sent.

        The entry itself stays open until all of its jobs are done. A part that is split is done at once: the
        new parts belong to the same whole.
        """
        with self._client.pipeline(transaction=True) as pipe:
            for part in parts:
                self._note_by(part, pipe)
            self._split(
                keys=[
                    keys.ledger_open(entry.queue),
                    keys.ledger_held(entry.queue),
                    keys.LEDGER_HOLDERS,
                    keys.LEDGER_SPLIT,
                    keys.LEDGER_ENTRIES,
                    keys.entry_done(entry.id),
                    keys.LEDGER_RESENT,
                ],
                args=[entry.id, "" if entry.part_of is None else self._done_seconds],
                client=pipe,
            )
            is_open = pipe.execute()[: len(parts)]
        return [part for part, opened in zip(parts, is_open, strict=True) if opened]

    def strike(self, entry: Entry, *, if_done: bool = False) -> bool:
        """Strike an entry whose verdicts all stand, and what is known of its jobs. Twice is fine.

        `if_done`: only if all of its jobs are marked; false if they are not, because Redis lost the markers.
        """
        struck = self._strike(
            keys=[
                keys.ledger_open(entry.queue),
                keys.LEDGER_ENTRIES,
                keys.entry_done(entry.id),
                keys.LEDGER_RESENT,
                keys.ledger_held(entry.queue),
                keys.LEDGER_HOLDERS,
                keys.LEDGER_LATER,
                keys.LEDGER_SPLIT,
                keys.entry_done(entry.part_of or entry.id),
            ],
            args=[
                entry.id,
                self._done_seconds,
                keys.JOB_DONE_PREFIX,
                keys.ATTEMPTS_PREFIX,
                int(if_done),
            ],
        )
        return bool(struck)

    def is_done(self, entry_id: str) -> bool:
        """Whether an entry was struck, within the last `done_seconds`."""
        return bool(self._client.exists(keys.entry_done(entry_id)))

    def is_elsewhere(self, entry_id: str) -> bool:
        """Whether nothing is left to do for an entry's own message: it was struck, or its parts go on."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.exists(keys.entry_done(entry_id))
            pipe.sismember(keys.LEDGER_SPLIT, entry_id)
            return any(pipe.execute())

    def done_among(self, entry_ids: Sequence[str]) -> set[str]:
        """Those of the entries that were struck, for whoever waits for many."""
        return self._marked(entry_ids, keys.entry_done)

    def mark_done(self, job_id: str, *, run: str | None = None) -> bool:
        """Mark one job of an open entry: its verdict stands, and the next delivery may pass it over.

        `run` is the run of the server in which the attempt began (`Attempts.start`). In another one the job
        is not marked, and this is false: the server may have lost the verdict when it ended.
        """
        if run is not None:
            return bool(self._mark(keys=[keys.job_done(job_id)], args=[self._done_seconds, run]))
        self._client.set(keys.job_done(job_id), "1", ex=self._done_seconds)
        return True

    def job_done(self, job_id: str) -> bool:
        """Whether a job of an open entry is marked. Once the entry is struck, ask `is_done` of the entry."""
        return bool(self._client.exists(keys.job_done(job_id)))

    def jobs_done(self, entry: Entry) -> set[str]:
        """Those of an open entry's jobs that are marked, by their ids."""
        return self._marked([job.id for job in entry.jobs], keys.job_done)

    def times_sent_again(self, entry: Entry) -> int:
        """How often an open entry was sent again since it last made progress, as of the last time."""
        value = cast("bytes | None", self._client.hget(keys.LEDGER_RESENT, entry.id))
        return int(value.partition(b" ")[0]) if value else 0

    def made_progress(self, entry: Entry) -> bool:
        """Whether some of an open entry's jobs were done since it was sent again last."""
        value = cast("bytes | None", self._client.hget(keys.LEDGER_RESENT, entry.id)) or b""
        return len(self.jobs_done(entry)) > int(value.partition(b" ")[2] or 0)

    def sent_again(self, entry: Entry) -> int:
        """Count that an entry was sent again: 1 for the first time since one of its jobs was done.

        It is a sign of life, too.
        """
        return int(
            self._sent_again(
                keys=[
                    keys.LEDGER_RESENT,
                    keys.ledger_open(entry.queue),
                    keys.LEDGER_CLOCK,
                    keys.LEDGER_ENTRIES,
                ],
                args=[entry.id, len(self.jobs_done(entry))],
            )
        )

    def bury(self, entry: Entry) -> None:
        """Take an entry out of the ledger that is not done, and that nobody is to send again."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.zrem(keys.ledger_open(entry.queue), entry.id)
            pipe.zrem(keys.ledger_held(entry.queue), entry.id)
            pipe.zrem(keys.LEDGER_LATER, entry.id)
            pipe.hdel(keys.LEDGER_ENTRIES, entry.id)
            pipe.hdel(keys.LEDGER_RESENT, entry.id)
            pipe.hdel(keys.LEDGER_HOLDERS, entry.id)
            pipe.srem(keys.LEDGER_SPLIT, entry.id)
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

    def silent(self, queue: str, limit: int, *, seconds: float = 0.0) -> list[OpenEntry]:
        """Up to `limit` entries of a queue without a sign of life for so long, the most silent first."""
        return self._open_entries(
            self._by_silence(keys.ledger_open(queue), limit=limit, until=self._now() - seconds)
        )

    def passed_over(self, queue: str, limit: int, *, seconds: float) -> list[OpenEntry]:
        """Of those that are `silent`, the entries whose turn has passed.

        An entry that was noted at least ten seconds after their last sign of life has begun before them.
        """
        latest = float(cast("bytes | None", self._client.hget(keys.LEDGER_BEGUN, queue)) or 0)
        until = min(self._now() - seconds, latest - _OUT_OF_ORDER_SECONDS)
        return self._open_entries(self._by_silence(keys.ledger_open(queue), limit=limit, until=until))

    def take_back(self, queue: str, limit: int, *, seconds: float) -> list[OpenEntry]:
        """Up to `limit` entries of a queue whose holders have been silent for so long; held no more."""
        silent = self._by_silence(keys.ledger_held(queue), limit=limit, until=self._now() - seconds)
        found = self._open_entries(silent)
        if silent:
            self._take_back(keys=[keys.ledger_held(queue)], args=[entry_id for entry_id, _ in silent])
        return found

    def take_due(self, limit: int) -> list[Entry]:
        """Up to `limit` postponed entries that are due; they are open as before, and to be sent."""
        due = self._take_due(
            keys=[keys.LEDGER_LATER, keys.LEDGER_ENTRIES, keys.LEDGER_CLOCK],
            args=[limit, keys.LEDGER_OPEN_PREFIX],
        )
        return [found.entry for found in self._open_entries([(entry_id, 0.0) for entry_id in due])]

    def holder(self, entry_id: str) -> str | None:
        """Who is busy with an entry, or was lost with it."""
        value = cast("bytes | None", self._client.hget(keys.LEDGER_HOLDERS, entry_id))
        return None if value is None else value.decode(errors="replace")

    def claim_sweep(self, seconds: float) -> bool:
        """Whether the ledger is to be swept now; false if somebody claimed that within so many seconds."""
        return bool(self._claim_sweep(keys=[keys.SWEEP, keys.LEDGER_CLOCK], args=[seconds]))

    def count_postponed(self) -> int:
        """How many entries are postponed."""
        return self._client.zcard(keys.LEDGER_LATER)

    def _open_entries(self, silent: Sequence[tuple[bytes, float]]) -> list[OpenEntry]:
        """The entries of these ids.

        One that cannot be read (a later version wrote it, or somebody else) is logged, and stays there.
        """
        if not silent:
            return []
        found = self._client.hmget(keys.LEDGER_ENTRIES, [entry_id for entry_id, _ in silent])
        entries = []
        for (entry_id, alive_at), value in zip(silent, cast("list[bytes | None]", found), strict=True):
            entry = None if value is None else _readable(entry_id, value)  # struck since, if it is None
            if entry is not None:
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

    def _by_silence(self, zset: str, *, limit: int, until: float | None = None) -> list[tuple[bytes, float]]:
        """Ids of open entries and their last sign of life, epoch seconds."""
        found = self._client.zrange(
            zset,
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
        """The ledger's clock, epoch seconds."""
        return float(self._clock(keys=[keys.LEDGER_CLOCK]))


def _readable(entry_id: bytes | str, value: bytes) -> Entry | None:
    """An entry as it lies in Redis; one that cannot be read is logged, and left alone."""
    try:
        return ENTRY.validate_json(value.partition(b" ")[2])
    except ValueError as error:  # pydantic's ValidationError is one, and so is what decode raises
        _log.warning("ledger entry %r cannot be read, and is left alone: %s", entry_id, _reason(error))
        return None


def _reason(error: ValueError) -> str:
    """What is wrong, in one line."""
    if isinstance(error, ValidationError):
        return error.errors(include_url=False, include_context=False)[0]["msg"]
    return str(error)
