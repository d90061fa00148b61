"""A pool that limits the total memory of all scans in one process.

An ordinary image needs about 2 MiB. The pool does not count this memory, because the number of threads
already limits it. The pool counts the memory of decoders, large maps and long texts. Each scan has a share of
the pool. A scan takes memory from the pool before it allocates a large amount, and waits if too little is
free. When the scan ends, it gives all its memory back. The pool serves requests in the order of their
arrival, with one exception: scans that already hold memory come first, because the sooner they finish, the
sooner they give memory back.

Scans can deadlock, because a scan of nested containers takes memory several times. If every scan that holds
memory is waiting for more, the pool refuses the latest request. The refused scan ends without a verdict, and
the other scans get its memory. The worker scans the object of the refused scan again later. By then, more
memory may be free.

A scan that needs more memory than the whole pool gets the whole pool. The scan may use more memory than that,
and the pool does not count the additional memory. To use more than `SLACK_BYTES` beyond the pool, the scan
also needs a lock that all processes of a worker share. So only one process at a time uses so much memory.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from keyhole.reasons import Reason
from keyhole.sources.errors import TransientError

if TYPE_CHECKING:
    from keyhole.scan.process_lock import ProcessLock

#: If a scan held at least this many bytes, the process returns freed memory to the operating system after the
#: scan.
TRIM_BYTES: Final = 16 * 1024 * 1024
#: How many bytes beyond the whole pool a scan may use without the lock. This is enough for the buffers that a
#: decoder needs in addition to its window.
SLACK_BYTES: Final = 12 * 1024 * 1024


class MemoryPool:
    """A fixed number of bytes that the scans of one process share.

    Args:
        capacity: The number of bytes. A scan that needs more gets the whole pool.
        process_lock: Lets only one process at a time use more than `SLACK_BYTES` beyond `capacity`. With
            `None`, all processes may do so at the same time.
        trim: Returns freed memory to the operating system. It is called after a scan that held at least
            `TRIM_BYTES` bytes.
    """

    def __init__(
        self,
        capacity: int,
        process_lock: "ProcessLock | None" = None,
        trim: Callable[[], object] = lambda: None,
    ) -> None:
        self._trim = trim
        self._trim_needed = threading.Event()
        self._capacity = self._free = capacity
        self._process_lock = process_lock
        self._changed = threading.Condition()
        # The waiting requests, oldest first. `_new` has the requests of shares that hold no memory yet, and
        # `_growing` has the requests of shares that already hold memory. `_holding` is the number of shares
        # that hold memory.
        self._new: list[_Request] = []
        self._growing: list[_Request] = []
        self._holding = 0

    @contextmanager
    def share(self, seconds: Callable[[], float]) -> Iterator["MemoryShare"]:
        """Give a scan its share of the pool.

        The share is empty at first. When the block ends, the pool gets all memory of the share back.

        `seconds` returns how long a request for memory may wait; it is called for every request.
        """
        share = MemoryShare(self, seconds)
        try:
            yield share
        finally:
            if share.most >= TRIM_BYTES:
                self._trim_needed.set()
            self.give(share, share.held)

    def scan_ended(self) -> None:
        """Return freed memory to the operating system if a large scan has ended.

        Call this when nothing refers to the scan's inspection any more, because the inspection's memory is
        not free before.
        """
        if self._trim_needed.is_set():
            self._trim_needed.clear()
            self._trim()

    def take(self, share: "MemoryShare", length: int, seconds: float) -> int:
        """Add up to `length` bytes to a share and return how many were added; wait at most `seconds`.

        Raises:
            TransientError: Too little memory was free in time, or all scans that hold memory were waiting, or
                another process did not release the lock in time.
        """
        until = time.monotonic() + seconds
        taken = self._take(share, length, seconds)
        share.uncounted += length - taken
        if self._process_lock is None or share.uncounted <= SLACK_BYTES or share.has_process_lock:
            return taken
        # The lock excludes only other processes, not other threads. This is enough, because this share holds
        # the whole pool: no other share of this process can hold the lock or wait for it.
        share.has_process_lock = self._process_lock.acquire(until - time.monotonic())
        if not share.has_process_lock:
            self.give(share, taken)
            raise TransientError(
                Reason.MEMORY,
                f"another process of this worker uses more memory than its pool, so {length} bytes did not "
                "become available in time",
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
                    message = (
                        f"other scans used up the memory; {request.length} more bytes were not available"
                    )
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
        """Return up to `length` bytes of a share to the pool."""
        with self._changed:
            if length >= share.held:
                share.uncounted = 0
                if share.has_process_lock and self._process_lock is not None:
                    self._process_lock.release()
                    share.has_process_lock = False
            # An inspector can give memory back after the scan has ended, when the share is already empty.
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
        """Return whether this request must fail, because all scans wait for each other (a deadlock).

        There is a deadlock if every share that holds memory is waiting for more than is free. The latest
        request then fails, which ends the deadlock.
        """
        return (
            self._growing[-1:] == [request]
            and len(self._growing) == self._holding
            and all(one.length > self._free for one in self._growing)
        )


class _Request:
    """A request for a number of bytes.

    Two requests for the same number are not equal, so a queue can contain both.
    """

    def __init__(self, length: int) -> None:
        self.length = length


class MemoryShare:
    """The memory of one scan; see `keyhole.inspectors.memory.Holder`."""

    def __init__(self, pool: MemoryPool, seconds: Callable[[], float]) -> None:
        self._pool = pool
        self._seconds = seconds
        self.held = self.most = 0
        #: How many bytes the scan uses beyond the whole pool, and whether it holds the lock for this use.
        self.uncounted = 0
        self.has_process_lock = False

    def take(self, length: int) -> int:
        """Take `length` bytes from the pool, or the whole pool if that is smaller, and return how many.

        Raises:
            TransientError: Too little memory was free in time, or all scans that hold memory were waiting, or
                another process did not release the lock in time.
        """
        return self._pool.take(self, length, self._seconds())

    def give(self, length: int) -> None:
        """Give `length` bytes back to the pool."""
        self._pool.give(self, length)
