"""Retries of requests that may succeed the next time.

Importing this module makes every retry a log entry of level debug; the caller reports the result.
"""

import logging
from typing import Any

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from keyhole.sources.errors import TransientError

#: S3 recovers from SlowDown within seconds. A scan's budget bounds the same in requests.
RETRY_ATTEMPTS, RETRY_SECONDS = 5, 45.0

log = logging.getLogger(__name__)


def retries() -> Any:  # noqa: ANN401 - stamina does not name its type
    """Yield attempts at a request, limited in number and time; only a `TransientError` is retried."""
    return stamina.retry_context(
        on=TransientError, attempts=RETRY_ATTEMPTS, timeout=RETRY_SECONDS, wait_initial=0.2, wait_max=8.0
    )


def _log_retry(details: RetryDetails) -> None:
    log.debug("trying again in %.1f s: %s", details.wait_for, details.caused_by)


set_on_retry_hooks([_log_retry])
