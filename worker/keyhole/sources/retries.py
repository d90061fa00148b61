"""Trying again what may work the next time."""

from typing import Any

import stamina

from keyhole.sources.errors import TransientError

#: S3 recovers from SlowDown within seconds. A scan's budget bounds the same in requests.
RETRY_ATTEMPTS, RETRY_SECONDS = 5, 45.0


def retries() -> Any:  # noqa: ANN401 - stamina does not name its type
    """Attempts at what S3 may refuse for a moment, within bounds of number and time."""
    return stamina.retry_context(
        on=TransientError, attempts=RETRY_ATTEMPTS, timeout=RETRY_SECONDS, wait_initial=0.2, wait_max=8.0
    )
