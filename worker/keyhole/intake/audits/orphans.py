"""Finds orphans, which are verdicts on objects that no longer exist in the bucket."""

from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

from keyhole.intake.audits.audit import AuditSpec, BucketFinding
from keyhole.reasons import MISSING
from keyhole.results.lookup import Lookup, Name

#: The maximum number of findings for one page. A bucket that was emptied can have millions of orphans.
MOST: Final = 1000
#: The maximum number of verdicts that are read in one round trip.
_CHUNK: Final = 1000


class KeyRange(NamedTuple):
    """A range of keys.

    The range begins after the key `after`, and ends with the key `until`. If one of them is `None`, the range
    has no bound on this side.

    `listed` contains all keys in this range that S3 listed. If another key in this range has a verdict, the
    verdict is an orphan. `verdicts` is the number of keys in `listed` that have a verdict.
    """

    spec: AuditSpec
    after: str | None
    until: str | None
    listed: frozenset[str]
    verdicts: int


class Orphans(NamedTuple):
    """The orphans in a range.

    If the range has more than `MOST` orphans, `until` is the key after which the search must continue.
    Otherwise, `until` is `None`.
    """

    findings: list[BucketFinding]
    until: str | None


def find_orphans(lookup: Lookup, key_range: KeyRange, began: datetime) -> Orphans:
    """Return the orphans in a range of keys.

    `began` is the time at which the LIST request was sent. If a verdict was recorded later than this time, it
    is not an orphan, because its object may have been created after the listing. (If the clocks of two hosts
    differ, this comparison can be wrong. The audit can then report an orphan whose object still exists, but
    the next audit does not report this orphan again.)
    """
    spec = key_range.spec
    found: list[BucketFinding] = []
    bounds = (spec.bucket, spec.prefix, key_range.after, key_range.until)
    if lookup.count_keys(*bounds) == key_range.verdicts:
        # S3 listed all keys that have verdicts, so there are no orphans. In most audits, this is true for
        # every page. Without this check, the audit would need a tenth of its CPU time to read the keys.
        return Orphans(found, None)
    wanted = (
        key
        for key in lookup.keys_between(*bounds)
        if key not in key_range.listed and spec.selection.matches(spec.bucket, key, None)
    )
    while chunk := list(islice(wanted, _CHUNK)):
        reports = lookup.reports([Name(spec.bucket, key) for key in chunk])
        expired = [key for key, report in zip(chunk, reports, strict=True) if report is None]
        lookup.forget_keys(spec.bucket, expired)
        for report in reports:
            if report is None or not MISSING.isdisjoint(report.reasons) or report.scanned_at >= began:
                continue
            if len(found) == MOST:
                return Orphans(found, found[-1].key)
            message = f"there is a verdict ({report.status}) on an object that no longer exists"
            found.append(BucketFinding.of("gone", report, message))
    return Orphans(found, None)
