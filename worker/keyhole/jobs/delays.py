"""Delays between attempts: exponential back-off with jitter."""

import random
from typing import Final

#: Seconds of the first delay, and of the longest.
FIRST_DELAY, LONGEST_DELAY = 5.0, 60.0
#: The jitter, as a share of the delay. Without it, all failed work would be due at the same moment.
_JITTER: Final = 0.25


def delay_after(times: int) -> float:
    """Return the seconds to wait after `times` failed attempts (at least one)."""
    return min(FIRST_DELAY * 2.0 ** min(times - 1, 10), LONGEST_DELAY)


def jittered(seconds: float) -> float:
    """Add jitter to a delay."""
    return seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
