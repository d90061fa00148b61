"""The memory that the scans of one process share, so that their total is bounded.

The memory of a usual image, about 2 MiB, is not counted, because the number of threads is limited.
Decoders, large maps and long texts are counted. Each scan has a share of the pool. It takes memory before
it allocates much, waits if there is not enough, and gives everything back at its end. Scans are served in
order, but a scan that holds memory comes before those that hold none, because it will give memory back.

Containers nest, so scans that hold memory can wait for each other. If all scans that hold memory would
wait, the last one to ask is ended, and its memory serves the others. It is undecided, because there may be
enough at another time.

A scan that needs much more than the whole pool gets all of it, and uses more than is counted. Only one
process of a worker does so at a time.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from keyhole.reasons import Reason
from keyhole.scan.process_lock import ProcessLock
from keyhole.sources.errors import TransientError

#: The size of a share after which freed memory is returned to the system.
TRIM_BYTES: Final = 16 * 1024 * 1024
#: Bytes beyond the whole pool that need no lock: the buffers beside a decoder's window.
SLACK_BYTES: Final = 12 * 1024 * 1024


class MemoryPool:
    """A number of bytes that scans share.

    Args:
        capacity: The number of bytes. A scan that needs more gets all of them.
        process_lock: The lock that lets one process at a time use much more.
        trim: Returns freed memory to the system after a scan that held much.
    """

    def __init__(
        self,
        capacity: int,
        process_lock: ProcessLock | None = None,
        trim: Callable[[], object] = lambda: None,
    ) -> None:
        self._trim = trim
        self._trim_needed = threading.Event()
        self._capacity = self._free = capacity
        self._process_lock = process_lock
        self._changed = threading.Condition()
        # Waiting requests in their order: of shares that hold nothing, and of shares that hold memory.
        self._new: list[_Request] = []
        self._growing: list[_Request] = []
        self._holding = 0

    @contextmanager
    def share(self, seconds: Callable[[], float]) -> Iterator["MemoryShare"]:
        """The share of one scan, which waits for up to `seconds()`. The end of the block gives it back."""
        share = MemoryShare(self, seconds)
        try:
            yield share
        finally:
            if share.most >= TRIM_BYTES:
                self._trim_needed.set()
            self.give(share, share.held)

    def scan_ended(self) -> None:
        """Return freed memory to the system after a large scan. Call it when its inspection is released."""
        if self._trim_needed.is_set():
            self._trim_needed.clear()
            self._trim()

    def take(self, share: "MemoryShare", length: int, seconds: float) -> int:
        """Add memory to a share, if necessary after a wait, and return how much was added.

        Raises:
            TransientError: There was not enough in time, or never would be.
        """
        until = time.monotonic() + seconds
        taken = self._take(share, length, seconds)
        share.uncounted += length - taken
        if self._process_lock is None or share.uncounted <= SLACK_BYTES or share.has_process_lock:
            return taken
        # It holds all of the pool, so no other share of this process holds the lock or waits for it.
        share.has_process_lock = self._process_lock.acquire(until - time.monotonic())
        if not share.has_process_lock:
            self.give(share, taken)
            raise TransientError(
                Reason.MEMORY, f"other processes hold so much that {length} bytes wait for them"
            )
        return taken

    def _take(self, share: "MemoryShare", length: int, seconds: float) -> int:
        with self._changed:
            request = _Request(min(length, self._capacity - share.held))
            queue = self._growing if share.held else self._new
            queue.append(request)
            try:
                self._changed.wait_for(lambda: self._can_have(request) or self._is_stuck(request), seconds)
                if not self._can_have(request):
                    message = f"scans hold so much that {request.length} bytes more were not to be had"
                    raise TransientError(Reason.MEMORY, message)
                self._holding += not share.held and request.length > 0
                self._free -= request.length
                share.held += request.length
                share.most = max(share.most, share.held)
                return request.length
            finally:
                queue.remove(request)
                self._changed.notify_all()

    def give(self, share: "MemoryShare", length: int) -> None:
        """Return memory of a share to the pool."""
        with self._changed:
            if length >= share.held:
                share.uncounted = 0
                if share.has_process_lock and self._process_lock is not None:
                    self._process_lock.release()
                    share.has_process_lock = False
            # The end of the scan gives everything back, and an inspector may give back some of it later.
            length = min(length, share.held)
            if length:
                share.held -= length
                self._free += length
                self._holding -= not share.held
                self._changed.notify_all()

    def _can_have(self, request: "_Request") -> bool:
        in_turn = request in self._growing or (not self._growing and request is self._new[0])
        return in_turn and request.length <= self._free

    def _is_stuck(self, request: "_Request") -> bool:
        """Whether all shares that hold memory wait forever, and this request is the latest one."""
        return (
            self._growing[-1:] == [request]
            and len(self._growing) == self._holding
            and all(one.length > self._free for one in self._growing)
        )


class _Request:
    """A request for a number of bytes, compared by identity."""

    def __init__(self, length: int) -> None:
        self.length = length


class MemoryShare:
    """The memory of one scan; see `keyhole.inspectors.memory.Holder`."""

    def __init__(self, pool: MemoryPool, seconds: Callable[[], float]) -> None:
        self._pool = pool
        self._seconds = seconds
        self.held = self.most = 0
        #: Bytes that were requested but are not counted, because the pool is smaller; and the lock for them.
        self.uncounted = 0
        self.has_process_lock = False

    def take(self, length: int) -> int:
        """Take memory from the pool, and return how much: less than `length` if the whole pool is smaller.

        Raises:
            TransientError: There was not enough in time, or never would be.
        """
        return self._pool.take(self, length, self._seconds())

    def give(self, length: int) -> None:
        """Give memory back to the pool."""
        self._pool.give(self, length)
