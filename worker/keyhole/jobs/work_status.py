"""The status of the work: the open entries, the busy workers, and the latest failures.

This module only reads from Redis, so it also works while Redis refuses writes. The ledger's clock advances
only when a script reads it, and such a script writes. So this module computes the current time: it adds the
time that has passed on the server's clock since the last reading.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, cast

import redis

from keyhole.jobs.queues import QUEUES
from keyhole.store import keys

#: `failures` covers this many minutes.
MINUTES: Final = 10


@dataclass(frozen=True, slots=True)
class Busy:
    """A worker process that holds leases.

    Args:
        name: The name of the process (`liveness`).
        entries: The number of leases that it holds.
        silent_seconds: The time since its last heartbeat.
        busy_seconds: The age of its oldest lease; `None` if its liveness marker has expired.
        entry_ids: The ids of the entries whose leases it holds, sorted.
    """

    name: str
    entries: int
    silent_seconds: float
    busy_seconds: float | None
    entry_ids: tuple[str, ...] = ()


class WorkStatus:
    """The status of the work in one Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def count(self) -> int:
        """The number of open entries."""
        return int(self._client.hlen(keys.LEDGER_ENTRIES))

    def longest_idle(self) -> float | None:
        """Return the idle time, in seconds, of the entry that is idle longest; `None` if no entry is open."""
        with self._client.pipeline(transaction=False) as pipe:
            for queue in QUEUES:
                pipe.zrange(keys.ledger_open(queue), 0, 0, withscores=True)
            active = [score for found in pipe.execute() for _, score in found]
        return None if not active else max(0.0, self._now() - min(active))

    def swept_seconds_ago(self) -> float | None:
        """Seconds since the last sweep of the ledger; `None` if it was never swept."""
        value = cast("bytes | None", self._client.get(keys.SWEEP))
        return None if value is None else max(0.0, self._now() - float(value))

    def busy(self) -> list[Busy]:
        """The processes that hold leases, sorted by name."""
        holders = cast("dict[bytes, bytes]", self._client.hgetall(keys.LEDGER_HOLDERS))
        beats: dict[bytes, float] = {}
        for queue in QUEUES:
            found = self._client.zrange(keys.ledger_held(queue), 0, -1, withscores=True)
            beats.update(cast("list[tuple[bytes, float]]", found))
        # LEDGER_HOLDERS also names lost workers, whose leases were reclaimed. Leave these workers out.
        held = [(holders[entry], entry, beat) for entry, beat in beats.items() if entry in holders]
        names = sorted({name for name, _, _ in held})
        if not names:
            return []
        now = self._now()
        markers: Any = self._client.mget([keys.alive(name.decode(errors="replace")) for name in names])
        return [
            Busy(
                name.decode(errors="replace"),
                sum(holder == name for holder, _, _ in held),
                max(0.0, now - max(beat for holder, _, beat in held if holder == name)),
                None if seconds is None else float(seconds),
                tuple(sorted(entry.decode(errors="replace") for holder, entry, _ in held if holder == name)),
            )
            for name, seconds in zip(names, markers, strict=True)
        ]

    def failures(self) -> dict[str, Counter[str]]:
        """The number of scans without a verdict in the last `MINUTES` minutes, by bucket and reason code."""
        this = int(self._now() // 60)
        with self._client.pipeline(transaction=False) as pipe:
            for minute in range(this - MINUTES + 1, this + 1):
                pipe.hgetall(keys.failures(minute))
            minutes: list[dict[bytes, bytes]] = pipe.execute()
        found: dict[str, Counter[str]] = {}
        for failures in minutes:
            for field, times in failures.items():
                reason, _, bucket = field.decode(errors="replace").partition(" ")
                found.setdefault(bucket, Counter())[reason] += int(times)
        return found

    def _now(self) -> float:
        """The current time by the ledger's clock in epoch seconds; see the module's docstring."""
        (seconds, microseconds), (server, ledger) = cast(
            "tuple[tuple[int, int], tuple[bytes | None, bytes | None]]",
            (self._client.time(), self._client.hmget(keys.LEDGER_CLOCK, ["server", "ledger"])),
        )
        at = seconds + microseconds / 1e6
        return at if server is None or ledger is None else float(ledger) + max(0.0, at - float(server))
