"""Writes a verdict's tags to its object.

S3 replaces an object's whole tag set, without any condition. So a writer reads the tags, checks which object
they are on, writes the right ones, and repeats that until it reads the right ones:

    read the tags ──► look at the ETag ──► right? ──► done
          ▲                                  │ no
          └──────────────────────────────────┴──► write them

- Other people's tags survive. Tags that cannot be read are never overwritten.
- The look comes last, so tags count as right only on the object that the verdict is about. If a writer is
  interrupted between its write and the next look, a debt remains (`keyhole.jobs.tag_debts`), and another
  writer continues.
- If the object was replaced meanwhile, it gets the tags of the verdict on the new object. If there is no such
  verdict yet, Keyhole's tags are removed: they came with the upload, or our write reached the new object.
- A version cannot be replaced, so there is no look, except for the version `null`.

Known limits: if the object is replaced between the look and the write, its new bytes have the old tags for a
moment. And if somebody else writes tags between our read and our write, theirs are lost. A reader who cannot
accept that moment compares the ETag in `keyhole-scan`, or reads by version.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict, Unpack

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from keyhole.results.tags import TagDebt, foreign_tags, merged, unquoted, without_time
from keyhole.sources.deadline import deadline
from keyhole.sources.s3_metadata import http_status

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import TagTypeDef

#: Seconds that one request may take.
LONGEST_REQUEST: Final = 10.0
#: Writes before Keyhole gives up because somebody keeps overwriting its tags. If the object was replaced,
#: there is one more write, so that none of Keyhole's tags stay on the new object.
_WRITES: Final = 4
#: How many times the object may be replaced while its tags are written.
_REPLACEMENTS: Final = 1


class TagOutcome(StrEnum):
    """The outcome of writing tags."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    #: The object is gone or was replaced. A new one has the tags of its own verdict, or none.
    SKIPPED_CHANGED = "skipped_changed"
    #: Ten tags belong to others.
    SKIPPED_FULL = "skipped_full"
    #: This storage does not support tags.
    SKIPPED_UNSUPPORTED = "skipped_unsupported"
    #: Somebody else keeps overwriting them, or keeps replacing the object.
    FAILED_CONTENDED = "failed_contended"


class TagRequest(StrEnum):
    """A kind of request that is made to write tags."""

    READ = "GetObjectTagging"
    WRITE = "PutObjectTagging"
    LOOK = "HeadObject"


#: Returns Keyhole's tags for the object with this ETag; `None` if there is no verdict on it.
VerdictOn = Callable[[str], Mapping[str, str] | None]


class Address(TypedDict):
    """The parameters that name an object in a request."""

    Bucket: str
    Key: str
    VersionId: NotRequired[str]


class TagWriter:
    """Writes tags through an S3 client with the caller's timeouts and without retries.

    Answers of S3 that are not a `TagOutcome` (denied, throttled, broken, unreachable) are raised as
    botocore's errors. It is always safe to start again. Two writers of one object at the same time disturb
    each other: see `keyhole.jobs.tag_debts`.
    """

    def __init__(self, s3: "S3Client") -> None:
        self._s3 = s3

    def write(
        self,
        debt: TagDebt,
        verdict_on: VerdictOn | None = None,
        asked: Callable[[TagRequest], object] = lambda _: None,
    ) -> TagOutcome:
        """Give an object the tags of its verdict. By default, only the debt's own verdict is known.

        `asked` is called before every request.
        """
        try:
            return _Writing(self._s3, debt, verdict_on or _only(debt), asked).converge()
        except ClientError as error:
            outcome = _outcome(error)
            if outcome is None:
                raise
            return outcome


def _only(debt: TagDebt) -> VerdictOn:
    return lambda etag: debt.tags if etag == debt.etag else None


@dataclass(frozen=True, slots=True)
class _Writing:
    """One object's tags while they are written."""

    s3: "S3Client"
    debt: TagDebt
    verdict_on: VerdictOn
    asked: Callable[[TagRequest], object]

    def converge(self) -> TagOutcome:
        """Read, look and write, until the tags that are read are right."""
        etag, writes, replacements = self.debt.etag, 0, 0
        while True:
            tags = self._read()
            found = self._look()
            if found is None:
                return TagOutcome.SKIPPED_CHANGED
            if found != etag:
                # The tags may have been those of the old object: read again.
                etag, replacements = found, replacements + 1
                if replacements > _REPLACEMENTS:
                    return TagOutcome.FAILED_CONTENDED
                continue
            own = self.verdict_on(etag)
            wanted = foreign_tags(tags) if own is None else merged(tags, own)
            if wanted is None:
                return TagOutcome.SKIPPED_FULL
            if without_time(tags) == without_time(wanted):
                if etag != self.debt.etag:
                    return TagOutcome.SKIPPED_CHANGED
                return TagOutcome.WRITTEN if writes else TagOutcome.UNCHANGED
            if writes == _WRITES + replacements:
                return TagOutcome.FAILED_CONTENDED
            self._write(wanted)
            writes += 1

    def _look(self) -> str | None:
        """Return the ETag of the object that is there now; `None` if there is none.

        No request is made for a version, which cannot be replaced, nor for an object that could not be read.
        """
        if not self.debt.etag or self.debt.version_id not in {None, "", "null"}:
            return self.debt.etag
        self.asked(TagRequest.LOOK)
        try:
            with deadline(LONGEST_REQUEST):
                head = self.s3.head_object(**self._address)
        except ClientError as error:
            if http_status(error.response) == 404:
                return None
            raise
        if "ETag" not in head:
            raise ResponseParserError("the answer has no ETag")
        return unquoted(head["ETag"])

    def _read(self) -> dict[str, str]:
        self.asked(TagRequest.READ)
        return read_tags(self.s3, **self._address)

    def _write(self, tags: Mapping[str, str]) -> None:
        self.asked(TagRequest.WRITE)
        with deadline(LONGEST_REQUEST):
            if not tags:
                # Some servers refuse an empty set; this request has the same effect.
                self.s3.delete_object_tagging(**self._address)
                return
            tag_set: list[TagTypeDef] = [{"Key": name, "Value": value} for name, value in tags.items()]
            self.s3.put_object_tagging(**self._address, Tagging={"TagSet": tag_set})

    @property
    def _address(self) -> Address:
        address = Address(Bucket=self.debt.bucket, Key=self.debt.key)
        if self.debt.version_id:
            address["VersionId"] = self.debt.version_id
        return address


def read_tags(s3: "S3Client", **address: Unpack[Address]) -> dict[str, str]:
    """Return the tags of an object.

    Raises:
        ResponseParserError: The answer has no set of tags, not even an empty one. Ceph's RGW 16.2 does so
            if it cannot read tags that came with a multipart upload.
        Exception: As botocore raises it.
    """
    with deadline(LONGEST_REQUEST):
        answer = s3.get_object_tagging(**address)
    if "TagSet" not in answer:
        raise ResponseParserError("the answer has no set of tags")
    return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}


def _outcome(error: ClientError) -> TagOutcome | None:
    """Return the outcome that an error of S3 means; `None` if the error may pass."""
    if error.response["Error"]["Code"] in {"NotImplemented", "MethodNotAllowed"}:
        return TagOutcome.SKIPPED_UNSUPPORTED
    match http_status(error.response):
        case 404:
            return TagOutcome.SKIPPED_CHANGED
        case 405 | 501:
            return TagOutcome.SKIPPED_UNSUPPORTED
        case _:
            return None
