"""Verdicts whose objects are gone: what is between two keys, and a listing did not tell of."""

from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

from keyhole.intake.audits.audit import AuditSpec, BucketFinding
from keyhole.reasons import MISSING
from keyhole.results.lookup import Lookup, Name

#: Findings of one page: of a bucket that was emptied there may be millions.
MOST: Final = 1000
#: Verdicts that are looked at in one round trip.
_CHUNK: Final = 1000


class KeyRange(NamedTuple):
    """What a page is about: after one key and up to another (`None`: the first, the last), and its keys."""

    spec: AuditSpec
    after: str | None
    until: str | None
    listed: frozenset[str]


class Orphans(NamedTuple):
    """What is gone; `until` is the key up to which there was room to tell of it, `None` if it is all."""

    findings: list[BucketFinding]
    until: str | None


def find_orphans(lookup: Lookup, key_range: KeyRange, began: datetime) -> Orphans:
    """Verdicts on keys that the listing of a key_range would have told of, which began at this time.

    Not those that are younger than the listing: their objects may be, too. (By the clocks of two hosts,
    perhaps: what is told of wrongly, the next audit does not tell of.)
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
