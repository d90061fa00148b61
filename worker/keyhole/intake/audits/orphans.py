"""Finds orphans, which are verdicts on objects that no longer exist in the bucket."""

from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple

from keyhole.intake.audits.audit import AuditSpec, BucketFinding
from keyhole.reasons import MISSING
from keyhole.results.lookup import Lookup, Name

#: The most findings for one page. A bucket that was emptied can have millions of orphans.
MOST: Final = 1000
#: The most verdicts that are read in one round trip.
_CHUNK: Final = 1000


class KeyRange(NamedTuple):
    """A range of keys: those after the key `after`, up to and including the key `until` (`None`: no limit).

    `listed` contains all keys in this range that S3 listed. If another key in this range has a verdict, the
    verdict is an orphan. `verdicts` is the number of the listed keys that have a verdict.
    """

    spec: AuditSpec
    after: str | None
    until: str | None
    listed: frozenset[str]
    verdicts: int


class Orphans(NamedTuple):
    """The orphans in a range.

    If there are more than `MOST`, the search must continue after the key `until`; otherwise, `until` is
    `None`.
    """

    findings: list[BucketFinding]
    until: str | None


def find_orphans(lookup: Lookup, key_range: KeyRange, began: datetime) -> Orphans:
    """Return the orphans in a range of keys.

    `began` is the time at which the LIST request was sent. A verdict that was made later is not an orphan,
    because its object may have been created after the listing. (If the clocks of two hosts differ, this
    comparison can be wrong, and the audit reports a wrong finding. The next audit does not report it again.)
    """
    spec = key_range.spec
    found: list[BucketFinding] = []
    bounds = (spec.bucket, spec.prefix, key_range.after, key_range.until)
    if lookup.count_keys(*bounds) == key_range.verdicts:
        # All keys with verdicts are listed. In most audits, this is true for every page, and reading the keys
        # would take a tenth of the CPU time.
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
