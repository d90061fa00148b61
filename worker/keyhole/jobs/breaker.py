"""A circuit breaker for each bucket. It opens if most scans end undecided; then one object probes the bucket.

Each process has breakers of its own, so a worker with a broken network does not stop workers with a healthy
one.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_log = logging.getLogger(__name__)

#: The last scans of a bucket that count, and the fewest that can open its breaker.
WINDOW, MIN_SCANS = 20, 8
#: The share of undecided scans above which the breaker opens.
MAX_UNDECIDED_SHARE: Final = 0.5
#: Seconds between two probes.
PROBE_SECONDS: Final = 5.0
#: Seconds by which work on a bucket with an open breaker is postponed: as long as it has been open, within
#: these limits.
MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 5.0, 60.0


@dataclass(slots=True)
class _Bucket:
    decided: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    opened_at: float | None = None
    next_probe_at: float = 0.0


class Breaker:
    """The breakers of all buckets that this process has scanned. Threads may share it.

    `on_open` is called whenever a breaker opens, and whenever a probe fails.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, on_open: Callable[[], object] = lambda: None
    ) -> None:
        self._clock = clock
        self._on_open = on_open
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}

    def allows(self, bucket: str) -> bool:
        """Whether an object of the bucket may be scanned now. An open breaker allows a probe now and then."""
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
        """Seconds after which to try the bucket again."""
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
        """Record how a scan of the bucket ended."""
        with self._lock:
            state = self._buckets.setdefault(bucket, _Bucket())
            state.decided.append(decided)
            if state.opened_at is not None:
                if decided:
                    _log.warning("bucket %s answers again; its objects are scanned", bucket)
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
                    "%d of the last %d scans of bucket %s ended undecided (%s); its work is postponed, "
                    "and one object every %d seconds tries again",
                    undecided,
                    len(state.decided),
                    bucket,
                    reason,
                    PROBE_SECONDS,
                )
