"""Divides the objects of an audit into pages and batches, so that no task takes too long."""

from collections.abc import Iterator, Sequence
from typing import Final

from keyhole.intake.audits.audit import Audit, AuditSpec
from keyhole.intake.audits.costs import GETS_PER_OBJECT
from keyhole.intake.listing import PAGE_KEYS
from keyhole.jobs.job import ScanJob

#: The longest message of a batch, in bytes. Every broker allows at least 256 KiB; SQS has the smallest limit.
#: A job rarely has more than 300 bytes, so a message has room for more than 600 jobs.
MESSAGE_BYTES: Final = 200_000
#: If an audit has a rate limit, its pages and batches are so small that the requests of one page or one batch
#: take at most about this many seconds. This time is much shorter than the time limit of a task.
RATE_LIMITED_SECONDS: Final = 120


def page_size(spec: AuditSpec) -> int:
    """Return the maximum number of objects on a page.

    This is 1,000, or less if the audit itself reads tags and has a low rate limit.
    """
    if not spec.rate or not (spec.compares_tags or spec.owner_tag):
        return PAGE_KEYS
    return max(1, min(PAGE_KEYS, int(spec.rate * RATE_LIMITED_SECONDS)))


def batch_size(audit: Audit) -> int:
    """Return the maximum number of objects in a batch of an audit."""
    spec = audit.spec
    return jobs_in_batch(spec.batch_size, rate=spec.rate, outstanding=spec.outstanding)


def jobs_in_batch(batch_size: int, *, rate: float, outstanding: int) -> int:
    """Return the maximum number of objects in a batch.

    This is `batch_size`, or less if the audit has a low rate limit.
    """
    if not rate:
        return batch_size
    return max(1, min(batch_size, int(rate * RATE_LIMITED_SECONDS / (GETS_PER_OBJECT * outstanding))))


def in_batches(jobs: Sequence[ScanJob], most: int) -> Iterator[list[ScanJob]]:
    """Yield the jobs in their order, in batches.

    A batch has at most `most` jobs and fits into one message.
    """
    batch: list[ScanJob] = []
    size = 0
    for job in jobs:
        length = len(job.model_dump_json(exclude_none=True, ensure_ascii=True))
        if batch and (len(batch) >= most or size + length > MESSAGE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(job)
        size += length
    if batch:
        yield batch
