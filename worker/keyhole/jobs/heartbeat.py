"""The heartbeat of a worker process renews the leases on all entries that the process works on.

One thread in each process sends heartbeats every few seconds. If the heartbeats for an entry stop, the sweep
reclaims its lease (`jobs.sweep`).
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis

from keyhole.jobs.delays import FIRST_DELAY
from keyhole.jobs.entry import Entry
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.liveness import Liveness

_log = logging.getLogger(__name__)

#: Seconds between two heartbeats. A lease expires after six missing heartbeats.
BEAT_SECONDS: Final = 5.0


class Heartbeat:
    """Sends heartbeats for the entries that this process works on.

    Create it after the fork, because a fork does not copy the thread that sends the heartbeats.
    """

    def __init__(self, ledger: Ledger, liveness: Liveness, *, seconds: float = BEAT_SECONDS) -> None:
        self._ledger = ledger
        self._liveness = liveness
        self._seconds = seconds
        self._lock = threading.Lock()
        # The time when this process began to work on each entry (`time.monotonic`), by queue and entry id.
        self._held: dict[str, dict[str, float]] = {}
        self._unreleased: list[tuple[Entry, str, list[str]]] = []
        # A thread holds this lock while it repeats releases that failed (see `release`). Without this lock,
        # another thread could acquire the lease on an entry just before the failed release of this entry is
        # repeated. The repeated release would then end the new lease.
        self._releasing = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def beating(self, entry: Entry) -> Iterator[None]:
        """Send heartbeats for an entry during the `with` block."""
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

    def release(self, entry: Entry, worker: str, job_ids: list[str]) -> None:
        """Release the lease on an entry whose work was interrupted.

        The ledger also forgets the interrupted attempts at the entry's jobs. Otherwise it would conclude that
        this worker was lost during the attempts. If Redis does not respond, the release is repeated when
        Redis responds again.

        The release also postpones the entry by a few seconds, so that the sweep sends the entry again when it
        is due. The sweep must send the entry again, because the entry may have no message any more. While
        this worker still had the lease, another worker may have received the message and dropped it.
        """
        try:
            self._release(entry, worker, job_ids)
        except redis.RedisError as error:
            _log.warning("Redis does not respond; entry %s will be released later: %s", entry.id, error)
            with self._lock:
                self._unreleased.append((entry, worker, job_ids))

    def release_pending(self) -> None:
        """Repeat all failed releases."""
        with self._releasing:
            with self._lock:
                unreleased, self._unreleased = self._unreleased, []
            for interrupted in unreleased:
                self.release(*interrupted)

    def release_before(self, entry: Entry) -> None:
        """Repeat the failed release of an entry that this process is about to begin again.

        Otherwise the release would be repeated later, and would end the new lease.

        Raises:
            redis.RedisError: Redis still does not respond.
        """
        with self._releasing:
            with self._lock:
                pending = [interrupted for interrupted in self._unreleased if interrupted[0].id == entry.id]
            for interrupted in pending:
                self._release(*interrupted)
                with self._lock:
                    self._unreleased.remove(interrupted)

    def _release(self, entry: Entry, worker: str, job_ids: list[str]) -> None:
        self._ledger.attempts.release(job_ids, worker)
        self._ledger.leases.release(entry, worker, postponed=FIRST_DELAY)

    def _beat(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(self._seconds)
            with self._lock:
                held = {queue: sorted(ids) for queue, ids in self._held.items() if ids}
                began = min((at for ids in self._held.values() for at in ids.values()), default=0.0)
            self.release_pending()
            for queue, ids in held.items():
                try:
                    self._liveness.beat(busy_seconds=time.monotonic() - began)
                    self._ledger.leases.renew(queue, ids)
                except redis.RedisError as error:
                    _log.warning("the heartbeat for %d entries of %s failed: %s", len(ids), queue, error)
