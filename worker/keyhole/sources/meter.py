"""The budget of one scan: counts its requests, bytes and seconds, and stops it in time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from keyhole.reasons import Reason
from keyhole.sources.errors import BudgetExhaustedError, TransientError

#: CPU time that a scan may use to report after its budget ran out: a share of the budget, and its limits in
#: seconds.
EXTENSION, LEAST_EXTENSION, MOST_EXTENSION = 0.05, 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that one object may cost. The defaults are far above the needs of any honest image.

    An inspection asks for less than 2 MiB, in at most a dozen ranges. Retries count, too.
    """

    requests: int = 32
    bytes: int = 16 * 1024 * 1024
    seconds: float = 60.0
    #: CPU time of the scanning thread. An image takes below 20 ms, unless its maps have tens of megabytes.
    cpu_seconds: float = 1.0
    #: Bytes that decoders produce from the object and from everything inside it.
    decompressed: int = 1024**3


class Meter:
    """Counts what a scan costs, and refuses what would exceed its budget.

    It belongs to the thread that creates it, and counts the CPU time of that thread.

    Args:
        budget: The most that the scan may cost.
        rate_limiter: Called before every request; it may sleep. That time does not count against the budget.
    """

    def __init__(self, budget: Budget, rate_limiter: Callable[[], None] | None = None) -> None:
        self._budget = budget
        self._rate_limiter = rate_limiter
        self._waited = 0.0
        self._began = time.monotonic()
        self._cpu_began = time.thread_time()
        #: The last failure of the server or the network, which used a part of the budget.
        self.trouble: TransientError | None = None
        self.requests = 0
        self.bytes_read = 0
        self._decompressed = 0

    @property
    def elapsed_seconds(self) -> float:
        """Return the seconds since the scan began, without waits for the rate limit."""
        return time.monotonic() - self._began - self._waited

    @property
    def seconds_left(self) -> float:
        """Return the seconds that are left of the budget."""
        return max(0.0, self._budget.seconds - self.elapsed_seconds)

    @property
    def cpu_seconds(self) -> float:
        """Return the seconds of CPU that this thread has used since the scan began."""
        return time.thread_time() - self._cpu_began

    def widen(self, budget: Budget) -> None:
        """Raise the budget's limits to those of another budget: the object is a container."""
        own = self._budget
        self._budget = Budget(
            max(own.requests, budget.requests),
            max(own.bytes, budget.bytes),
            max(own.seconds, budget.seconds),
            max(own.cpu_seconds, budget.cpu_seconds),
            max(own.decompressed, budget.decompressed),
        )

    def request(self, length: int) -> None:
        """Count a request for `length` bytes before it is made.

        Raises:
            BudgetExhaustedError: The request would exceed the budget. Or `rate_limiter` raised a
                `TransientError`, which `trouble` then has.
        """
        self.allow(length, requests=1)
        self.requests += 1
        if self._rate_limiter is not None:
            before = time.monotonic()
            try:
                self._rate_limiter()
            except TransientError as error:
                self.trouble = error
                raise BudgetExhaustedError(error.reason, str(error)) from error
            self._waited += time.monotonic() - before

    def allow(self, length: int, *, requests: int = 0) -> None:
        """Check that `length` bytes, and `requests` if any, are within the budget.

        Raises:
            BudgetExhaustedError: They would exceed it.
        """
        budget = self._budget
        for over, what in (
            (self.requests + requests > budget.requests, f"{budget.requests} requests"),
            (self.bytes_read + length > budget.bytes, f"{budget.bytes} bytes"),
            (self._decompressed > budget.decompressed, f"{budget.decompressed} decompressed bytes"),
            (self.elapsed_seconds >= budget.seconds, f"{budget.seconds:g} seconds"),
        ):
            if over:
                raise BudgetExhaustedError(
                    Reason.BUDGET, f"the scan's budget of {what} ran out before it could decide"
                )

    def work(self) -> None:
        """Check that the scan may continue to compute.

        Raises:
            BudgetExhaustedError: Its CPU time is used up.
        """
        most = self._budget.cpu_seconds
        if self.cpu_seconds >= most:
            raise BudgetExhaustedError(
                Reason.BUDGET, f"the scan's budget of {most:g} seconds of CPU ran out before it could decide"
            )

    def extend_cpu(self) -> None:
        """Allow a little more CPU time than was used so far: enough to report what is known."""
        more = max(LEAST_EXTENSION, min(MOST_EXTENSION, self._budget.cpu_seconds * EXTENSION))
        self._budget = replace(self._budget, cpu_seconds=self.cpu_seconds + more)

    def decompressed(self, length: int) -> None:
        """Count bytes that a decoder produced, and check the other limits as well.

        Raises:
            BudgetExhaustedError: They exceed the budget.
        """
        self._decompressed += length
        self.allow(0)

    def repeated(self, times: int) -> None:
        """Count requests that a client made by itself, to follow redirects."""
        self.requests += times

    def received(self, length: int) -> None:
        """Count bytes that were received."""
        self.bytes_read += length
