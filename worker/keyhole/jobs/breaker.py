"""A circuit breaker for each bucket. It opens if most scans of the bucket end without a verdict.

While a breaker is open, work on its bucket is postponed, and every few seconds the worker scans one object as
a probe. Each process has its own breakers, so a worker with a broken network does not stop the work of other
workers.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_log = logging.getLogger(__name__)

#: A breaker considers the last WINDOW scans of its bucket, and opens only after at least MIN_SCANS scans.
WINDOW, MIN_SCANS = 20, 8
#: The breaker opens if more than this fraction of the scans is undecided.
MAX_UNDECIDED_SHARE: Final = 0.5
#: Seconds between two probes.
PROBE_SECONDS: Final = 5.0
#: The shortest and the longest delay, in seconds, of work on a bucket with an open breaker. Between these
#: limits, the delay is equal to the time for which the breaker has been open.
MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 5.0, 60.0


@dataclass(slots=True)
class _Bucket:
    decided: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    opened_at: float | None = None
    next_probe_at: float = 0.0


class Breaker:
    """The breakers of all buckets that this process has scanned. Threads can share this object.

    `on_open` is called whenever a breaker opens, and whenever a probe of an open breaker fails.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, on_open: Callable[[], object] = lambda: None
    ) -> None:
        self._clock = clock
        self._on_open = on_open
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}

    def allows(self, bucket: str) -> bool:
        """Whether the caller may scan an object of the bucket now.

        An open breaker allows one probe every `PROBE_SECONDS`.
        """
        with self._lock:
            state = self._buckets.get(bucket)
            if state is None or state.opened_at is None:
                return True
            now = self._clock()
            if now < state.next_probe_at:
                return False
            state.next_probe_at = now + PROBE_SECONDS
            return True

    def retry_after(self, bucket: str) -> float:
        """Seconds to wait before the next attempt at an object of the bucket."""
        with self._lock:
            state = self._buckets.get(bucket)
            if state is None or state.opened_at is None:
                return MIN_RETRY_SECONDS
            return min(max(self._clock() - state.opened_at, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS)

    @property
    def open_buckets(self) -> tuple[str, ...]:
        """The buckets whose breakers are open."""
        with self._lock:
            return tuple(name for name, state in self._buckets.items() if state.opened_at is not None)

    def record(self, bucket: str, *, decided: bool, reason: str = "") -> None:
        """Record whether a scan of the bucket led to a verdict.

        If it led to no verdict, log `reason`, which is an error message.
        """
        with self._lock:
            state = self._buckets.setdefault(bucket, _Bucket())
            state.decided.append(decided)
            if state.opened_at is not None:
                if decided:
                    _log.warning("bucket %s responds again; its objects are scanned again", bucket)
                    state.opened_at = None
                    state.decided.clear()
                else:
                    self._on_open()
                return
            undecided = state.decided.count(False)
            if len(state.decided) >= MIN_SCANS and undecided > MAX_UNDECIDED_SHARE * len(state.decided):
                self._on_open()
                state.opened_at = self._clock()
                state.next_probe_at = state.opened_at + PROBE_SECONDS
                _log.error(
                    "%d of the last %d scans of bucket %s ended without a verdict (%s); its work is "
                    "postponed, and one object is scanned every %d seconds as a probe",
                    undecided,
                    len(state.decided),
                    bucket,
                    reason,
                    PROBE_SECONDS,
                )
