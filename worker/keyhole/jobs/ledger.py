"""The ledger in Redis: it records all accepted work until its verdicts are written.

If the broker loses a message or a worker dies, the work is still in the ledger and is sent again.

Glossary:

- *Job*: one object to scan.
- *Entry*: the jobs of one message: a single job or a batch. It is *open* until all its verdicts are written.
- *Record*: an entry as it is stored in Redis (`ledger_format`).
- *Delivery*: the broker sends an entry's message to a worker. The broker can deliver an entry several times.
- *Lease*: the right of one worker process to work on an entry. The heartbeats of the process renew the lease
  (`leases`).
- *Attempt*: one scan of one job (`attempts`).
- *Undecided*: an attempt that failed without a verdict, for example because of S3, the network or Redis.
- *Postponed*: an entry with undecided or interrupted jobs. A worker will try these jobs again later.
- *Complete*: all verdicts of the entry are written. A marker with the entry's id remains in Redis for a
  while, so that workers recognise a late delivery of the same entry and drop it.
- *Activity*: recording or resending an entry, or acquiring, renewing or releasing its lease. An entry is
  *idle* for the time since its last activity.
- *Sweep*: every few seconds, one worker resends the lost entries and the postponed entries that are due
  (`sweep`).
- *Dead letter*: a record of work that Keyhole gave up. A person decides whether to retry or drop the work
  (`keyhole.intake.dead_letters`).

The life of an entry:

    recorded ──► published ──► leased: a worker works on it ──► complete: all its verdicts are written
      ▲                          │         │           │
      │                          │         │           └──► split: new entries, its parts, replace it
      │                          │         └──► postponed: some jobs are undecided; it is due later
      └── sent again ────────────┴── lost: its lease expired, or the broker lost its message

- An entry is recorded *before* it is published. Recording an entry that is already open or complete changes
  nothing.
- The ledger uses its own clock. This clock follows the clock of the Redis server, but never goes back and
  never jumps (`store.clock`). So the ledger works even if the clock of a host is wrong, or someone
  sets the server's clock.
- Queues are first in, first out. An idle entry was *overtaken* if workers have begun an entry that was
  recorded after the idle entry's last activity. A broker that still had the idle entry's message would have
  delivered it first, so the broker must have lost this message.
- An entry that was resent too often without progress is discarded: it becomes a dead letter, and its record
  is removed from the ledger.
- If the Redis server crashes, it can lose verdicts that workers have just written, while the workers continue
  to run. So a worker marks a job as done only after it has written the verdict, and only if the server has
  not restarted since the attempt began. If Redis contains a job's marker, it therefore also contains the
  verdict. An entry is completed only if all its jobs have markers.

What it can't do: the ledger is only as durable as its Redis. If the server supports `WAITAOF`, `record` waits
until the entry is on the server's disk. FLUSHDB, eviction, or a fail-over to a replica that lags can lose
entries, and Keyhole cannot detect this. Markers expire after `done_seconds`. If the broker delivers a message
after its marker has expired, a worker scans the message's objects again. This costs
requests, but Redis then still has one verdict on each object.
"""

from collections.abc import Callable, Sequence
from typing import Final, cast

import redis

from keyhole import versions
from keyhole.jobs import ledger_scripts
from keyhole.jobs.attempts import Attempts
from keyhole.jobs.entry import ENTRY, Entry, OpenEntry
from keyhole.jobs.leases import Leases
from keyhole.jobs.ledger_format import ids_by_activity, read_record, read_records
from keyhole.jobs.newer import LATER_SECONDS
from keyhole.store import keys
from keyhole.store.durability import Durability
from keyhole.store.round_trips import Step

#: The maximum number of ids in one MGET. The limit keeps the response short, and keeps the command from
#: blocking the server for long.
_IDS_PER_COMMAND: Final = 1000
#: If two entries were recorded less than this many seconds apart, workers can begin them in the reverse
#: order, although no message was lost. The reason is that many entries are recorded before the first of them
#: is published, and that several workers consume their messages in parallel.
_OUT_OF_ORDER_SECONDS: Final = 10.0


class Ledger:
    """The ledger in Redis. The client comes from `keyhole.store.connection.connect`.

    Markers and attempts expire after `done_seconds`. This time must be longer than the broker's visibility
    timeout, after which the broker delivers an unacknowledged message again. Otherwise a worker can receive
    the message of a complete entry after the entry's marker has expired, and scan the entry's objects again.
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
        """Record an entry before it is published.

        Returns:
            False if the entry is already complete. In this case, the caller need not publish the entry.
        """
        return bool(self.record_many([entry]))

    def record_many(self, entries: Sequence[Entry]) -> list[Entry]:
        """Record entries in one round trip, and return the entries that are not already complete.

        If the server supports `WAITAOF`, the entries are on its disk when this method returns (see
        `durability`).
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
        """Return an open entry; `None` if the entry is not open, or its record cannot be parsed."""
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
        """Record the parts that replace an entry, and return the parts that the caller must publish.

        The parts take over the entry's work. The ledger keeps the entry itself until all of its jobs are
        done. But an entry that is itself a part of another entry is removed at once, and its parts become
        parts of the other entry.
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
        """Complete an entry: remove it and its jobs' attempts, and write a marker. A second call is harmless.

        With `if_done`, complete the entry only if all of its jobs are marked as done. If a mark is missing,
        return false, because Redis may have lost this mark together with the job's verdict.
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
        """Remove an entry that is not complete, so that the sweep does not send it again."""
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
        """Whether a worker may drop a message with this entry.

        A worker may drop the message if the entry is complete, or if it was split: the parts of a split entry
        have their own messages.
        """
        with self._client.pipeline(transaction=False) as pipe:
            pipe.exists(keys.entry_done(entry_id))
            pipe.sismember(keys.LEDGER_SPLIT, entry_id)
            return any(pipe.execute())

    def done_among(self, entry_ids: Sequence[str]) -> set[str]:
        """Return the ids of the entries that were completed within the last `done_seconds`."""
        return self._marked(entry_ids, keys.entry_done)

    def mark_done(self, job_id: str, *, run: str | None = None) -> bool:
        """Mark a job of an open entry as done after its verdict is written. The next delivery skips the job.

        `run` is the server's `run_id` when the attempt began (`Attempts.start`). If the server was restarted
        after that, do not mark the job, and return false: the server may have lost the verdict.
        """
        if run is not None:
            step = self.marking(job_id, run)
            return bool(self._mark(keys=step.keys, args=step.args))
        self._client.set(keys.job_done(job_id), "1", ex=self._done_seconds)
        return True

    def marking(self, job_id: str, run: str) -> Step:
        """Return the call that `mark_done` makes, so that it can be sent to Redis with other calls."""
        return Step(ledger_scripts.MARK, [keys.job_done(job_id)], [self._done_seconds, run])

    def job_done(self, job_id: str) -> bool:
        """Whether a job of an open entry is marked as done. For a complete entry, call `is_done` instead."""
        return bool(self._client.exists(keys.job_done(job_id)))

    def jobs_done(self, entry: Entry) -> set[str]:
        """Return the ids of the jobs of an open entry that are marked as done."""
        return self._marked([job.id for job in entry.jobs], keys.job_done)

    def mark_published(self, entry_ids: Sequence[str], seconds: int) -> None:
        """Mark entries as published for `seconds`, so that the caller can skip duplicates."""
        with self._client.pipeline(transaction=False) as pipe:
            for entry_id in entry_ids:
                pipe.set(keys.entry_published(entry_id), "1", ex=seconds)
            pipe.execute()

    def published_among(self, entry_ids: Sequence[str]) -> set[str]:
        """Return the ids of the entries that `mark_published` marked and whose mark has not expired."""
        return self._marked(entry_ids, keys.entry_published)

    def _marked(self, of_ids: Sequence[str], marker_of: Callable[[str], str]) -> set[str]:
        """Return the ids that have a marker."""
        marked: set[str] = set()
        for start in range(0, len(of_ids), _IDS_PER_COMMAND):
            ids = of_ids[start : start + _IDS_PER_COMMAND]
            markers = self._client.mget([marker_of(one) for one in ids])
            marked.update(one for one, marker in zip(ids, markers, strict=True) if marker is not None)
        return marked

    # For the sweep

    def claim_sweep(self, seconds: float) -> bool:
        """Claim the next sweep. Return false if a process has claimed a sweep within the last `seconds`."""
        return bool(self._claim_sweep(keys=[keys.SWEEP, keys.LEDGER_CLOCK], args=[seconds]))

    def idle(self, queue: str, limit: int, *, seconds: float = 0.0) -> list[OpenEntry]:
        """Return up to `limit` entries of a queue that have been idle for `seconds`, longest idle first."""
        return self._idle_until(queue, limit, self._now() - seconds)

    def overtaken(self, queue: str, limit: int, *, seconds: float) -> list[OpenEntry]:
        """Return up to `limit` entries that were overtaken and have been idle for `seconds`.

        An entry counts as overtaken only if it was last active more than ten seconds before the other entry
        was recorded, because brokers deliver messages not quite in order.
        """
        latest = float(cast("bytes | None", self._client.hget(keys.LEDGER_BEGUN, queue)) or 0)
        return self._idle_until(queue, limit, min(self._now() - seconds, latest - _OUT_OF_ORDER_SECONDS))

    def pop_due(self, limit: int) -> list[Entry]:
        """Return up to `limit` postponed entries that are due, and end their postponement.

        Entries that this version cannot read stay postponed.
        """
        due = self._pop_due(
            keys=[keys.LEDGER_LATER, keys.LEDGER_ENTRIES, keys.LEDGER_CLOCK],
            args=[limit, keys.LEDGER_OPEN_PREFIX, versions.ENTRY, LATER_SECONDS],
        )
        return [found.entry for found in read_records(self._client, [(entry_id, 0.0) for entry_id in due])]

    def count_resend(self, entry: Entry) -> int:
        """Count a resend of an entry, and return the number of resends since it last made progress.

        The call also updates the entry's last activity.
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
        """Return the result of the last `count_resend` for an open entry; 0 if there was none."""
        value = cast("bytes | None", self._client.hget(keys.LEDGER_RESENT, entry.id))
        return int(value.partition(b" ")[0]) if value else 0

    def made_progress(self, entry: Entry) -> bool:
        """Whether jobs of an open entry were marked as done since its last resend."""
        value = cast("bytes | None", self._client.hget(keys.LEDGER_RESENT, entry.id)) or b""
        return len(self.jobs_done(entry)) > int(value.partition(b" ")[2] or 0)

    def _idle_until(self, queue: str, limit: int, until: float) -> list[OpenEntry]:
        found = ids_by_activity(self._client, keys.ledger_open(queue), limit=limit, until=until)
        return read_records(self._client, found)

    def _now(self) -> float:
        """The time of the ledger's clock, in epoch seconds."""
        return float(self._clock(keys=[keys.LEDGER_CLOCK]))
