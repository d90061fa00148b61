"""The verdict as tags on the object itself, beside other people's tags.

S3 replaces an object's whole tag set, without a condition. So a writer reads the tags, merges its own into
them, looks whether the object is still the one that was scanned, writes, and reads back until what it wrote
stands:

- Other people's tags survive. Tags that can't be read are never overwritten.
- Ten tags are the limit. Other people's go first; Keyhole leaves out its own, least important first, and with
  ten others writes nothing.
- A set that is right is not written again. When the scan was does not count: if nothing else in the tags
  would differ, they are right.
- A version is tagged as that version. Where the object can be replaced under its name (no version, or the
  version `null`), it must have the scanned ETag whenever its tags are said to be right, just before a write,
  and again after it: tags that landed on a newer object are taken off, because a wrong `safe` is the one lie
  never to tell. A retry after any failure does the same from the beginning.
- Tags of Keyhole's that it did not write are forgeries, whoever uploaded them: a verdict overwrites them, in
  whatever spelling (S3's policies compare the names of tags without case), and where there is no verdict
  they are removed.

What it can't do: whoever writes between our reading and our writing loses what they wrote, and S3 tells
neither of us. The lock keeps Keyhole's own writers apart; all others must read back, too. A reader who trusts
the tags of an object that can be replaced must compare the ETag in `keyhole-scan`.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict

import redis
from botocore.exceptions import ClientError
from redis.exceptions import LockError

from worker.results import keys
from worker.scan.report import Report

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import TagTypeDef

STATUS: Final = "keyhole-status"
SCAN: Final = "keyhole-scan"
REASON: Final = "keyhole-reason"
IMAGE: Final = "keyhole-image"

#: Keyhole's tags, the most important first: the verdict; what it speaks of; why; and what anyone can look up.
OWN_TAGS: Final = (STATUS, SCAN, REASON, IMAGE)

#: S3's limits: tags on an object, UTF-16 units in a value.
_TAG_LIMIT: Final = 10
_VALUE_LIMIT: Final = 256
#: What a value may not hold. S3 takes letters of any script; not everything that speaks its protocol does.
_FOREIGN_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9 +\-=._:/@]")

#: What may stand where a name of Keyhole's has a hyphen.
_SEPARATORS: Final = re.compile(r"[\s_.:/-]+")
#: Writes until somebody who keeps overwriting our tags is left alone.
_WRITES: Final = 4
#: Seconds that a lock outlives its owner: more than all requests of one `write` take, retries included.
_LOCK_SECONDS: Final = 60.0
#: Seconds to wait for the lock: the other writer makes some four requests.
_LOCK_WAIT_SECONDS: Final = 15.0
_LOCK_POLL_SECONDS: Final = 0.05


class TagOutcome(StrEnum):
    """What became of the tags."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    #: The object is gone, or no longer the one that was scanned.
    SKIPPED_CHANGED = "skipped_changed"
    #: Reading or writing its tags, or looking at it, is not allowed.
    SKIPPED_DENIED = "skipped_denied"
    #: Ten tags are other people's.
    SKIPPED_FULL = "skipped_full"
    #: The report does not say which object was scanned: it has no ETag, or is of no object.
    SKIPPED_NO_IDENTITY = "skipped_no_identity"
    #: This storage has no tags.
    SKIPPED_UNSUPPORTED = "skipped_unsupported"
    #: Somebody else keeps overwriting them, or keeps the lock.
    FAILED_CONTENDED = "failed_contended"


class TagRequest(StrEnum):
    """A kind of request that writing tags takes."""

    READ = "GetObjectTagging"
    WRITE = "PutObjectTagging"
    LOOK = "HeadObject"


class _Address(TypedDict):
    """How S3 is told which object."""

    Bucket: str
    Key: str
    VersionId: NotRequired[str]


@dataclass(frozen=True, slots=True)
class _Target:
    """The object that was scanned. `etag` without quotes: some give it with, some without."""

    address: _Address
    etag: str
    asked: Callable[[TagRequest], object]

    @property
    def replaceable(self) -> bool:
        """Whether another object can take its place: under a version, only under `null`."""
        return self.address.get("VersionId", "null") == "null"


class TagWriter:
    """Writes verdicts as tags, through an S3 client whose retries and timeouts are the caller's.

    `locks` is a Redis client for a lock among all of Keyhole's writers, `None` for no lock. What S3 or Redis
    answers beyond a `TagOutcome` (throttled, broken, unreachable) is raised as botocore's or redis-py's
    error; writing again later is safe.
    """

    def __init__(self, s3: "S3Client", *, locks: redis.Redis | None = None) -> None:
        self._s3 = s3
        self._locks = locks

    def write(self, report: Report, asked: Callable[[TagRequest], object] = lambda _: None) -> TagOutcome:
        """Make an object's tags say what its report says. `asked` is called before every request of S3."""
        if report.bucket is None or report.key is None or not report.etag:
            return TagOutcome.SKIPPED_NO_IDENTITY
        address = _address(report.bucket, report.key, report.version_id)
        target = _Target(address, _unquoted(report.etag), asked)
        try:
            with self._lock(keys.object_id(report.bucket, report.key, report.version_id)):
                return self._converge(target, own_tags(report))
        except ClientError as error:
            outcome = _outcome(error)
            if outcome is None:
                raise
            return outcome
        except LockError:
            return TagOutcome.FAILED_CONTENDED

    def clear(self, report: Report, asked: Callable[[TagRequest], object] = lambda _: None) -> TagOutcome:
        """Remove Keyhole's tags from an object on which there is no verdict: whatever they say, it is wrong.

        `asked` is called before every request of S3.
        """
        if report.bucket is None or report.key is None:
            return TagOutcome.SKIPPED_NO_IDENTITY
        target = _Target(_address(report.bucket, report.key, report.version_id), "", asked)
        try:
            with self._lock(keys.object_id(report.bucket, report.key, report.version_id)):
                for writes in range(_WRITES + 1):
                    tags = self._read(target)
                    if not any(map(is_own, tags)):
                        return TagOutcome.WRITTEN if writes else TagOutcome.UNCHANGED
                    if writes < _WRITES:
                        self._withdraw(target, tags)
        except ClientError as error:
            outcome = _outcome(error)
            if outcome is None:
                raise
            return outcome
        except LockError:
            pass
        return TagOutcome.FAILED_CONTENDED

    def _converge(self, target: _Target, own: Mapping[str, str]) -> TagOutcome:
        """Read, merge, look, write, until what is read is right."""
        for writes in range(_WRITES + 1):
            tags = self._read(target)
            wanted = merged(tags, own)
            if wanted is None:
                return TagOutcome.SKIPPED_FULL
            right = _without_time(tags) == _without_time(wanted)
            if not self._is_current(target):
                if _speaks_of(tags, target.etag):
                    self._withdraw(target, tags)
                return TagOutcome.SKIPPED_CHANGED
            if right:
                return TagOutcome.WRITTEN if writes else TagOutcome.UNCHANGED
            if writes < _WRITES:
                self._put(target, wanted)
        return TagOutcome.FAILED_CONTENDED

    def _withdraw(self, target: _Target, tags: Mapping[str, str]) -> None:
        """Take our tags off again: they are on another object, or nobody's verdict."""
        left = {name: value for name, value in tags.items() if not is_own(name)}
        if left:
            self._put(target, left)
            return
        # Some servers answer an empty set with an error, and this is one request with one meaning.
        target.asked(TagRequest.WRITE)
        self._s3.delete_object_tagging(**target.address)

    def _is_current(self, target: _Target) -> bool:
        """Whether the object is the one that was scanned."""
        if not target.replaceable:
            return True
        target.asked(TagRequest.LOOK)
        try:
            head = self._s3.head_object(**target.address, IfMatch=f'"{target.etag}"')
        except ClientError as error:
            if _http_status(error) in {404, 412}:
                return False
            raise
        # Not everything that speaks S3's protocol heeds IfMatch.
        return _unquoted(head["ETag"]) == target.etag

    def _read(self, target: _Target) -> dict[str, str]:
        target.asked(TagRequest.READ)
        tags = self._s3.get_object_tagging(**target.address)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in tags}

    def _put(self, target: _Target, tags: Mapping[str, str]) -> None:
        target.asked(TagRequest.WRITE)
        tag_set: list[TagTypeDef] = [{"Key": name, "Value": value} for name, value in tags.items()]
        self._s3.put_object_tagging(**target.address, Tagging={"TagSet": tag_set})

    def _lock(self, object_id: str) -> AbstractContextManager[object]:
        """Keeps Keyhole's other writers off the object.

        If it expires under us, another writer has begun; we may still finish, as both read back.
        """
        if self._locks is None:
            return nullcontext()
        lock: AbstractContextManager[object] = self._locks.lock(
            keys.tag_lock(object_id),
            timeout=_LOCK_SECONDS,
            blocking_timeout=_LOCK_WAIT_SECONDS,
            sleep=_LOCK_POLL_SECONDS,
            raise_on_release_error=False,
        )
        return lock


def is_own(name: str) -> bool:
    """Whether a tag's name is one of Keyhole's, in any spelling that a policy might take for it."""
    return _SEPARATORS.sub("-", name.strip().casefold()) in OWN_TAGS


def _address(bucket: str, key: str, version_id: str | None) -> _Address:
    address = _Address(Bucket=bucket, Key=key)
    if version_id:
        address["VersionId"] = version_id
    return address


def _speaks_of(tags: Mapping[str, str], etag: str) -> bool:
    """Whether Keyhole's tags say that they are of the object with this ETag."""
    return tags.get(SCAN, "").rpartition(" ")[2] == _value(etag)


def own_tags(report: Report) -> dict[str, str]:
    """Keyhole's tags for a report with an ETag. What it doesn't know has no tag.

    `keyhole-scan` is when, which scanner and which ETag, in this order, with spaces between.
    """
    scanned_at = report.scanned_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    scanner = report.scanner.replace(" ", "_")
    tags = {
        STATUS: report.status.value,
        SCAN: _value(f"{scanned_at} {scanner} {_unquoted(report.etag or '')}"),
        REASON: _joined(report.reasons),
        IMAGE: _value(
            " ".join(str(fact) for fact in (report.format, report.virtual_size) if fact is not None)
        ),
    }
    return {name: value for name, value in tags.items() if value}


def merged(present: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str] | None:
    """Other people's tags as they are, and of Keyhole's the most important that fit; `None` if none does."""
    foreign = {name: value for name, value in present.items() if not is_own(name)}
    room = _TAG_LIMIT - len(foreign)
    if room <= 0:
        return None
    chosen = [name for name in OWN_TAGS if name in own][:room]
    return foreign | {name: own[name] for name in chosen}


def disagreement(report: Report, tags: Mapping[str, str], *, expected: bool) -> str | None:
    """What an object's tags say against its verdict, in a sentence; `None` if nothing.

    `expected`: that Keyhole writes tags, so that none are against it, too.
    """
    wanted = merged(tags, own_tags(report))
    if wanted is not None and _without_time(wanted) == _without_time(tags):
        return None
    said = tags.get(STATUS)
    if said is None:
        if not expected or wanted is None:
            return None
        return f"the verdict is {report.status}, and there is no tag {STATUS}"
    if said != report.status:
        return f"the verdict is {report.status}, the tag {STATUS} says {said}"
    return f"the tags {REASON}, {IMAGE} or {SCAN} say another thing than the verdict"


def _without_time(tags: Mapping[str, str]) -> dict[str, str]:
    """The same tags, whenever the scan was."""
    return {name: value.partition(" ")[2] if name == SCAN else value for name, value in tags.items()}


def _joined(reasons: tuple[str, ...]) -> str:
    """As many reasons as a value holds, with spaces between."""
    joined = ""
    for reason in map(_value, reasons):
        longer = f"{joined} {reason}".strip()
        if len(longer) > _VALUE_LIMIT:
            break
        joined = longer
    return joined


def _value(text: str) -> str:
    """Text as a tag's value: other characters replaced, so that all are one UTF-16 unit; cut at the limit."""
    return _FOREIGN_CHARACTERS.sub("_", text)[:_VALUE_LIMIT]


def _unquoted(etag: str) -> str:
    return etag.strip('"')


def _http_status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def _outcome(error: ClientError) -> TagOutcome | None:
    """What an answer of S3 means for the tags; `None` if it means nothing that lasts."""
    if error.response["Error"]["Code"] in {"NotImplemented", "MethodNotAllowed"}:
        return TagOutcome.SKIPPED_UNSUPPORTED
    match _http_status(error):
        case 403:
            return TagOutcome.SKIPPED_DENIED
        case 404 | 412:
            return TagOutcome.SKIPPED_CHANGED
        case 405 | 501:
            return TagOutcome.SKIPPED_UNSUPPORTED
        case _:
            return None
