"""A circuit breaker for each bucket: where most scans end undecided, scanning stops and one object probes.

It is a process's own, so a worker whose network is broken does not stop others whose network is not.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_log = logging.getLogger(__name__)

#: The last scans of a bucket that count, and how many there must be before they say anything.
WINDOW, MIN_SCANS = 20, 8
#: The share of undecided scans at which a bucket is given a rest.
MAX_UNDECIDED_SHARE: Final = 0.5
#: Seconds between two probes.
PROBE_SECONDS: Final = 5.0
#: Seconds by which work on a bucket at rest is postponed: as long as the rest has lasted, within these.
MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 5.0, 60.0


@dataclass(slots=True)
class _Bucket:
    decided: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    opened_at: float | None = None
    next_probe_at: float = 0.0


class Breaker:
    """The state of every bucket that this process has scanned; threads may share it.

    `on_open` is called whenever a bucket is given a rest, and whenever a probe of one fails.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, on_open: Callable[[], object] = lambda: None
    ) -> None:
        self._clock = clock
        self._on_open = on_open
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}

    def allows(self, bucket: str) -> bool:
        """Whether an object of the bucket may be scanned now; at rest, one every few seconds may."""
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
        """Seconds after which it is worth to try the bucket again."""
        with self._lock:
            state = self._buckets.get(bucket)
            if state is None or state.opened_at is None:
                return MIN_RETRY_SECONDS
            return min(max(self._clock() - state.opened_at, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS)

    @property
    def open_buckets(self) -> tuple[str, ...]:
        """The buckets that are not scanned now, but for probes."""
        with self._lock:
            return tuple(name for name, state in self._buckets.items() if state.opened_at is not None)

    def record(self, bucket: str, *, decided: bool, reason: str = "") -> None:
        """Note how a scan of the bucket ended."""
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
