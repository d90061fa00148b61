"""Retries requests after failures of the network or the server.

When this module is imported, it makes stamina log every retry at level debug. The level is not higher,
because the caller reports the final result.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from keyhole.sources.errors import TransientError

#: The most attempts, and the most seconds for all attempts together. After SlowDown, S3 recovers within
#: seconds. The scan's budget also limits the number of requests.
RETRY_ATTEMPTS, RETRY_SECONDS = 5, 45.0

Result = TypeVar("Result")

log = logging.getLogger(__name__)


def retried(request: Callable[[], Result]) -> Result:
    """Return the result of a request.

    After a `TransientError`, wait and repeat the request. Each wait is longer than the previous wait.

    Raises:
        TransientError: The last attempt failed, or the time is used up.
    """
    began = time.monotonic()
    try:
        return request()
    except TransientError as error:
        # Open a context of stamina only after a failure, because the context takes as much CPU time as the
        # rest of a GET.
        failure = error
    left = RETRY_SECONDS - (time.monotonic() - began)
    if left <= 0:
        raise failure
    attempts = stamina.retry_context(
        on=TransientError,
        attempts=RETRY_ATTEMPTS,
        timeout=left,
        wait_initial=0.2,
        wait_max=8.0,
    )
    for attempt in attempts:
        with attempt:
            if attempt.num == 1:
                raise failure
            return request()
    raise failure


def _log_retry(details: RetryDetails) -> None:
    log.debug("trying again in %.1f s: %s", details.wait_for, details.caused_by)


set_on_retry_hooks([_log_retry])
