"""The heartbeat of a worker process: while it is busy with entries, it says so every few seconds.

One thread a process beats for all entries that the process holds. An entry whose holder stops beating is
taken back by the sweep (`jobs.sweep`).
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis

from keyhole.jobs.delays import FIRST_DELAY
from keyhole.jobs.ledger import Entry, Ledger
from keyhole.jobs.liveness import Liveness

_log = logging.getLogger(__name__)

#: Seconds from one beat to the next. Six in a row must fail until an entry is taken back.
BEAT_SECONDS: Final = 5.0


class Heartbeat:
    """Beats for the entries that this process holds. Make it after the fork."""

    def __init__(self, ledger: Ledger, liveness: Liveness, *, seconds: float = BEAT_SECONDS) -> None:
        self._ledger = ledger
        self._liveness = liveness
        self._seconds = seconds
        self._lock = threading.Lock()
        # By queue and entry, when this process began with it.
        self._held: dict[str, dict[str, float]] = {}
        self._unsettled: list[tuple[Entry, str, list[str]]] = []
        # Held while pending entries are settled, so that none is begun in the middle of that.
        self._settling = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def beating(self, entry: Entry) -> Iterator[None]:
        """Beat for an entry for as long as the block runs."""
        with self._lock:
            self._held.setdefault(entry.queue, {})[entry.id] = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                del self._held[entry.queue][entry.id]

    def settle(self, entry: Entry, worker: str, job_ids: list[str]) -> None:
        """Let go of an entry whose work was broken off, and release jobs that were started.

        Where Redis is away this is done once it is back: what was not lost must not count as lost. Until then
        whoever gets the entry's message believes that this process is at it, and drops the message. So the
        entry is sent again soon.
        """
        try:
            self._settle(entry, worker, job_ids)
        except redis.RedisError as error:
            _log.warning("entry %s is let go of later, for Redis is away: %s", entry.id, error)
            with self._lock:
                self._unsettled.append((entry, worker, job_ids))

    def settle_pending(self) -> None:
        """Settle what could not be settled before."""
        with self._settling:
            with self._lock:
                unsettled, self._unsettled = self._unsettled, []
            for broken_off in unsettled:
                self.settle(*broken_off)

    def settle_before(self, entry: Entry) -> None:
        """Settle what is pending of an entry that this process is about to begin again.

        Later it would let go of the entry while it is worked on.

        Raises:
            redis.RedisError: Redis is still away.
        """
        with self._settling:
            with self._lock:
                pending = [broken_off for broken_off in self._unsettled if broken_off[0].id == entry.id]
            for broken_off in pending:
                self._settle(*broken_off)
                with self._lock:
                    self._unsettled.remove(broken_off)

    def _settle(self, entry: Entry, worker: str, job_ids: list[str]) -> None:
        self._ledger.attempts.release(job_ids, worker)
        self._ledger.let_go(entry, worker, postponed=FIRST_DELAY)

    def _beat(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(self._seconds)
            with self._lock:
                held = {queue: sorted(ids) for queue, ids in self._held.items() if ids}
                began = min((at for ids in self._held.values() for at in ids.values()), default=0.0)
            self.settle_pending()
            for queue, ids in held.items():
                try:
                    self._liveness.beat(busy_seconds=time.monotonic() - began)
                    self._ledger.renew(queue, ids)
                except redis.RedisError as error:
                    _log.warning("no heartbeat for %d entries of %s: %s", len(ids), queue, error)
