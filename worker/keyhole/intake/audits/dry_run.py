"""A dry run: computes what an audit would scan and what it would cost, without scanning an object."""

from collections import Counter
from collections.abc import Callable
from typing import Final

from keyhole.intake.audits.audit import AuditSpec, How, Totals
from keyhole.intake.audits.decision import decide
from keyhole.intake.audits.estimate import Estimate, Estimator
from keyhole.intake.listing import Lister
from keyhole.results.lookup import Lookup
from keyhole.store import keys

#: For each way in which an audit gets a verdict: the field of `Totals` that counts the objects with such
#: verdicts.
_TAKEN: Final = {How.SCANNED: "queued", How.UNCHANGED: "unchanged", How.ARCHIVED: "archived"}


def dry_run(
    spec: AuditSpec,
    lister: Lister,
    lookup: Lookup,
    estimator: Estimator,
    *,
    ruleset: str,
    on_page: Callable[[Totals], None] = lambda _: None,
) -> tuple[Totals, Estimate]:
    """List all objects, and estimate the cost of scanning them. Only the lister sends requests to S3.

    Args:
        spec: The audit. The limits `max_requests` and `max_dollars` are ignored, because a dry run shows how
            much the audit would need.
        lister: The lister, which lists the objects of the audit.
        lookup: The stored verdicts.
        estimator: The estimator, which adds up the costs of the scans.
        ruleset: The id of the current rules.
        on_page: A function that is called after every page, with the totals so far.

    Raises:
        KeyholeError: The objects cannot be listed.
    """
    counts: Counter[str] = Counter()
    cursor: str | None = None
    while True:
        page = lister.page(cursor)
        counts.update(pages=1, lists=page.requests, requests=page.requests)
        estimator.listing(page.requests, by_gets=lister.by_gets)
        ids = [keys.object_id(spec.bucket, one.key, one.version_id) for one in page.objects]
        cursor = page.cursor
        for one, stored in zip(page.objects, lookup.stored_by_id(ids), strict=True):
            decision = decide(spec, one, stored, ruleset)
            if decision.how is None:
                counts.update(listed=1, left_out=1)
                continue
            if spec.limit is not None and sum(counts[count] for count in _TAKEN.values()) >= spec.limit:
                cursor = None
                break
            counts.update({"listed": 1, "listed_bytes": one.size, _TAKEN[decision.how]: 1})
            if decision.reads_tags:
                estimator.check_tags(1)
                if spec.fix_tags and decision.how is not How.SCANNED:
                    estimator.fix_tags(one)
            if decision.how is not How.UNCHANGED:
                estimator.add(one)
        totals = Totals.model_validate(counts)
        on_page(totals)
        if cursor is None:
            return totals, estimator.result()
