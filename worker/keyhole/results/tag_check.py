"""Reads the tags of objects, to compare them with the objects' verdicts or to find the objects' owners.

This module sends one request for each object, and several requests in parallel. It repeats a request that
failed for a temporary reason.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from keyhole.reasons import Reason
from keyhole.results.owner import Owner
from keyhole.results.owner_reading import OwnerReading, tags_of
from keyhole.results.tag_writer import Address
from keyhole.results.tags import disagreement
from keyhole.scan.report import Report
from keyhole.sources.errors import SourceError, TransientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: After this many objects whose tags could not be read for a temporary reason, no further tags are read.
#: Otherwise, the page of an audit would take too long if S3 does not answer.
MOST_FAILURES: Final = 20


class TagQuestion(NamedTuple):
    """An object whose tags are read. They are compared with the verdict in `report`, if it is set."""

    bucket: str
    key: str
    version_id: str | None = None
    report: Report | None = None

    @classmethod
    def about(cls, report: Report) -> Self:
        """Return the question whether an object's tags agree with its verdict."""
        return cls(str(report.bucket), str(report.key), report.version_id, report)


class TagFinding(NamedTuple):
    """The result for one object.

    `message` states how the object's tags contradict its verdict, or why they cannot be read. It is `None` if
    there is no contradiction, or nothing was to be compared. `requests` is the number of requests to S3.
    `owner` is `None` if owners are not wanted.
    """

    message: str | None
    requests: int
    unreadable: bool = False
    owner: Owner | None = None


class TagCheck:
    """Reads the tags of objects.

    Args:
        s3: An S3 client, which several threads use at the same time.
        expected: Whether Keyhole is configured to write tags. In this case, an object without Keyhole's tags
            is a finding, too.
        threads: The number of parallel requests.
        owner_tag: The name of the tag that states an object's owner; `None` if owners are not wanted.
        rate_limiter: Called before every request; it may sleep.
        failed: Called after every failed request.
    """

    def __init__(
        self,
        s3: "S3Client",
        *,
        expected: bool,
        threads: int,
        owner_tag: str | None = None,
        rate_limiter: Callable[[], None] = lambda: None,
        failed: Callable[[Reason], object] = lambda _: None,
    ) -> None:
        self._s3 = s3
        self._expected = expected
        self._threads = threads
        self._owner_tag = owner_tag
        self._rate_limiter = rate_limiter
        self._failed = failed
        self._failures: list[TransientError] = []

    def __call__(self, questions: Sequence[TagQuestion]) -> list[TagFinding]:
        """Return the result for each object, in the order of the questions.

        Unreadable tags are a finding about an object whose tags should be compared.
        """
        if not questions:
            return []
        with ThreadPoolExecutor(self._threads, thread_name_prefix="tags") as pool:
            return list(pool.map(self._check, questions))

    def _check(self, question: TagQuestion) -> TagFinding:
        address = Address(Bucket=question.bucket, Key=question.key)
        if question.version_id:
            address["VersionId"] = question.version_id
        reading = OwnerReading(self._owner_tag or "")
        message: str | None = None
        requests = 0
        unreadable = False

        def before() -> None:
            nonlocal requests
            self._rate_limiter()
            requests += 1

        try:
            if len(self._failures) >= MOST_FAILURES:
                raise self._failures[-1]
            tags = tags_of(self._s3, address, before, self._failed)
            reading.learn(tags)
            if question.report is not None:
                message = disagreement(question.report, tags, expected=self._expected)
        except SourceError as error:
            if isinstance(error, TransientError):
                self._failures.append(error)
            reading.learn(error)
            unreadable = True
            if question.report is not None:
                message = f"the object's tags cannot be read: {error}"
        owner = reading.owner if self._owner_tag else None
        return TagFinding(message, requests, unreadable, owner)
