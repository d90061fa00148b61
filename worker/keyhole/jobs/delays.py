"""How long to wait before something is tried again: longer each time, and not the same for all."""

import random
from typing import Final

#: Seconds to wait the first time, and at most.
FIRST_DELAY, LONGEST_DELAY = 5.0, 60.0
#: The share by which a wait is made longer or shorter. Otherwise all would come back at once.
_SPREAD: Final = 0.25


def delay_after(times: int) -> float:
    """Seconds to wait after so many attempts in vain, at least one."""
    return min(FIRST_DELAY * 2.0 ** min(times - 1, 10), LONGEST_DELAY)


def spread(seconds: float) -> float:
    """About so many seconds."""
    return seconds * random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311 - no secret
