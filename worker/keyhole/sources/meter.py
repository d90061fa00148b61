"""Counts the requests, bytes and seconds of one scan, and stops the scan before it exceeds its budget."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from keyhole.reasons import Reason
from keyhole.sources.errors import BudgetExhaustedError, SourceError, TransientError

#: If a scan has used up its CPU budget, the scan gets additional CPU time to write its report. This time is
#: the share `EXTENSION` of the budget, but at least `LEAST_EXTENSION` and at most `MOST_EXTENSION` seconds.
EXTENSION, LEAST_EXTENSION, MOST_EXTENSION = 0.05, 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that the scan of one object may cost.

    The defaults are far above the needs of an image that is not hostile: an inspection reads less than 2 MiB,
    in at most a dozen ranges. Retries count as requests.
    """

    requests: int = 32
    bytes: int = 16 * 1024 * 1024
    seconds: float = 60.0
    #: CPU time of the scanning thread. An image takes less than 20 ms, unless its maps have tens of
    #: megabytes.
    cpu_seconds: float = 1.0
    #: Bytes that the decoders produce from the object and from all compressed data inside the object.
    decompressed: int = 1024**3


class Meter:
    """Counts the costs of a scan, and raises an error before the scan exceeds its budget.

    A meter counts the CPU time of the thread that calls it, so only the thread that created it may use it.

    Args:
        budget: The most that the scan may cost.
        rate_limiter: A function that is called before every request and can sleep. The budget's seconds do
            not include the time in this function.
    """

    def __init__(self, budget: Budget, rate_limiter: Callable[[], None] | None = None) -> None:
        self._budget = budget
        self._rate_limiter = rate_limiter
        self._waited = 0.0
        self._began = time.monotonic()
        self._cpu_began = time.thread_time()
        #: The last failure of the server or the network; `None` if there was none (`failed`). If the budget
        #: runs out, this failure may be the cause.
        self.trouble: TransientError | None = None
        self.requests = 0
        self.bytes_read = 0
        #: Seconds that the scan waited for responses, the number of requests that were repeated after a
        #: failure, and the number of failed requests by reason.
        self.waiting_seconds = 0.0
        self.retries = 0
        self.errors: Counter[Reason] = Counter()
        self._decompressed = 0

    @property
    def elapsed_seconds(self) -> float:
        """Return the seconds since the scan began, without the waits for the rate limit."""
        return time.monotonic() - self._began - self._waited

    @property
    def seconds_left(self) -> float:
        """Return the seconds that are left of the budget."""
        return max(0.0, self._budget.seconds - self.elapsed_seconds)

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU time in seconds that this thread has used since the scan began."""
        return time.thread_time() - self._cpu_began

    def widen(self, budget: Budget) -> None:
        """Raise each limit of the budget to the limit of another budget, if the other limit is higher.

        A scan calls this if the object is a container.
        """
        own = self._budget
        self._budget = Budget(
            max(own.requests, budget.requests),
            max(own.bytes, budget.bytes),
            max(own.seconds, budget.seconds),
            max(own.cpu_seconds, budget.cpu_seconds),
            max(own.decompressed, budget.decompressed),
        )

    def request(self, length: int) -> None:
        """Count a request for `length` bytes. Call this before the request is sent.

        Raises:
            BudgetExhaustedError: The request would exceed the budget, or `rate_limiter` raised a
                `TransientError`; `trouble` then contains this error.
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

    @contextmanager
    def response(self) -> Iterator[None]:
        """Measure the time of a request in the `with` block, and count its failure."""
        began = self.elapsed_seconds
        try:
            yield
        except BudgetExhaustedError:
            raise
        except SourceError as error:
            self.errors[error.reason] += 1
            raise
        finally:
            self.waiting_seconds += self.elapsed_seconds - began

    def failed(self, error: TransientError) -> None:
        """Record a failure of the server or the network in `trouble`.

        If the request only failed because the budget's time is over, keep an earlier failure, which is the
        cause.
        """
        if self.trouble is None or self.seconds_left:
            self.trouble = error

    def allow(self, length: int, *, requests: int = 0) -> None:
        """Check that the budget allows `length` more bytes and `requests` more requests.

        The limits on seconds and on decompressed bytes are checked, too.

        Raises:
            BudgetExhaustedError: The scan has exceeded a limit, or would exceed a limit with these bytes and
                requests.
        """
        budget = self._budget
        if self.requests + requests > budget.requests:
            what = f"{budget.requests} requests"
        elif self.bytes_read + length > budget.bytes:
            what = f"{budget.bytes} bytes"
        elif self._decompressed > budget.decompressed:
            what = f"{budget.decompressed} decompressed bytes"
        elif self.elapsed_seconds >= budget.seconds:
            what = f"{budget.seconds:g} seconds"
        else:
            return
        raise BudgetExhaustedError(
            Reason.BUDGET, f"the scan's budget of {what} ran out before it could decide"
        )

    def affords(self, requests: int, length: int) -> bool:
        """Return whether the budget allows this number of further requests, for `length` bytes in total."""
        try:
            self.allow(length, requests=requests)
        except BudgetExhaustedError:
            return False
        return True

    def work(self) -> None:
        """Check that the scan may continue to compute.

        Raises:
            BudgetExhaustedError: The scan has used all CPU time of its budget.
        """
        most = self._budget.cpu_seconds
        if self.cpu_seconds >= most:
            raise BudgetExhaustedError(
                Reason.BUDGET, f"the scan's budget of {most:g} seconds of CPU ran out before it could decide"
            )

    def extend_cpu(self) -> None:
        """Raise the CPU limit a little above the used time, so that the scan can write its report."""
        more = max(LEAST_EXTENSION, min(MOST_EXTENSION, self._budget.cpu_seconds * EXTENSION))
        self._budget = replace(self._budget, cpu_seconds=self.cpu_seconds + more)

    def decompressed(self, length: int) -> None:
        """Count bytes that a decoder produced. Check all limits except the CPU time.

        Raises:
            BudgetExhaustedError: The scan exceeds a limit.
        """
        self._decompressed += length
        self.allow(0)

    def repeated(self, times: int) -> None:
        """Count the additional requests that the client library sent to follow redirects."""
        self.requests += times

    def received(self, length: int) -> None:
        """Count bytes that were received."""
        self.bytes_read += length
