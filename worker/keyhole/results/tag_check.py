"""Compares the tags of objects with their verdicts.

This module sends one request for each object, and several requests in parallel.
"""

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
    """The result for one object.

    `message` states how the object's tags contradict its verdict (`None` if they do not), or why they cannot
    be read. `requests` is the number of requests to S3.
    """

    message: str | None
    requests: int
    unreadable: bool = False


class TagCheck:
    """Compares the tags of objects with their verdicts.

    Args:
        s3: An S3 client, which several threads use at the same time.
        expected: Whether Keyhole is configured to write tags. In this case, an object without Keyhole's tags
            is a finding, too.
        threads: The number of parallel requests.
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
        """Return the result for each object, in the order of the reports. Unreadable tags are a finding."""
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
            return TagFinding(f"the object's tags cannot be read: {explain(error)}", 1, unreadable=True)
        return TagFinding(disagreement(report, tags, expected=self._expected), 1)
