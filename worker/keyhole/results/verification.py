"""Compares an object in S3 with its recorded verdict and its tags, for `keyhole verify`."""

from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from botocore.parsers import ResponseParserError
from pydantic import BaseModel, ConfigDict

from keyhole.reasons import MISSING, Status
from keyhole.results.tag_writer import LONGEST_REQUEST, Address, read_tags
from keyhole.results.tags import OWN_TAGS, SCAN, STATUS, TagDebt, disagreement, is_own, speaks_of, unquoted
from keyhole.scan.report import Report
from keyhole.sources.deadline import deadline
from keyhole.sources.s3_refusal import BOTO_ERRORS, explain
from keyhole.sources.s3_uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Agreement(StrEnum):
    """The result of the comparison of an object, its verdict and its tags."""

    AGREE = "agree"
    DIFFER = "differ"
    #: Information is missing, so Keyhole cannot compare: for example, the object has no verdict.
    UNKNOWN = "unknown"


class Code(StrEnum):
    """The kind of a difference, or of missing information."""

    NO_OBJECT = "no_object"
    OBJECT_UNREADABLE = "object_unreadable"
    TAGS_UNREADABLE = "tags_unreadable"
    NO_VERDICT = "no_verdict"
    #: The verdict is about an older object, which was replaced or deleted after the scan.
    OTHER_OBJECT = "other_object"
    FORGED_TAGS = "forged_tags"
    MISSPELT_TAGS = "misspelt_tags"
    OTHER_TAGS = "other_tags"
    TAGS_OWED = "tags_owed"


#: The codes for missing information, which do not prove a difference.
_UNKNOWN: Final = frozenset({Code.NO_OBJECT, Code.OBJECT_UNREADABLE, Code.TAGS_UNREADABLE, Code.NO_VERDICT})


#: The codes for tags that Keyhole can correct.
_WRONG_TAGS: Final = frozenset({Code.FORGED_TAGS, Code.MISSPELT_TAGS, Code.OTHER_TAGS})


class Difference(BaseModel):
    """A difference, or missing information: a stable code, and a sentence for people."""

    model_config = ConfigDict(frozen=True)

    code: Code
    message: str


class Seen(NamedTuple):
    """The state of an object in S3. `size` is in bytes. `etag` has no quotes.

    `trouble` is the error if the object's tags cannot be read.
    """

    etag: str
    size: int
    version_id: str | None
    tags: Mapping[str, str]
    trouble: str | None = None

    @property
    def own_tags(self) -> dict[str, str]:
        """Return Keyhole's tags, including tags whose names are variants of Keyhole's names."""
        return {name: value for name, value in self.tags.items() if is_own(name)}


class Verification(BaseModel):
    """The result for one object.

    `status` is the status of the recorded verdict. `ended_waivers` names the checks whose waivers ended
    after that verdict. `tags` contains only Keyhole's tags. `size` is in bytes.
    """

    model_config = ConfigDict(frozen=True)

    target: str
    state: Agreement
    differences: tuple[Difference, ...] = ()
    etag: str | None = None
    size: int | None = None
    version_id: str | None = None
    status: Status | None = None
    ended_waivers: tuple[str, ...] = ()
    tags: dict[str, str] = {}

    @classmethod
    def of(
        cls, target: str, seen: Seen | None, report: Report | None, differences: tuple[Difference, ...]
    ) -> Self:
        """Return the result for an object with these differences."""
        if any(difference.code not in _UNKNOWN for difference in differences):
            state = Agreement.DIFFER
        else:
            state = Agreement.UNKNOWN if differences else Agreement.AGREE
        return cls(
            target=target,
            state=state,
            differences=differences,
            etag=None if seen is None else seen.etag,
            size=None if seen is None else seen.size,
            version_id=None if seen is None else seen.version_id,
            status=None if report is None else report.status,
            ended_waivers=() if report is None else tuple(report.ended_waivers),
            tags={} if seen is None else seen.own_tags,
        )


def look(s3: "S3Client", bucket: str, key: str, version_id: str | None) -> Seen | None:
    """Read an object's metadata and tags from S3; return `None` if the object does not exist.

    If only the tags cannot be read, `Seen.trouble` states the error.

    Raises:
        SourceError: The object's metadata cannot be read.
    """
    address = Address(Bucket=bucket, Key=key)
    if version_id:
        address["VersionId"] = version_id
    try:
        with deadline(LONGEST_REQUEST):
            head = s3.head_object(**address)
    except BOTO_ERRORS as error:
        found = explain(error)
        if found.reason in MISSING:
            return None
        raise found from error
    if not {"ETag", "ContentLength"} <= head.keys():
        raise explain(ResponseParserError("S3's answer has no ETag or no length"))
    version_id = head.get("VersionId")
    if version_id:
        address["VersionId"] = version_id
    tags: dict[str, str] = {}
    trouble = None
    try:
        tags = read_tags(s3, **address)
    except BOTO_ERRORS as error:
        trouble = str(explain(error))
    return Seen(unquoted(head["ETag"]), head["ContentLength"], version_id, tags, trouble)


def compare(seen: Seen | None, report: Report | None, *, records: bool, tags: bool) -> tuple[Difference, ...]:
    """Return the differences between an object, its verdict and its tags, and the missing information.

    Args:
        seen: The object; `None` if it does not exist.
        report: The recorded verdict; `None` if there is none.
        records: Whether Keyhole records verdicts.
        tags: Whether Keyhole writes verdicts as tags.
    """
    if seen is None:
        if report is None:
            return (Difference(code=Code.NO_OBJECT, message="there is no such object"),)
        message = f"the object does not exist, but there is a verdict on it: {report.status}"
        return (Difference(code=Code.OTHER_OBJECT, message=message),)
    if seen.trouble is not None:
        message = f"the object's tags cannot be read: {seen.trouble}"
        unread = Difference(code=Code.TAGS_UNREADABLE, message=message)
        return (*_of_record(seen, report, records=records), *((unread,) if tags else ()))
    return (*_of_record(seen, report, records=records), *_of_tags(seen, report, records=records, tags=tags))


def correction(
    place: S3Uri, seen: Seen | None, report: Report | None, differences: Collection[Difference]
) -> TagDebt | None:
    """Return the tags that the object should get; `None` if its tags need no correction.

    Without a verdict on this object, it should get none of Keyhole's tags.
    """
    if seen is None or _WRONG_TAGS.isdisjoint(difference.code for difference in differences):
        return None
    if report is not None and report.etag is not None and unquoted(report.etag) == seen.etag:
        return TagDebt.of(report)
    return TagDebt(place.bucket, place.key, seen.version_id)


def _of_record(seen: Seen, report: Report | None, *, records: bool) -> Iterator[Difference]:
    """Yield the differences between the recorded verdict and this object."""
    if not records:
        return
    if report is None:
        message = "there is no verdict on this object; try `keyhole submit`"
        yield Difference(code=Code.NO_VERDICT, message=message)
    elif report.etag is None:
        message = (
            f"the verdict is {report.status}: the scan could not read the object, so its ETag is unknown"
        )
        yield Difference(code=Code.NO_VERDICT, message=message)
    elif unquoted(report.etag) != seen.etag:
        message = (
            f"the verdict {report.status} is on the ETag {unquoted(report.etag)}, "
            f"but the object's ETag is {seen.etag}"
        )
        yield Difference(code=Code.OTHER_OBJECT, message=message)


def _of_tags(seen: Seen, report: Report | None, *, records: bool, tags: bool) -> Iterator[Difference]:
    """Yield the differences between the tags and this object's verdict."""
    misspelt = sorted(seen.own_tags.keys() - set(OWN_TAGS))
    if misspelt:
        message = f"S3's policies could mistake these tags for Keyhole's: {', '.join(misspelt)}"
        yield Difference(code=Code.MISSPELT_TAGS, message=message)
    rest = {name: value for name, value in seen.tags.items() if name not in misspelt}
    says = f"the tag {STATUS} says {rest[STATUS]}" if STATUS in rest else f"there is no tag {STATUS}"
    has_own = any(map(is_own, rest))
    if not records:
        if STATUS not in rest or SCAN not in rest:
            message = f"{says}, and Keyhole records no verdicts"
            yield Difference(code=Code.NO_VERDICT, message=message)
        elif not speaks_of(rest, seen.etag):
            message = f"{says}, but for another object: {SCAN} says {rest[SCAN]}, this ETag is {seen.etag}"
            yield Difference(code=Code.OTHER_TAGS, message=message)
    elif report is None or report.etag is None or unquoted(report.etag) != seen.etag:
        if has_own:
            message = f"{says}, but Keyhole has recorded no verdict on this object"
            yield Difference(code=Code.FORGED_TAGS, message=message)
    else:
        against = disagreement(report, rest, expected=tags)
        if against is not None:
            yield Difference(code=Code.OTHER_TAGS, message=against)
