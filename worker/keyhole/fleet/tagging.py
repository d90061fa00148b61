"""Writes verdicts as object tags. If the tags of a verdict cannot be written, they are written later.

An object is undecided if its scans have reached no verdict so far. A tag debt is a record in Redis. It states
which tags an object should get, and remains until these tags are written. A worker must hold an object's
debt while it writes the object's tags, so that two workers do not write them at the same time.

The worker writes the tags before it records the verdict, so programs that read the verdict find the tags. If
writing the tags fails, the worker nevertheless records the verdict, and the debt remains.
"""

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import redis

from keyhole.fleet.observing import tags_requested
from keyhole.fleet.services import Services
from keyhole.fleet.tag_attempt import Attempt, attempt_to_write, name_of
from keyhole.intake.dead_letters import Dead
from keyhole.jobs.tag_debts import Hold
from keyhole.jobs.tag_turn import NoTurn, TagTurn, put_back_seconds
from keyhole.metrics.recorder import Outcome, recorder
from keyhole.reasons import Reason, Status
from keyhole.results.lookup import Name
from keyhole.results.tag_writer import Learned, TagOutcome, TagRequest, VerdictOn, ignore
from keyhole.results.tags import TagDebt, own_tags, unquoted
from keyhole.scan.report import Report

log = logging.getLogger(__name__)

#: The maximum number of debts on which one task `keyhole.owed_tags` works. When the task has run for
#: `WRITE_SECONDS`, it begins no further debt.
PAGE, WRITE_SECONDS = 100, 30.0
#: The maximum number of tasks `keyhole.owed_tags` in the queue.
MOST_TASKS: Final = 100

#: The statuses of scans that could not read the object.
_UNREAD: Final = frozenset({Status.FAILED, Status.UNREADABLE})


class TagWork:
    """Writes the tags of verdicts, with the services of this process."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def tag(
        self,
        report: Report,
        record: Callable[[], bool],
        *,
        rate: float,
        asked: Callable[[TagRequest], object],
        learned: Learned = ignore,
        until: float = math.inf,
    ) -> None:
        """Write the tags of a verdict, then record the verdict.

        Args:
            report: The report with the verdict.
            record: A function that records the verdict. It returns false if a newer verdict on the object is
                recorded already.
            rate: The limit of requests per second to the bucket; 0 for no limit.
            asked: Called before every request to S3.
            learned: Called with the tags that a request returned, or with the error with which it failed.
            until: The latest time, on the clock `time.monotonic`, at which the rate limit may allow a
                request. If a request would be later, the tags are written later.
        """
        debts = self._services.tag_debts
        debt = self._debt(report, rate)
        hold = debts.hold(debt)
        if hold is None:
            log.info(
                "the tags of %s are written later: another worker is writing tags of this object",
                report.target,
            )
            debts.record(debt)
            record()
            return
        services = self._services
        verdicts = self._verdicts(debt, known=True)
        attempt = attempt_to_write(services, hold, debt, verdicts, asked, learned=learned, until=until)
        if not record() and attempt.error is None:
            verdicts = self._verdicts(debt, known=False)
            later = attempt_to_write(services, hold, debt, verdicts, asked, until=until)
            attempt = replace(later, unanswered=attempt.unanswered or later.unanswered)
        self._let_go(hold, attempt)

    def owe(self, report: Report, *, rate: float) -> None:
        """Record a debt for an undecided object.

        The object should get the tags of its recorded verdict, or no tags if it has no recorded verdict. The
        reason is that an uploader can set the tag `keyhole-status` to `safe` on the object. This debt removes
        that tag while the object is undecided.

        This method sends no request to S3. When a worker later writes the tags, it looks up the recorded
        verdict. Do not call this method if verdicts are not recorded in Redis, because Keyhole then cannot
        distinguish correct tags from forged tags.

        Args:
            report: The undecided report. Its ETag is not used, because the verdict is looked up when the tags
                are written.
            rate: The limit of requests per second to the bucket; 0 for no limit.
        """
        self._services.tag_debts.record(
            TagDebt(str(report.bucket), str(report.key), report.version_id, rate=rate)
        )

    def tasks_to_send(self, waiting: Callable[[], int]) -> int:
        """Return how many more tasks to publish for the debts that are due.

        Each task works on up to `PAGE` debts. `waiting` returns how many of these tasks are in the queue
        already.
        """
        needed = math.ceil(self._services.tag_debts.count_due() / PAGE)
        return max(0, min(needed, MOST_TASKS) - waiting()) if needed else 0

    def write_due(self, *, patient: bool = False) -> None:
        """Write the tags of up to `PAGE` debts that are due.

        Args:
            patient: Whether to wait for rate limits as long as it takes, because this process has nothing
                else to do.
        """
        due = self._services.tag_debts.take_due(PAGE)
        until = time.monotonic() + WRITE_SECONDS
        turn = NoTurn() if patient else TagTurn(self._services.redis)

        def pay(object_id: str) -> None:
            try:
                # After `WRITE_SECONDS`, skip the remaining debts. They become due again later.
                if time.monotonic() < until:
                    self._pay(object_id, turn)
            except redis.RedisError:
                raise
            except Exception:
                # An error with one debt, such as a debt in the format of a later version, must not stop the
                # other debts.
                log.exception("the tags of object %s could not be written", object_id)

        try:
            with ThreadPoolExecutor(self._services.settings.scan_threads, thread_name_prefix="tags") as pool:
                list(pool.map(pay, due))
        finally:
            turn.end()

    def _pay(self, object_id: str, turn: NoTurn) -> None:
        hold = self._services.tag_debts.hold_recorded(object_id)
        if hold is None:
            return
        debt = hold.debt
        kept = None if debt.etag else self._kept(debt.bucket, debt.key, debt.version_id)
        if kept is not None and kept.etag and kept.status not in _UNREAD:
            # Keep the debt's version id, and do not take the verdict's. A debt without a version id is for
            # the current version. With the verdict's version id, Keyhole could tag an older version instead.
            debt = replace(TagDebt.of(kept, rate=debt.rate), version_id=debt.version_id)
        asked: list[TagRequest] = []
        verdicts = self._verdicts(debt, known=False)
        attempt = attempt_to_write(self._services, hold, debt, verdicts, asked.append, turn=turn)
        tags_requested(self._services, None, asked)
        if not debt.etag and attempt.reason == TagOutcome.WRITTEN:
            # There is no recorded verdict from which the correct tags would follow, so this attempt removed
            # all of Keyhole's tags. But they may have been the correct tags of a scan that wrote them just
            # before, and that records its verdict only now. So set `unanswered`, which makes the debt due
            # once more. By then the verdict is recorded, and its tags are written again.
            attempt = replace(attempt, unanswered=True)
        self._let_go(hold, attempt)

    def _debt(self, report: Report, rate: float) -> TagDebt:
        """Return the debt for a new report.

        The debt usually contains the tags of the new report's verdict. If the scan could not read the object,
        an earlier verdict on the same object remains the recorded verdict, so the debt contains the tags of
        the earlier verdict. If there is no earlier verdict, the debt removes Keyhole's tags, because an
        uploader may have set the tag `keyhole-status` to `safe` on an object that Keyhole cannot read.
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
        """Return the recorded verdict on an object; `None` if there is none."""
        if "redis" not in self._services.settings.sinks:
            return None
        (kept,) = self._services.lookup.reports([Name(bucket, key, version_id)])
        return kept

    def _verdicts(self, debt: TagDebt, *, known: bool) -> VerdictOn:
        """Return a function that returns the tags for the content with a given ETag.

        The returned function looks up the verdict in Redis. A worker writes the tags of a new verdict before
        it records this verdict. It then passes `known=True`: for the debt's ETag, the returned function
        returns the debt's tags, without looking in Redis.
        """

        def verdict_on(etag: str) -> dict[str, str] | None:
            if etag and not (known and etag == debt.etag):
                kept = self._kept(debt.bucket, debt.key, debt.version_id)
                if kept is not None and unquoted(kept.etag or "") == etag:
                    return own_tags(kept)
            return debt.tags if etag == debt.etag else None

        return verdict_on

    def _let_go(self, hold: Hold[TagDebt], attempt: Attempt) -> None:
        debts, debt = self._services.tag_debts, hold.debt
        if attempt.error is None:
            debts.settle(hold, unanswered=attempt.unanswered)
            recorder().delivered("tags", Outcome.DELIVERED)
            return
        if attempt.reason == Reason.RATE:
            # This is no failure. So it is not counted, and a debt that waits for a slot is not given up.
            log.debug("the tags of %s are written later: %s", name_of(debt), attempt.error)
            seconds = put_back_seconds(debts.count(), debt.rate)
            debts.put_back(hold, seconds, unanswered=attempt.unanswered)
            return
        if hold.owed_for < self._services.settings.undecided_seconds:
            log.info("the tags of %s could not be written yet: %s", name_of(debt), attempt.error)
            debts.postpone(hold, attempt.reason, attempt.error, unanswered=attempt.unanswered)
            recorder().delivered("tags", Outcome.FAILED)
            return
        owed = debts.owed(debt.bucket, debt.key, debt.version_id)
        history = f" {owed.history}." if owed is not None and owed.times else ""
        reason = f"Keyhole cannot write the tags of this object: {attempt.error}.{history}"
        log.error("Keyhole gives up writing the tags of %s: %s", name_of(debt), attempt.error)
        self._services.dead_letters.add(Dead.tags(debt, reason))
        debts.give_up(hold)
        recorder().delivered("tags", Outcome.DEAD)
