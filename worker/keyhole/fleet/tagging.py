"""The work on tags: write those of a verdict, record a debt if that fails, and write owed tags later.

Tags are written before the verdict is recorded, so that readers of the verdict find them. A failure does not
delay the verdict: the job is done as soon as the verdict and the debt are recorded.
"""

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import redis
import stamina
from botocore.exceptions import ClientError

from keyhole.fleet.services import Services
from keyhole.intake.dead_letters import Dead
from keyhole.jobs.rate_limit import RateLimiter
from keyhole.jobs.tag_debts import RENEW_SECONDS, Hold
from keyhole.reasons import Reason, Status
from keyhole.results.lookup import Name
from keyhole.results.tag_writer import TagOutcome, TagRequest, VerdictOn
from keyhole.results.tags import TagDebt, own_tags, unquoted
from keyhole.scan.report import Report
from keyhole.sources.errors import SourceError, TransientError
from keyhole.sources.s3_metadata import http_status
from keyhole.sources.s3_refusal import BOTO_ERRORS, explain

log = logging.getLogger(__name__)

#: Attempts in a row, the seconds within which they start, and the first pause. That is enough for a single
#: bad answer. If it takes longer, the tags are owed, so that no scan waits.
ATTEMPTS, ATTEMPT_SECONDS, FIRST_WAIT = 3, 3.0, 0.1
#: Seconds after which no further request is made for one object. Waits for the rate limit do not count.
LONGEST_WRITE: Final = 30.0
#: Debts that one task works on, and seconds within which it begins with them.
PAGE, WRITE_SECONDS = 100, 30.0
#: The most of these tasks in their queue.
MOST_TASKS: Final = 100

#: Statuses of scans that did not read the object.
_UNREAD: Final = frozenset({Status.FAILED, Status.UNREADABLE})


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The outcome of an attempt to write tags.

    Args:
        reason, error: Why it failed; `error` is `None` if the tags are correct.
        unanswered: A write got no answer, so that it may take effect later.
    """

    reason: str
    error: str | None
    unanswered: bool


class _TooSlowError(TransientError):
    """S3 answers so slowly that the remaining requests are made later."""

    def __init__(self) -> None:
        super().__init__(Reason.NETWORK, f"the requests took longer than {LONGEST_WRITE:.0f} s")


class TagWork:
    """Writes tags with a process's services."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def tag(
        self,
        report: Report,
        record: Callable[[], bool],
        *,
        rate: float,
        asked: Callable[[TagRequest], object],
    ) -> None:
        """Write the tags of a verdict, then record it.

        Args:
            report: The verdict.
            record: Records it; false if a newer verdict on the object is recorded.
            rate: The limit of requests per second to the bucket; 0 for no limit.
            asked: Called before every request.
        """
        debts = self._services.tag_debts
        debt = self._debt(report, rate)
        hold = debts.hold(debt)
        if hold is None:
            log.info("the tags of %s are owed: another writer holds the debt", report.target)
            debts.record(debt)
            record()
            return
        attempt = self._attempt(hold, debt, self._verdicts(debt, known=True), asked)
        if not record() and attempt.error is None:
            later = self._attempt(hold, debt, self._verdicts(debt, known=False), asked)
            attempt = replace(later, unanswered=attempt.unanswered or later.unanswered)
        self._let_go(hold, attempt)

    def owe(self, report: Report, *, rate: float) -> None:
        """Record a debt for an object that is undecided: the tags of its recorded verdict, or none.

        An uploader may set the tag `safe` on an object. This debt removes such tags while the object is
        undecided. It makes no request to S3; the recorded verdict is looked up when the tags are written. If
        verdicts are not recorded in Redis, correct and forged tags look the same; do not call it then.

        Args:
            report: The undecided report; its ETag is not used.
            rate: As for `tag`.
        """
        self._services.tag_debts.record(
            TagDebt(str(report.bucket), str(report.key), report.version_id, rate=rate)
        )

    def tasks_to_send(self, waiting: Callable[[], int]) -> int:
        """How many more tasks the due debts need. `waiting` returns how many messages are in their queue."""
        needed = math.ceil(self._services.tag_debts.count_due() / PAGE)
        return max(0, min(needed, MOST_TASKS) - waiting()) if needed else 0

    def write_due(self) -> None:
        """Write the tags of a page of debts that are due."""
        due = self._services.tag_debts.take_due(PAGE)
        until = time.monotonic() + WRITE_SECONDS

        def pay(object_id: str) -> None:
            try:
                # Debts that are not begun are due again.
                if time.monotonic() < until:
                    self._pay(object_id)
            except redis.RedisError:
                raise
            except Exception:
                # A debt of a later version, for example, must not stop the others.
                log.exception("the tags of object %s cannot be written", object_id)

        with ThreadPoolExecutor(self._services.settings.scan_threads, thread_name_prefix="tags") as pool:
            list(pool.map(pay, due))

    def _pay(self, object_id: str) -> None:
        hold = self._services.tag_debts.hold_recorded(object_id)
        if hold is None:
            return
        debt = hold.debt
        kept = None if debt.etag else self._kept(debt.bucket, debt.key, debt.version_id)
        if kept is not None and kept.etag and kept.status not in _UNREAD:
            # Without a version, the debt is for the current one, which may be newer than the verdict's.
            debt = replace(TagDebt.of(kept, rate=debt.rate), version_id=debt.version_id)
        attempt = self._attempt(hold, debt, self._verdicts(debt, known=False), lambda _: None)
        if not debt.etag and attempt.reason == TagOutcome.WRITTEN:
            # A scan that learned the version has a debt of its own, and may have written tags in the
            # meantime: check once more when its verdict is recorded.
            attempt = replace(attempt, unanswered=True)
        self._let_go(hold, attempt)

    def _debt(self, report: Report, rate: float) -> TagDebt:
        """The debt of a report: the tags of the verdict that will be recorded with it.

        If there is no such verdict, Keyhole's tags are removed: an uploader may have set the tag `safe` on an
        object that Keyhole cannot read.
        """
        if report.status in _UNREAD:
            kept = self._kept(str(report.bucket), str(report.key), report.version_id)
            if (
                kept is not None
                and kept.etag
                and kept.status not in _UNREAD
                and unquoted(report.etag or "") in {"", unquoted(kept.etag)}
            ):
                return TagDebt.of(kept, rate=rate)
        return TagDebt.of(report, rate=rate)

    def _kept(self, bucket: str, key: str, version_id: str | None) -> Report | None:
        """The recorded verdict on an object."""
        if "redis" not in self._services.settings.sinks:
            return None
        (kept,) = self._services.lookup.reports([Name(bucket, key, version_id)])
        return kept

    def _verdicts(self, debt: TagDebt, *, known: bool) -> VerdictOn:
        """The verdicts on an object. `known`: the debt has the latest one, which is not recorded yet."""

        def verdict_on(etag: str) -> dict[str, str] | None:
            if etag and not (known and etag == debt.etag):
                kept = self._kept(debt.bucket, debt.key, debt.version_id)
                if kept is not None and unquoted(kept.etag or "") == etag:
                    return own_tags(kept)
            return debt.tags if etag == debt.etag else None

        return verdict_on

    def _attempt(
        self, hold: Hold, debt: TagDebt, verdict_on: VerdictOn, asked: Callable[[TagRequest], object]
    ) -> _Attempt:
        """Try to write tags a few times."""
        debts = self._services.tag_debts
        rate_limiter = RateLimiter(self._services.redis, debt.bucket, debt.rate, lambda: debts.renew(hold))
        renewed = time.monotonic()
        until = renewed + LONGEST_WRITE
        last: TagRequest | None = None
        unanswered = False

        def ask(request: TagRequest) -> None:
            nonlocal last, renewed, until
            before = time.monotonic()
            if before > until:
                raise _TooSlowError
            rate_limiter()
            asked(request)
            now = time.monotonic()
            until += now - before
            if now - renewed > RENEW_SECONDS:
                debts.renew(hold)
                renewed = now
            last = request

        def write() -> TagOutcome:
            nonlocal unanswered
            try:
                return self._services.tags.write(debt, verdict_on, ask)
            except BOTO_ERRORS as error:
                unanswered |= last is TagRequest.WRITE and not _is_refusal(error)
                raise

        retry = stamina.retry(
            on=_may_pass, attempts=ATTEMPTS, timeout=ATTEMPT_SECONDS, wait_initial=FIRST_WAIT, wait_jitter=0.1
        )
        try:
            outcome = retry(write)()
        except BOTO_ERRORS as error:
            found = explain(error)
            return _Attempt(found.reason, str(found), unanswered)
        except SourceError as error:
            return _Attempt(error.reason, str(error), unanswered)
        if outcome is TagOutcome.FAILED_CONTENDED:
            return _Attempt("contended", "somebody else keeps overwriting them", unanswered)
        if outcome in {TagOutcome.SKIPPED_FULL, TagOutcome.SKIPPED_UNSUPPORTED}:
            log.warning("the tags of %s: %s", _name(debt), outcome)
        return _Attempt(outcome, None, unanswered)

    def _let_go(self, hold: Hold, attempt: _Attempt) -> None:
        debts, debt = self._services.tag_debts, hold.debt
        if attempt.error is None:
            debts.settle(hold, unanswered=attempt.unanswered)
            return
        if hold.owed_for < self._services.settings.undecided_seconds:
            log.info("the tags of %s are owed: %s", _name(debt), attempt.error)
            debts.postpone(hold, attempt.reason, attempt.error, unanswered=attempt.unanswered)
            return
        owed = debts.owed(debt.bucket, debt.key, debt.version_id)
        history = f" {owed.history}." if owed is not None and owed.times else ""
        reason = f"its tags cannot be written: {attempt.error}.{history}"
        log.error("the tags of %s are given up: %s", _name(debt), attempt.error)
        self._services.dead_letters.add(Dead.tags(debt, reason))
        debts.give_up(hold)


def _name(debt: TagDebt) -> str:
    return f"s3://{debt.bucket}/{debt.key}"


def _may_pass(error: Exception) -> bool:
    """Whether to try again at once."""
    return isinstance(error, BOTO_ERRORS) and isinstance(explain(error), TransientError)


def _is_refusal(error: Exception) -> bool:
    """Whether S3 refused the request."""
    return isinstance(error, ClientError) and http_status(error.response) < 500
