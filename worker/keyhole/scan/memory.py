"""The memory that the scans of one process share, so that its sum is bounded whatever comes.

What a usual image takes, some 2 MiB, is not asked for: there are only so many threads. Decoders, large maps
and long texts are. Each scan has a share of the pool. It takes from it before it holds much, waits if there
is not enough, and gives back all at its end. Who comes first is served first, but a scan that holds something
already comes before those that hold nothing: it is the one that will give something back.

Containers nest, so scans that hold something can wait for each other. That is found when it happens: the scan
that would wait while all others that hold something wait, too, is ended, and what it held serves the others.
It is undecided, for it may have been enough at another time.

What needs much more than the whole pool gets all of it, and holds more than is counted. Of the processes of
a worker, one at a time does so.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from keyhole.reasons import Reason
from keyhole.scan.process_lock import ProcessLock
from keyhole.sources.errors import TransientError

#: Bytes of a share that are worth to be tidied up after.
TRIM_BYTES: Final = 16 * 1024 * 1024
#: Bytes beyond the whole pool for which no turn is needed: the buffers beside a decoder's window.
SLACK_BYTES: Final = 12 * 1024 * 1024


class MemoryPool:
    """A number of bytes that scans share.

    Args:
        capacity: How many. What needs more than that alone gets all of it.
        turn: Whose turn it is, of several processes, to need much more.
        trim: Gives memory back that was freed, after a scan that held much.
    """

    def __init__(
        self,
        capacity: int,
        process_lock: ProcessLock | None = None,
        trim: Callable[[], object] = lambda: None,
    ) -> None:
        self._tidy_up = trim
        self._trim_needed = threading.Event()
        self._capacity = self._free = capacity
        self._process_lock = process_lock
        self._changed = threading.Condition()
        # Those that wait, in the order in which they came: shares that hold nothing, and shares that do.
        self._new: list[_Request] = []
        self._growing: list[_Request] = []
        self._holding = 0

    @contextmanager
    def share(self, seconds: Callable[[], float]) -> Iterator["MemoryShare"]:
        """The share of one scan, which may wait so many seconds each time. All is given back at the end."""
        share = MemoryShare(self, seconds)
        try:
            yield share
        finally:
            if share.most >= TRIM_BYTES:
                self._trim_needed.set()
            self.give(share, share.held)

    def scan_ended(self) -> None:
        """Say that nothing refers to an inspection any more, so that what it held can be tidied up."""
        if self._trim_needed.is_set():
            self._trim_needed.clear()
            self._tidy_up()

    def take(self, share: "MemoryShare", length: int, seconds: float) -> int:
        """Give a share more, if need be after a while, and return how much it is.

        Raises:
            TransientError: There was not enough in time, or never would be.
        """
        until = time.monotonic() + seconds
        taken = self._take(share, length, seconds)
        share.uncounted += length - taken
        if self._process_lock is None or share.uncounted <= SLACK_BYTES or share.has_process_lock:
            return taken
        # It holds all of the pool, so no other share of this process has the turn or waits for it.
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
        """Take something of a share back."""
        with self._changed:
            if length >= share.held:
                share.uncounted = 0
                if share.has_process_lock and self._process_lock is not None:
                    self._process_lock.release()
                    share.has_process_lock = False
            # All may have been given back at the end of the scan, and then some of it again.
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
        """Whether this is the last request to come of shares that hold something, which all wait in vain."""
        return (
            self._growing[-1:] == [request]
            and len(self._growing) == self._holding
            and all(one.length > self._free for one in self._growing)
        )


class _Request:
    """So many bytes that are wanted; each is itself alone."""

    def __init__(self, length: int) -> None:
        self.length = length


class MemoryShare:
    """What one scan holds of a pool; see `keyhole.inspectors.memory.Holder`."""

    def __init__(self, pool: MemoryPool, seconds: Callable[[], float]) -> None:
        self._pool = pool
        self._seconds = seconds
        self.held = self.most = 0
        #: What was asked for and is not counted, for the pool is not as large; and whether that is its turn.
        self.uncounted = 0
        self.has_process_lock = False

    def take(self, length: int) -> int:
        """Take more of the pool; returns how much, which is less where the whole pool is not as much.

        Raises:
            TransientError: There was not enough in time, or never would be.
        """
        return self._pool.take(self, length, self._seconds())

    def give(self, length: int) -> None:
        """Give some back."""
        self._pool.give(self, length)
