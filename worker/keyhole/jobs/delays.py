"""Delays between attempts, by exponential back-off with jitter."""

import random
from typing import Final

#: The first delay and the longest delay, in seconds.
FIRST_DELAY, LONGEST_DELAY = 5.0, 60.0
#: The largest jitter, as a fraction of the delay. Without jitter, all work that failed at the same time would
#: also be tried again at the same time.
_JITTER: Final = 0.25


def delay_after(times: int, longest: float = LONGEST_DELAY) -> float:
    """Return the delay in seconds after `times` failed attempts; `times` is at least 1."""
    return min(FIRST_DELAY * 2.0 ** min(times - 1, 10), longest)


def jittered(seconds: float) -> float:
    """Return a delay with random jitter added or subtracted."""
    return seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
