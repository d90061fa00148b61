"""What an audit would scan, told from the listing and the verdicts alone."""

from collections.abc import Callable

from keyhole.intake.audits.audit import AuditSpec, Totals
from keyhole.intake.audits.estimate import Estimate, Estimator
from keyhole.intake.audits.prices import is_archived
from keyhole.intake.audits.unchanged import still_stands
from keyhole.intake.listing import Lister
from keyhole.results.lookup import Lookup, Name


def dry_run(
    spec: AuditSpec,
    lister: Lister,
    lookup: Lookup,
    estimator: Estimator,
    *,
    ruleset: str,
    on_page: Callable[[Totals], None] = lambda _: None,
) -> tuple[Totals, Estimate]:
    """List all, and reckon what scanning it would cost. Nothing is asked of S3 but LISTs.

    Args:
        spec: The audit. `max_requests` and `max_dollars` do not end it: what it would take is the question.
        lister: Lists what it is about.
        lookup: The verdicts there are.
        estimator: Adds up what would be scanned.
        ruleset: By which rules a verdict of today is made.
        on_page: Called with the figures so far after every page.

    Raises:
        KeyholeError: It cannot be listed.
    """
    listed = left_out = unchanged = archived = queued = size = pages = lists = 0
    totals = Totals()
    cursor: str | None = None
    while True:
        page = lister.page(cursor)
        pages += 1
        lists += page.requests
        estimator.lists(page.requests)
        names = [Name(spec.bucket, one.key, one.version_id) for one in page.objects]
        for one, report in zip(page.objects, lookup.reports(names), strict=True):
            if spec.limit is not None and queued + unchanged + archived >= spec.limit:
                cursor = None
                break
            listed += 1
            if not spec.selection.takes(spec.bucket, one.key, one.size):
                left_out += 1
                continue
            size += one.size
            stands = still_stands(report, one, ruleset)
            if stands and spec.check_tags:
                estimator.check_tags(1)
            if is_archived(one):
                archived += 1
                estimator.add(one)
            elif stands and not spec.full:
                unchanged += 1
            else:
                queued += 1
                estimator.add(one)
        else:
            cursor = page.cursor
        totals = Totals(
            pages=pages,
            listed=listed,
            left_out=left_out,
            unchanged=unchanged,
            archived=archived,
            queued=queued,
            listed_bytes=size,
            lists=lists,
            requests=lists,
        )
        on_page(totals)
        if cursor is None:
            return totals, estimator.result()
