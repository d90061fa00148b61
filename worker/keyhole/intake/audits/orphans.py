"""Finds orphans: verdicts on keys that a listing would have, but does not."""

from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

from keyhole.intake.audits.audit import AuditSpec, BucketFinding
from keyhole.reasons import MISSING
from keyhole.results.lookup import Lookup, Name

#: The most findings of one page: a bucket that was emptied may have millions.
MOST: Final = 1000
#: Verdicts that are read in one round trip.
_CHUNK: Final = 1000


class KeyRange(NamedTuple):
    """The range of a page: after one key and up to another (`None`: no limit), and the keys that it lists."""

    spec: AuditSpec
    after: str | None
    until: str | None
    listed: frozenset[str]


class Orphans(NamedTuple):
    """The orphans of a range. `until` is the key at which the limit was reached; `None` if it was not."""

    findings: list[BucketFinding]
    until: str | None


def find_orphans(lookup: Lookup, key_range: KeyRange, began: datetime) -> Orphans:
    """Return the orphans of a range whose listing began at this time.

    Verdicts that are younger than the listing are not orphans: their objects may be younger, too. (The
        clocks of two hosts may differ. The next audit does not repeat a wrong finding.)
    """
    spec = key_range.spec
    found: list[BucketFinding] = []
    wanted = (
        key
        for key in lookup.keys_between(spec.bucket, spec.prefix, key_range.after, key_range.until)
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
            message = f"there is a verdict ({report.status}) on an object that is gone"
            found.append(BucketFinding.of("gone", report, message))
    return Orphans(found, None)
