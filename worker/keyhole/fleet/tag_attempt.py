"""One attempt to write the tags of an object, in a few tries and within the rate limit.

The caller holds the object's tag debt (`keyhole.jobs.tag_debts`).
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import stamina
from botocore.exceptions import ClientError

from keyhole.fleet.observing import request_failed
from keyhole.fleet.services import Services
from keyhole.jobs.rate_limit import RateLimiter
from keyhole.jobs.tag_debts import RENEW_SECONDS, Hold
from keyhole.jobs.tag_turn import NoTurn
from keyhole.reasons import Reason
from keyhole.results.tag_writer import Learned, TagOutcome, TagRequest, VerdictOn, ignore
from keyhole.results.tags import TagDebt
from keyhole.sources.errors import SourceError, TransientError
from keyhole.sources.s3_metadata import http_status
from keyhole.sources.s3_refusal import BOTO_ERRORS, explain

log = logging.getLogger(__name__)

#: The maximum number of tries in a row, the seconds within which these tries must start, and the first pause
#: in seconds. If S3 fails for longer, the tags are written later, because scans must not wait for them.
TRIES, TRY_SECONDS, FIRST_WAIT = 3, 3.0, 0.1
#: Seconds after which the worker sends no further requests for one object. Time spent waiting for the rate
#: limit is not counted.
LONGEST_WRITE: Final = 30.0
#: The default of `attempt_to_write`.
_NO_TURN: Final = NoTurn()


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of an attempt to write tags.

    Args:
        reason: A code for the outcome, or for the cause of the failure.
        error: The error message if the attempt failed; otherwise `None`.
        unanswered: Whether the tags must be checked once more, because S3 did not answer a write request,
            which can therefore still take effect later.
    """

    reason: str
    error: str | None
    unanswered: bool


class _TooSlowError(TransientError):
    """The requests for one object took longer than `LONGEST_WRITE`, so its tags are written later."""

    def __init__(self) -> None:
        super().__init__(Reason.NETWORK, f"the requests took longer than {LONGEST_WRITE:.0f} s")


def attempt_to_write(
    services: Services,
    hold: Hold[TagDebt],
    debt: TagDebt,
    verdict_on: VerdictOn,
    asked: Callable[[TagRequest], object],
    *,
    learned: Learned = ignore,
    until: float = math.inf,
    turn: NoTurn = _NO_TURN,
) -> Attempt:
    """Try up to `TRIES` times to write the tags of a debt, and return the outcome of the last try.

    Args:
        services: The services of this process.
        hold: The held debt.
        debt: The debt with the tags to write.
        verdict_on: Returns the tags for the content with a given ETag.
        asked: Called before each request to S3.
        learned: Called with each answer to a request that reads the tags.
        until: The latest time, on the clock `time.monotonic`, at which the rate limit may allow a request.
        turn: Decides whether to wait for the rate limit; by default, wait until `until`.
    """
    debts = services.tag_debts

    def beat() -> None:
        debts.renew(hold)
        turn.renew()

    rate_limiter = RateLimiter(services.redis, debt.bucket, debt.rate, beat, until)
    renewed = time.monotonic()
    ends = renewed + LONGEST_WRITE
    last: TagRequest | None = None
    unanswered = False

    def ask(request: TagRequest) -> None:
        nonlocal last, renewed, ends
        before = time.monotonic()
        if before > ends:
            raise _TooSlowError
        rate_limiter()
        asked(request)
        now = time.monotonic()
        ends += now - before
        if now - renewed > RENEW_SECONDS:
            beat()
            renewed = now
        last = request

    def write() -> TagOutcome:
        nonlocal unanswered
        try:
            return services.tags.write(debt, verdict_on, ask, learned)
        except BOTO_ERRORS as error:
            unanswered |= last is TagRequest.WRITE and not _is_refusal(error)
            request_failed(explain(error).reason)
            raise

    retry = stamina.retry(
        on=_may_pass, attempts=TRIES, timeout=TRY_SECONDS, wait_initial=FIRST_WAIT, wait_jitter=0.1
    )
    try:
        turn.reserve(rate_limiter)
        outcome = retry(write)()
    except BOTO_ERRORS as error:
        found = explain(error)
        return Attempt(found.reason, str(found), unanswered)
    except SourceError as error:
        return Attempt(error.reason, str(error), unanswered)
    return _with_outcome(debt, outcome, unanswered=unanswered)


def _with_outcome(debt: TagDebt, outcome: TagOutcome, *, unanswered: bool) -> Attempt:
    if outcome is TagOutcome.FAILED_CONTENDED:
        message = "somebody else overwrites the tags or replaces the object again and again"
        return Attempt("contended", message, unanswered)
    if outcome in {TagOutcome.SKIPPED_FULL, TagOutcome.SKIPPED_UNSUPPORTED}:
        log.warning("the tags of %s: %s", name_of(debt), outcome)
    return Attempt(outcome, None, unanswered)


def name_of(debt: TagDebt) -> str:
    """Return the URI of a debt's object."""
    return f"s3://{debt.bucket}/{debt.key}"


def _may_pass(error: Exception) -> bool:
    """Return whether the error may be temporary. If it may be, the worker tries again at once."""
    return isinstance(error, BOTO_ERRORS) and isinstance(explain(error), TransientError)


def _is_refusal(error: Exception) -> bool:
    """Return whether an error means that S3 refused the request, so that the request had no effect."""
    return isinstance(error, ClientError) and http_status(error.response) < 500
