"""Writes the tags of a verdict to its object.

S3's PutObjectTagging replaces all tags of an object, and accepts no condition such as `If-Match`. So a writer
reads the tags, reads the object's ETag, and writes the correct tags. The writer repeats these steps until the
tags that it reads are correct:

    read the tags ──► read the ETag ──► correct? ──► done
          ▲                                │ no
          └── write the correct tags ◄─────┘

- Keyhole keeps the tags of other programs. It never overwrites tags that it cannot read.
- The writer reads the ETag after the tags. If the ETag is still the ETag of the verdict, the object was not
  replaced before the tags were read. So the tags belong to the object that was scanned.
- The tags that an object should get are recorded as a debt (`keyhole.jobs.tag_debts`). If a writer is
  interrupted before it has read correct tags, the debt remains, and another writer continues.
- If somebody replaces the object in the meantime, the new object gets the tags of its own verdict. If the new
  object has no verdict yet, the writer removes Keyhole's tags from it. Such tags are wrong: either the upload
  included them, or this writer wrote them before it noticed that the object was new.
- A version cannot be replaced, so the writer does not read its ETag. The version `null` is an exception,
  because S3 can replace its object.

Known limits: if somebody replaces the object after the writer has read the ETag and before it writes, the
new object has the old tags until the writer's next round. If somebody else writes tags after the writer has
read the tags and before it writes, their tags are lost. A program that must not rely on the tags of a
previous object has two possibilities: it can compare the ETag in `keyhole-scan` with the ETag of the object,
or it can read the tags of a version.
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
from keyhole.sources.s3_refusal import BOTO_ERRORS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import TagTypeDef

#: The time limit of one request, in seconds.
LONGEST_REQUEST: Final = 10.0
#: The maximum number of writes to one object. Without this limit, the writer would never stop if another
#: program always overwrote the tags. If the object was replaced, the writer is allowed one more write, to
#: remove wrong tags from the new object.
_WRITES: Final = 4
#: The maximum number of times that the object may be replaced while the writer works. If it is replaced more
#: often, the writer gives up.
_REPLACEMENTS: Final = 1


#: Receives the tags of an object, or the error with which they could not be read.
Learned = Callable[[Mapping[str, str] | Exception], object]


def ignore(_: Mapping[str, str] | Exception) -> None:
    """Receive the tags of an object, and do nothing with them."""


class TagOutcome(StrEnum):
    """The outcome of writing tags."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    #: The object was deleted or replaced. If there is a new object, it has the tags of its own verdict, or no
    #: tags of Keyhole.
    SKIPPED_CHANGED = "skipped_changed"
    #: The object already has ten tags of other programs, and S3 allows no more.
    SKIPPED_FULL = "skipped_full"
    #: The storage does not support tags.
    SKIPPED_UNSUPPORTED = "skipped_unsupported"
    #: Somebody else overwrote the tags or replaced the object so often that the writer gave up.
    FAILED_CONTENDED = "failed_contended"


class TagRequest(StrEnum):
    """A kind of request that the writer sends to S3."""

    READ = "GetObjectTagging"
    WRITE = "PutObjectTagging"
    LOOK = "HeadObject"


#: A function that takes the ETag of an object and returns Keyhole's tags for this object; `None` if there is
#: no verdict on the object.
VerdictOn = Callable[[str], Mapping[str, str] | None]


class Address(TypedDict):
    """The parameters of a request that identify an object or a version."""

    Bucket: str
    Key: str
    VersionId: NotRequired[str]


class TagWriter:
    """Writes tags to objects. The caller configures the S3 client's timeouts, and turns off its retries.

    If S3 denies or throttles a request, does not answer, or answers with an error that no `TagOutcome`
    describes, botocore's exception is raised. After every error, the caller can call `write` again. Two
    writers must not work on the same object at the same time. `keyhole.jobs.tag_debts` makes sure of this.
    """

    def __init__(self, s3: "S3Client") -> None:
        self._s3 = s3

    def write(
        self,
        debt: TagDebt,
        verdict_on: VerdictOn | None = None,
        asked: Callable[[TagRequest], object] = lambda _: None,
        learned: Learned = ignore,
    ) -> TagOutcome:
        """Write the tags of an object's verdict, unless the object already has them.

        Args:
            debt: The object and its tags.
            verdict_on: Returns the tags for a new object that has replaced the debt's object. Without this
                function, the writer removes Keyhole's tags from the new object.
            asked: Called before every request to S3.
            learned: Called with the tags that a request returned, or with the error with which it failed.
        """
        try:
            return _Writing(self._s3, debt, verdict_on or _only(debt), asked, learned).converge()
        except ClientError as error:
            outcome = _outcome(error)
            if outcome is None:
                raise
            return outcome


def _only(debt: TagDebt) -> VerdictOn:
    return lambda etag: debt.tags if etag == debt.etag else None


@dataclass(frozen=True, slots=True)
class _Writing:
    """Writes the tags of one object."""

    s3: "S3Client"
    debt: TagDebt
    verdict_on: VerdictOn
    asked: Callable[[TagRequest], object]
    learned: Learned

    def converge(self) -> TagOutcome:
        """Read the tags and the ETag, and write the correct tags, until the tags are correct."""
        etag, writes, replacements = self.debt.etag, 0, 0
        while True:
            tags = self._read()
            found = self._look()
            if found is None:
                return TagOutcome.SKIPPED_CHANGED
            if found != etag:
                # The object was replaced, and the tags may have been read from the old object, so read them
                # again.
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
        """Return the ETag of the current object; `None` if it was deleted.

        In two cases, return the debt's ETag without a request: if the debt names a version, because a version
        cannot be replaced; and if the scan could not read the object.
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
            raise ResponseParserError("S3's answer has no ETag")
        return unquoted(head["ETag"])

    def _read(self) -> dict[str, str]:
        self.asked(TagRequest.READ)
        try:
            tags = read_tags(self.s3, **self._address)
        except BOTO_ERRORS as error:
            self.learned(error)
            raise
        self.learned(tags)
        return tags

    def _write(self, tags: Mapping[str, str]) -> None:
        self.asked(TagRequest.WRITE)
        with deadline(LONGEST_REQUEST):
            if not tags:
                # Some servers refuse an empty tag set. DeleteObjectTagging has the same effect.
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
        ResponseParserError: S3's answer has no tag set, not even an empty one. Ceph's RGW 16.2 sends such an
            answer if it cannot read the tags of a multipart upload.
        Exception: botocore raised it.
    """
    with deadline(LONGEST_REQUEST):
        answer = s3.get_object_tagging(**address)
    if "TagSet" not in answer:
        raise ResponseParserError("S3's answer has no tag set")
    return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}


def _outcome(error: ClientError) -> TagOutcome | None:
    """Return the outcome that an error from S3 means; `None` if another attempt can succeed."""
    if error.response["Error"]["Code"] in {"NotImplemented", "MethodNotAllowed"}:
        return TagOutcome.SKIPPED_UNSUPPORTED
    match http_status(error.response):
        case 404:
            return TagOutcome.SKIPPED_CHANGED
        case 405 | 501:
            return TagOutcome.SKIPPED_UNSUPPORTED
        case _:
            return None
