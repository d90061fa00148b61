"""The ledger: all accepted work without a verdict, so that work survives a lost message or a lost worker.

Glossary:

- *Job*: one object to scan.
- *Entry*: the jobs of one message: one job, or a batch. It is *open* until all its verdicts are written.
- *Record*: an entry as the ledger keeps it (`ledger_format`).
- *Delivery*: the broker hands an entry's message to a worker. An entry may be delivered several times.
- *Lease*: a worker process works on the entry. It holds the lease and renews it by heartbeats (`leases`).
- *Attempt*: one scan of one job (`attempts`).
- *Undecided*: an attempt that learned nothing of the object, because S3, the network or Redis failed.
- *Postponed*: an entry with undecided jobs, which is due again later.
- *Complete*: all verdicts of the entry are written. A marker stays, so that a late delivery is recognised.
- *Activity*: an entry is recorded, sent again, acquired, renewed or released. *Idle* is the time since then.
- *Sweep*: every few seconds one worker sends lost and due entries again (`sweep`).
- *Dead letter*: work that is given up and kept for a person (`keyhole.intake.dead_letters`).

The life of an entry:

    recorded ──► published ──► leased: a worker works on it ──► complete: all its verdicts are written
      ▲                          │         │           │
      │                          │         │           └──► split: its jobs go on as entries of their own
      │                          │         └──► postponed: some objects are undecided; due later
      └── sent again ────────────┴── lost: its lease expired, or the broker lost its message

- An entry is recorded *before* it is published. Recording it again changes nothing. Recording a complete
  entry does not open it again.
- The ledger has a clock of its own. It follows the server's clock, but never goes back and never jumps
  (`ledger_scripts.NOW`), so the clocks of the hosts and of the server may be wrong.
- A lost message is found by the order of its queue, which is first in, first out: an entry is overtaken if a
  worker has begun another one that was recorded after its last activity. Its message must be gone.
- An entry that is sent again too often without progress is discarded: it is neither open nor complete.
- A Redis server that crashes loses its last writes, while workers live on. So a job is marked as done only in
  the same run of the server in which its attempt began, and an entry is completed only if all its jobs are
  marked. The marker is written after the verdict: if the marker is there, the verdict is, too.

What it can't do: it is as durable as its Redis. If the server supports `WAITAOF`, recording waits until the
entry is on its disk. FLUSHDB, eviction, or a fail-over to a replica that lags lose entries without a trace.
Markers expire after `done_seconds`; a message that is delivered later is worked on again. That costs
requests, but does not lead to a second verdict.
"""

from collections.abc import Callable, Sequence
from typing import Final, cast

import redis

from keyhole.jobs import ledger_scripts
from keyhole.jobs.attempts import Attempts
from keyhole.jobs.entry import ENTRY, Entry, OpenEntry
from keyhole.jobs.leases import Leases
from keyhole.jobs.ledger_format import ids_by_activity, read_record, read_records
from keyhole.store import keys
from keyhole.store.durability import Durability

#: Ids in one MGET: the answer has some kilobytes, and the command does not hold up the server.
_IDS_PER_COMMAND: Final = 1000
#: Entries that were recorded less than this many seconds apart may be begun in another order: a bulk is
#: recorded before it is published, and several consumers take its messages at once.
_OUT_OF_ORDER_SECONDS: Final = 10.0


class Ledger:
    """The ledger in Redis, through a client of `keyhole.store.connection.connect`.

    Markers and attempts are kept for `done_seconds`. This must be longer than the broker may take to
    deliver a message again (its visibility timeout); otherwise that message is worked on again.
    """

    def __init__(self, client: redis.Redis, *, done_seconds: int) -> None:
        self._client = client
        self._done_seconds = done_seconds
        self._durable = Durability(client)
        self.attempts = Attempts(client, seconds=done_seconds)
        self.leases = Leases(client)
        self._clock = client.register_script(ledger_scripts.READ_CLOCK)
        self._claim_sweep = client.register_script(ledger_scripts.CLAIM_SWEEP)
        self._record = client.register_script(ledger_scripts.RECORD)
        self._pop_due = client.register_script(ledger_scripts.POP_DUE)
        self._count_resend = client.register_script(ledger_scripts.COUNT_RESEND)
        self._split = client.register_script(ledger_scripts.SPLIT)
        self._complete = client.register_script(ledger_scripts.COMPLETE)
        self._mark = client.register_script(ledger_scripts.MARK)

    # Open entries

    def record(self, entry: Entry) -> bool:
        """Record an entry before it is published; false if it is complete and need not be published."""
        return bool(self.record_many([entry]))

    def record_many(self, entries: Sequence[Entry]) -> list[Entry]:
        """Record entries in one round trip, and return those that are not complete already.

        When it returns, they are on the server's disk, if the server can tell (see `durability`).
        """
        if not entries:
            return []
        with self._client.pipeline(transaction=False) as pipe:
            for entry in entries:
                self._record_in(entry, pipe)
            is_open = self._durable.execute(pipe)
        return [entry for entry, opened in zip(entries, is_open, strict=True) if opened]

    def _record_in(self, entry: Entry, pipe: redis.client.Pipeline) -> None:
        self._record(
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
        """Return an open entry; `None` if it is not open, or cannot be read."""
        value = cast("bytes | None", self._client.hget(keys.LEDGER_ENTRIES, entry_id))
        return None if value is None else read_record(entry_id, value)

    def is_open(self, entry_id: str) -> bool:
        """Whether an entry is recorded and not complete."""
        return bool(self._client.hexists(keys.LEDGER_ENTRIES, entry_id))

    def count(self) -> int:
        """The number of open entries."""
        return self._client.hlen(keys.LEDGER_ENTRIES)

    def count_postponed(self) -> int:
        """The number of postponed entries."""
        return self._client.zcard(keys.LEDGER_LATER)

    def split(self, entry: Entry, parts: Sequence[Entry]) -> list[Entry]:
        """Record the parts of an entry, which are sent in its place, and return those to be published.

        The entry stays open until all of its jobs are done. If the entry is a part itself, it is complete at
        once, and the new parts belong to the same whole entry.
        """
        with self._client.pipeline(transaction=True) as pipe:
            for part in parts:
                self._record_in(part, pipe)
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

    def complete(self, entry: Entry, *, if_done: bool = False) -> bool:
        """Complete an entry: remove it and its jobs' attempts, and leave a marker. It may be called twice.

        With `if_done`, do so only if all of its jobs are marked, and return false if they are not: Redis may
        have lost markers.
        """
        completed = self._complete(
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
        return bool(completed)

    def discard(self, entry: Entry) -> None:
        """Remove an entry that is not complete and must not be sent again."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.zrem(keys.ledger_open(entry.queue), entry.id)
            pipe.zrem(keys.ledger_held(entry.queue), entry.id)
            pipe.zrem(keys.LEDGER_LATER, entry.id)
            pipe.hdel(keys.LEDGER_ENTRIES, entry.id)
            pipe.hdel(keys.LEDGER_RESENT, entry.id)
            pipe.hdel(keys.LEDGER_HOLDERS, entry.id)
            pipe.srem(keys.LEDGER_SPLIT, entry.id)
            pipe.execute()

    # Markers

    def is_done(self, entry_id: str) -> bool:
        """Whether an entry was completed within the last `done_seconds`."""
        return bool(self._client.exists(keys.entry_done(entry_id)))

    def is_done_or_split(self, entry_id: str) -> bool:
        """Whether a delivery of this entry has nothing to do: the entry is complete, or its parts go on."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.exists(keys.entry_done(entry_id))
            pipe.sismember(keys.LEDGER_SPLIT, entry_id)
            return any(pipe.execute())

    def done_among(self, entry_ids: Sequence[str]) -> set[str]:
        """Return those of the entries that were completed."""
        return self._marked(entry_ids, keys.entry_done)

    def mark_done(self, job_id: str, *, run: str | None = None) -> bool:
        """Mark a job of an open entry: its verdict is written, and the next delivery skips it.

        `run` is the run of the Redis server in which the attempt began (`Attempts.start`). In another run the
        job is not marked, and this returns false: the server may have lost the verdict.
        """
        if run is not None:
            return bool(self._mark(keys=[keys.job_done(job_id)], args=[self._done_seconds, run]))
        self._client.set(keys.job_done(job_id), "1", ex=self._done_seconds)
        return True

    def job_done(self, job_id: str) -> bool:
        """Whether a job of an open entry is marked. If the entry is complete, call `is_done` instead."""
        return bool(self._client.exists(keys.job_done(job_id)))

    def jobs_done(self, entry: Entry) -> set[str]:
        """Return the ids of those of an open entry's jobs that are marked."""
        return self._marked([job.id for job in entry.jobs], keys.job_done)

    def mark_published(self, entry_ids: Sequence[str], seconds: int) -> None:
        """Remember for `seconds` that entries were published, so that duplicates are not published."""
        with self._client.pipeline(transaction=False) as pipe:
            for entry_id in entry_ids:
                pipe.set(keys.entry_published(entry_id), "1", ex=seconds)
            pipe.execute()

    def published_among(self, entry_ids: Sequence[str]) -> set[str]:
        """Return those of the entries that `mark_published` still remembers."""
        return self._marked(entry_ids, keys.entry_published)

    def _marked(self, of_ids: Sequence[str], marker_of: Callable[[str], str]) -> set[str]:
        """Return those of the ids that have a marker."""
        marked: set[str] = set()
        for start in range(0, len(of_ids), _IDS_PER_COMMAND):
            ids = of_ids[start : start + _IDS_PER_COMMAND]
            markers = self._client.mget([marker_of(one) for one in ids])
            marked.update(one for one, marker in zip(ids, markers, strict=True) if marker is not None)
        return marked

    # For the sweep

    def claim_sweep(self, seconds: float) -> bool:
        """Claim the next sweep; false if another process has claimed one within the last `seconds`."""
        return bool(self._claim_sweep(keys=[keys.SWEEP, keys.LEDGER_CLOCK], args=[seconds]))

    def idle(self, queue: str, limit: int, *, seconds: float = 0.0) -> list[OpenEntry]:
        """Return up to `limit` entries of a queue that have been idle for `seconds`, the longest first."""
        return self._idle_until(queue, limit, self._now() - seconds)

    def overtaken(self, queue: str, limit: int, *, seconds: float) -> list[OpenEntry]:
        """Return those entries of `idle` whose messages must be gone.

        A worker has begun an entry of the queue that was recorded at least ten seconds after their last
        activity.
        """
        latest = float(cast("bytes | None", self._client.hget(keys.LEDGER_BEGUN, queue)) or 0)
        return self._idle_until(queue, limit, min(self._now() - seconds, latest - _OUT_OF_ORDER_SECONDS))

    def pop_due(self, limit: int) -> list[Entry]:
        """Return up to `limit` postponed entries that are due. They are postponed no longer."""
        due = self._pop_due(
            keys=[keys.LEDGER_LATER, keys.LEDGER_ENTRIES, keys.LEDGER_CLOCK],
            args=[limit, keys.LEDGER_OPEN_PREFIX],
        )
        return [found.entry for found in read_records(self._client, [(entry_id, 0.0) for entry_id in due])]

    def count_resend(self, entry: Entry) -> int:
        """Count that an entry was sent again, and return the number of resends since it last made progress.

        This counts as activity.
        """
        return int(
            self._count_resend(
                keys=[
                    keys.LEDGER_RESENT,
                    keys.ledger_open(entry.queue),
                    keys.LEDGER_CLOCK,
                    keys.LEDGER_ENTRIES,
                ],
                args=[entry.id, len(self.jobs_done(entry))],
            )
        )

    def resend_count(self, entry: Entry) -> int:
        """Return what `count_resend` last returned for an open entry; 0 if it was not sent again."""
        value = cast("bytes | None", self._client.hget(keys.LEDGER_RESENT, entry.id))
        return int(value.partition(b" ")[0]) if value else 0

    def made_progress(self, entry: Entry) -> bool:
        """Whether jobs of an open entry were done since it was last sent again."""
        value = cast("bytes | None", self._client.hget(keys.LEDGER_RESENT, entry.id)) or b""
        return len(self.jobs_done(entry)) > int(value.partition(b" ")[2] or 0)

    def _idle_until(self, queue: str, limit: int, until: float) -> list[OpenEntry]:
        found = ids_by_activity(self._client, keys.ledger_open(queue), limit=limit, until=until)
        return read_records(self._client, found)

    def _now(self) -> float:
        """The ledger's clock, in epoch seconds."""
        return float(self._clock(keys=[keys.LEDGER_CLOCK]))
