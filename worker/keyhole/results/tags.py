"""The tags that tell an object's verdict: what they say, and how they fit in beside other people's.

- Ten tags are S3's limit. Other people's go first; Keyhole leaves out its own, least important first, and
  with ten others has none.
- When the scan was does not count: if nothing else in the tags would differ, they are right.
- Keyhole's names in another spelling are taken for Keyhole's, because S3's policies compare the names of tags
  without case.

How they are written is told in `keyhole.results.tag_writer`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Final, Self

from pydantic import ConfigDict, TypeAdapter, with_config

from keyhole.scan.report import Report

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


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class TagDebt:
    """The tags that an object is to have.

    Args:
        bucket, key, version_id: The object.
        etag: The ETag of the object that was scanned, without quotes. Empty if it could not be read; then it
            is to have no tags of Keyhole's.
        tags: Keyhole's tags for that object.
        rate: Requests a second that are made to the bucket at most, together with its audits; 0 for no limit.
    """

    bucket: str
    key: str
    version_id: str | None = None
    etag: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    rate: float = 0

    @classmethod
    def of(cls, report: Report, *, rate: float = 0) -> Self:
        """The tags that tell a verdict.

        Raises:
            ValueError: The report is not of an object in a bucket.
        """
        if report.bucket is None or report.key is None:
            raise ValueError(f"{report.target} is not an object in a bucket, so it has no tags")
        etag = unquoted(report.etag or "")
        return cls(report.bucket, report.key, report.version_id, etag, own_tags(report) if etag else {}, rate)


#: A debt as JSON, in Redis and in dead letters.
TAG_DEBT: Final = TypeAdapter(TagDebt)


def is_own(name: str) -> bool:
    """Whether a tag's name is one of Keyhole's, in any spelling that a policy might take for it."""
    return _SEPARATORS.sub("-", name.strip().casefold()) in OWN_TAGS


def speaks_of(tags: Mapping[str, str], etag: str) -> bool:
    """Whether Keyhole's tags say that they are of the object with this ETag."""
    return tags.get(SCAN, "").rpartition(" ")[2] == _value(unquoted(etag))


def own_tags(report: Report) -> dict[str, str]:
    """Keyhole's tags for a report with an ETag. What it doesn't know has no tag.

    `keyhole-scan` is when, which scanner and which ETag, in this order, with spaces between.
    """
    scanned_at = report.scanned_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    scanner = report.scanner.replace(" ", "_")
    tags = {
        STATUS: report.status.value,
        SCAN: _value(f"{scanned_at} {scanner} {unquoted(report.etag or '')}"),
        REASON: _joined(report.reasons),
        IMAGE: _value(
            " ".join(str(fact) for fact in (report.format, report.virtual_size) if fact is not None)
        ),
    }
    return {name: value for name, value in tags.items() if value}


def foreign_tags(present: Mapping[str, str]) -> dict[str, str]:
    """Other people's tags."""
    return {name: value for name, value in present.items() if not is_own(name)}


def merged(present: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str] | None:
    """Other people's tags as they are, and of Keyhole's the most important that fit; `None` if none does."""
    foreign = foreign_tags(present)
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
    if wanted is not None and without_time(wanted) == without_time(tags):
        return None
    said = tags.get(STATUS)
    if said is None:
        if not expected or wanted is None:
            return None
        return f"the verdict is {report.status}, and there is no tag {STATUS}"
    if said != report.status:
        return f"the verdict is {report.status}, the tag {STATUS} says {said}"
    return f"the tags {REASON}, {IMAGE} or {SCAN} say another thing than the verdict"


def without_time(tags: Mapping[str, str]) -> dict[str, str]:
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


def unquoted(etag: str) -> str:
    """An ETag without its quotes: some servers give it with, some without."""
    return etag.strip('"')
