"""The tags that state an object's verdict, and how they are merged with other people's tags.

- S3 allows ten tags. Other people's have priority: Keyhole drops its own, the least important first. If
  an object has ten others, Keyhole writes none.
- The time of the scan does not count: tags that differ only in this are right.
- Keyhole's names in another spelling count as Keyhole's, because policies in S3 compare names of tags without
  case.

`keyhole.results.tag_writer` writes them.
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

#: Keyhole's tags, the most important first: the verdict, the object it is about, the reason, the image.
OWN_TAGS: Final = (STATUS, SCAN, REASON, IMAGE)

#: S3's limits: tags on an object, UTF-16 units in a value.
_TAG_LIMIT: Final = 10
_VALUE_LIMIT: Final = 256
#: Characters that a value may not have. S3 takes letters of any script, but not every S3 server does.
_FOREIGN_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9 +\-=._:/@]")
#: Characters that may replace the hyphen in a spelling of Keyhole's names.
_SEPARATORS: Final = re.compile(r"[\s_.:/-]+")


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class TagDebt:
    """The tags that an object should get.

    Args:
        bucket, key, version_id: The object.
        etag: The ETag of the object that was scanned, without quotes. Empty if it could not be read; then
            Keyhole's tags are removed.
        tags: Keyhole's tags for that object.
        rate: The most requests a second to the bucket, its audits included; 0 for no limit.
    """

    bucket: str
    key: str
    version_id: str | None = None
    etag: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    rate: float = 0

    @classmethod
    def of(cls, report: Report, *, rate: float = 0) -> Self:
        """Return the tags that state a verdict.

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
    """Return whether a tag's name is one of Keyhole's, in any spelling that a policy might accept."""
    return _SEPARATORS.sub("-", name.strip().casefold()) in OWN_TAGS


def speaks_of(tags: Mapping[str, str], etag: str) -> bool:
    """Return whether Keyhole's tags say that they belong to the object with this ETag."""
    return tags.get(SCAN, "").rpartition(" ")[2] == _value(unquoted(etag))


def own_tags(report: Report) -> dict[str, str]:
    """Return Keyhole's tags for a report with an ETag. Unknown values have no tag.

    `keyhole-scan` is the time, the scanner and the ETag, in this order, separated by spaces.
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
    """Return other people's tags."""
    return {name: value for name, value in present.items() if not is_own(name)}


def merged(present: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str] | None:
    """Return other people's tags with the most important of Keyhole's that fit; `None` if none fits."""
    foreign = foreign_tags(present)
    room = _TAG_LIMIT - len(foreign)
    if room <= 0:
        return None
    chosen = [name for name in OWN_TAGS if name in own][:room]
    return foreign | {name: own[name] for name in chosen}


def disagreement(report: Report, tags: Mapping[str, str], *, expected: bool) -> str | None:
    """Return how an object's tags contradict its verdict, in a sentence; `None` if they do not.

    With `expected`, Keyhole writes tags, so that missing tags are a contradiction, too.
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
    return f"the tags {REASON}, {IMAGE} or {SCAN} differ from the verdict"


def without_time(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags without the time of the scan."""
    return {name: value.partition(" ")[2] if name == SCAN else value for name, value in tags.items()}


def _joined(reasons: tuple[str, ...]) -> str:
    """Return as many reasons as fit into a value, separated by spaces."""
    joined = ""
    for reason in map(_value, reasons):
        longer = f"{joined} {reason}".strip()
        if len(longer) > _VALUE_LIMIT:
            break
        joined = longer
    return joined


def _value(text: str) -> str:
    """Return text as a tag's value: other characters become one UTF-16 unit each; it is cut at the limit."""
    return _FOREIGN_CHARACTERS.sub("_", text)[:_VALUE_LIMIT]


def unquoted(etag: str) -> str:
    """Return an ETag without its quotes: some servers give it with, some without."""
    return etag.strip('"')
