"""Builds the tags that state an object's verdict, and merges them with the object's other tags.

- S3 allows ten tags on an object. The tags of other programs have priority: if there is no room for all tags,
  Keyhole leaves out its own least important tags. If an object has ten tags of other programs, Keyhole writes
  no tags.
- If tags differ from the correct tags only in the time of the scan, they are treated as correct.
- S3's policies ignore the case of tag names. So Keyhole treats a tag such as `Keyhole_Status` as its own tag
  `keyhole-status`.

`keyhole.results.tag_writer` writes the tags.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, TypeAdapter, with_config

from keyhole import versions
from keyhole.scan.report import Report

STATUS: Final = "keyhole-status"
SCAN: Final = "keyhole-scan"
REASON: Final = "keyhole-reason"
IMAGE: Final = "keyhole-image"

#: The names of Keyhole's tags, the most important one first.
OWN_TAGS: Final = (STATUS, SCAN, REASON, IMAGE)

#: S3's limits: the number of tags on an object, and the number of UTF-16 code units in a value.
_TAG_LIMIT: Final = 10
_VALUE_LIMIT: Final = 256
#: Every character that Keyhole does not write into a tag's value. AWS accepts letters of all scripts in a
#: tag, but some other S3 servers accept only the characters in this expression.
_FOREIGN_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9 +\-=._:/@]")
#: The characters that are treated like a hyphen when a tag's name is compared with the names of Keyhole's
#: tags.
_SEPARATORS: Final = re.compile(r"[\s_.:/-]+")


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class TagDebt:
    """The tags that an object should get.

    Args:
        bucket, key, version_id: The object.
        etag: The ETag of the scanned object, without quotes. It is empty if the scan could not read the
            object. In this case, Keyhole's tags are removed from the object.
        tags: Keyhole's tags for that object.
        rate: The maximum number of requests per second to the bucket; 0 for no limit. The audits of the
            bucket share this limit.
        version: The version of the format of this debt. A later version is refused.
    """

    bucket: str
    key: str
    version_id: str | None = None
    etag: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    rate: float = 0
    version: Annotated[int, Field(ge=1, le=versions.TAG_DEBT)] = versions.TAG_DEBT

    @classmethod
    def of(cls, report: Report, *, rate: float = 0) -> Self:
        """Return the debt for a report, which contains the tags that state the report's verdict.

        Raises:
            ValueError: The report is not about an object in a bucket.
        """
        if report.bucket is None or report.key is None:
            raise ValueError(f"{report.target} is not an object in a bucket, so it has no tags")
        etag = unquoted(report.etag or "")
        return cls(report.bucket, report.key, report.version_id, etag, own_tags(report) if etag else {}, rate)


#: Converts a debt to JSON and back. Debts are stored as JSON in Redis and in dead letters.
TAG_DEBT: Final = TypeAdapter(TagDebt)


def is_own(name: str) -> bool:
    """Return whether a tag has the name of one of Keyhole's tags, or a variant that a policy might accept."""
    return _SEPARATORS.sub("-", name.strip().casefold()) in OWN_TAGS


def speaks_of(tags: Mapping[str, str], etag: str) -> bool:
    """Return whether the tag `keyhole-scan` contains this ETag.

    If so, the tags belong to the object that has this ETag.
    """
    return tags.get(SCAN, "").rpartition(" ")[2] == _value(unquoted(etag))


def own_tags(report: Report) -> dict[str, str]:
    """Return Keyhole's tags for a report with an ETag.

    If a value is unknown, the tag for this value is left out.

    The value of `keyhole-scan` is the time, the scanner and the ETag, in this order, separated by spaces.
    """
    scanned_at = report.scanned_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    scanner = report.scanner.replace(" ", "_")
    tags = {
        STATUS: report.status.value,
        SCAN: _value(f"{scanned_at} {scanner} {unquoted(report.etag or '')}"),
        REASON: _joined(report.marks),
        IMAGE: _value(
            " ".join(str(fact) for fact in (report.format, report.virtual_size) if fact is not None)
        ),
    }
    return {name: value for name, value in tags.items() if value}


def foreign_tags(present: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that are not Keyhole's."""
    return {name: value for name, value in present.items() if not is_own(name)}


def merged(present: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str] | None:
    """Return the tags of other programs, and the most important of Keyhole's tags, up to S3's limit.

    Return `None` if there is no room for any of Keyhole's tags.
    """
    foreign = foreign_tags(present)
    room = _TAG_LIMIT - len(foreign)
    if room <= 0:
        return None
    chosen = [name for name in OWN_TAGS if name in own][:room]
    return foreign | {name: own[name] for name in chosen}


def disagreement(report: Report, tags: Mapping[str, str], *, expected: bool) -> str | None:
    """Return a sentence that states how an object's tags contradict its verdict; `None` if they do not.

    `expected` is true if Keyhole is configured to write tags. In this case, missing tags are a contradiction,
    too.
    """
    wanted = merged(tags, own_tags(report))
    if wanted is not None and without_time(wanted) == without_time(tags):
        return None
    said = tags.get(STATUS)
    if said is None:
        if not expected or wanted is None:
            return None
        return f"the verdict is {report.status}, but there is no tag {STATUS}"
    if said != report.status:
        return f"the verdict is {report.status}, but the tag {STATUS} says {said}"
    return f"the tags {REASON}, {IMAGE} or {SCAN} differ from the verdict"


def without_time(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags, without the time of the scan in `keyhole-scan`."""
    return {name: value.partition(" ")[2] if name == SCAN else value for name, value in tags.items()}


def _joined(reasons: tuple[str, ...]) -> str:
    """Join the reasons with spaces, and leave out the last reasons if a tag's value has no room for them."""
    joined = ""
    for reason in map(_value, reasons):
        longer = f"{joined} {reason}".strip()
        if len(longer) > _VALUE_LIMIT:
            break
        joined = longer
    return joined


def _value(text: str) -> str:
    """Return a text as the value of a tag.

    Each character that is not allowed becomes `_`. A text that is too long for a tag is cut off.
    """
    return _FOREIGN_CHARACTERS.sub("_", text)[:_VALUE_LIMIT]


def unquoted(etag: str) -> str:
    """Return an ETag without its quotes. Some S3 servers return ETags with quotes, some without."""
    return etag.strip('"')
