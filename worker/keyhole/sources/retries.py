"""Retries requests after failures of the network or the server.

When this module is imported, it makes stamina log every retry at level debug. It logs no higher level,
because the caller reports the final result.
"""

import logging
from typing import Any

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from keyhole.sources.errors import TransientError

#: The most attempts, and the most seconds for all attempts together. After SlowDown, S3 recovers within
#: seconds. The scan's budget also limits the number of requests.
RETRY_ATTEMPTS, RETRY_SECONDS = 5, 45.0

log = logging.getLogger(__name__)


def retries() -> Any:  # noqa: ANN401 - stamina does not name its type
    """Yield attempts at a request. Only a `TransientError` causes another attempt."""
    return stamina.retry_context(
        on=TransientError, attempts=RETRY_ATTEMPTS, timeout=RETRY_SECONDS, wait_initial=0.2, wait_max=8.0
    )


def _log_retry(details: RetryDetails) -> None:
    log.debug("trying again in %.1f s: %s", details.wait_for, details.caused_by)


set_on_retry_hooks([_log_retry])
