"""Compares the tags of objects with their verdicts: one request an object, several at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from keyhole.results.tag_writer import Address, read_tags
from keyhole.results.tags import disagreement
from keyhole.scan.report import Report
from keyhole.sources.s3_refusal import BOTO_ERRORS, explain

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class TagFinding(NamedTuple):
    """How an object's tags contradict its verdict (`None`: they do not), and the number of requests."""

    message: str | None
    requests: int


class TagCheck:
    """Compares tags with verdicts.

    Args:
        s3: A client that threads may share.
        expected: Whether Keyhole writes tags, so that an object without any is a finding.
        threads: How many requests are made at once.
        rate_limiter: Called before every request; it may sleep.
    """

    def __init__(
        self, s3: "S3Client", *, expected: bool, threads: int, rate_limiter: Callable[[], None] = lambda: None
    ) -> None:
        self._s3 = s3
        self._expected = expected
        self._threads = threads
        self._rate_limiter = rate_limiter

    def __call__(self, reports: Sequence[Report]) -> list[TagFinding]:
        """Return a finding for each object, in their order. Unreadable tags are a finding, too."""
        if not reports:
            return []
        with ThreadPoolExecutor(self._threads, thread_name_prefix="tags") as pool:
            return list(pool.map(self._check, reports))

    def _check(self, report: Report) -> TagFinding:
        address = Address(Bucket=str(report.bucket), Key=str(report.key))
        if report.version_id:
            address["VersionId"] = report.version_id
        self._rate_limiter()
        try:
            tags = read_tags(self._s3, **address)
        except BOTO_ERRORS as error:
            return TagFinding(f"its tags cannot be read: {explain(error)}", 1)
        return TagFinding(disagreement(report, tags, expected=self._expected), 1)
