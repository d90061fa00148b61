"""Leases on entries. Only the worker process that holds an entry's lease works on the entry.

    acquired ──► renewed by each heartbeat ──► released, or released and postponed
                      │
                      └──► no heartbeat for LEASE_SECONDS: reclaimed by the sweep, which sends the entry again

When the sweep reclaims a lease, the name of its holder stays recorded. The next worker that acquires the
lease finds this name, and so detects that the previous worker was lost.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import redis

from keyhole.jobs import ledger_scripts
from keyhole.jobs.entry import Entry, OpenEntry
from keyhole.jobs.lease_length import LEASE_SECONDS
from keyhole.jobs.ledger_format import ids_by_activity, read_records
from keyhole.store import keys


class Holder(NamedTuple):
    """The worker process that holds a lease, or held it and did not release it.

    `beats` is true if the process still has the lease, because its last heartbeat was recent enough.
    """

    name: str
    beats: bool


class Leases:
    """The leases in Redis. The client comes from `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._clock = client.register_script(ledger_scripts.READ_CLOCK)
        self._acquire = client.register_script(ledger_scripts.ACQUIRE)
        self._renew = client.register_script(ledger_scripts.RENEW)
        self._release = client.register_script(ledger_scripts.RELEASE_LEASE)
        self._reclaim = client.register_script(ledger_scripts.RECLAIM)

    def acquire(self, entry: Entry, holder: str, *, force: bool = False) -> Holder | None:
        """Acquire the lease of an entry.

        If another process has a valid lease and `force` is false, do nothing.

        An entry is *begun* when a worker first acquires its lease. So this method also updates a value that
        `Ledger.overtaken` needs: the latest time at which a begun entry was recorded.

        Returns:
            The previous holder, if it did not release the lease; otherwise `None`. If `beats` is true, the
            previous holder still has the lease, and the caller did not get it.
        """
        before, beats = self._acquire(
            keys=[
                keys.ledger_open(entry.queue),
                keys.LEDGER_ENTRIES,
                keys.LEDGER_BEGUN,
                keys.ledger_held(entry.queue),
                keys.LEDGER_HOLDERS,
                keys.LEDGER_LATER,
                keys.LEDGER_CLOCK,
            ],
            args=[entry.id, entry.queue, holder, LEASE_SECONDS, int(force)],
        )
        name = bytes(before).decode(errors="replace")
        return None if name in {"", holder} else Holder(name, beats=bool(beats))

    def renew(self, queue: str, entry_ids: Sequence[str]) -> None:
        """Renew the leases of open entries of a queue."""
        self._renew(
            keys=[keys.ledger_open(queue), keys.ledger_held(queue), keys.LEDGER_CLOCK], args=[*entry_ids]
        )

    def release(self, entry: Entry, holder: str, *, postponed: float | None = None) -> None:
        """Release a lease if `holder` still has it.

        If `postponed` is given, postpone the entry by that many seconds.
        """
        self._release(
            keys=[
                keys.ledger_open(entry.queue),
                keys.ledger_held(entry.queue),
                keys.LEDGER_HOLDERS,
                keys.LEDGER_LATER,
                keys.LEDGER_CLOCK,
            ],
            args=[entry.id, "" if postponed is None else f"{postponed:.3f}", holder],
        )

    def reclaim(self, queue: str, limit: int, *, seconds: float) -> list[OpenEntry]:
        """End leases without a heartbeat for `seconds`, at most `limit` of them, and return their entries."""
        until = float(self._clock(keys=[keys.LEDGER_CLOCK])) - seconds
        expired = ids_by_activity(self._client, keys.ledger_held(queue), limit=limit, until=until)
        found = read_records(self._client, expired)
        if expired:
            self._reclaim(keys=[keys.ledger_held(queue)], args=[entry_id for entry_id, _ in expired])
        return found

    def holder(self, entry_id: str) -> str | None:
        """The name of the process that works on an entry, or of the lost process that did so last."""
        value = cast("bytes | None", self._client.hget(keys.LEDGER_HOLDERS, entry_id))
        return None if value is None else value.decode(errors="replace")
