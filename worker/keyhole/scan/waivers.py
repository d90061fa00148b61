"""Waivers: exceptions in a policy, which accept one check's findings in certain objects until a date.

    [[waivers]]
    bucket = "templates"
    key = "golden/*.qcow2"
    etag = "9b2cf535f27731c974343645a3985328"   # optional: only this content
    check = "backing_file"
    reason = "the base image is on every host, ticket 4711"
    by = "Ada Lovelace"                         # optional
    until = 2027-03-31                          # the last day, in UTC

A waived finding stays in the report with its severity, and the report states who waived it, why and until
when. The verdict is the one that the object would have without the finding. So an object whose inspection is
incomplete, or whose size is unknown, does not become `safe`.

What a waiver does not do:

- It never applies to local files and streams, because they are in no bucket.
- It waives findings up to the usual severity of the check. For example, a wrong declared format is usually a
  warning. If the object is declared raw, the finding is critical, and only a waiver with
  `severity = "critical"` waives it.
- It does not make an object `safe` whose images Keyhole has not all inspected: one that is valid in two
  formats, an archive with an encrypted member, or an archive that follows another.
- Checks in `NEVER` cannot be waived: their findings mean that Keyhole has not seen or understood the object.
- A waiver for every key must name an ETag or a version, because a rule's `severity` is the way to change a
  check for all objects.

An ETag identifies the content only if nobody wants to deceive: it is usually an MD5 digest, and an attacker
can make two objects with the same MD5 digest. A version's id always identifies the same content. S3's SHA-256
checksums would need a further request for each object, and most objects have none.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from keyhole.inspectors.findings import CHECKS, Finding, Severity
from keyhole.suggestions import did_you_mean

#: The checks that cannot be waived, with the reasons.
NEVER: Final[dict[str, str]] = {
    "truncated": "the missing part of the object was not inspected",
    "member_limit": "some members were not inspected",
    "unknown_features": "Keyhole does not know what the features change",
    "unsupported_subformat": "Keyhole cannot determine the size or wholeness of the image",
    "decompression_bomb": "the content was not inspected",
}
#: From the least to the most severe.
_SEVERITIES: Final = tuple(Severity)
#: A text that reports, tables and tags repeat, so it has a limit and no control characters.
_Text = Annotated[str, Field(min_length=1, max_length=300)]


def _known_check(name: str) -> str:
    if name not in CHECKS:
        known = did_you_mean(name, CHECKS) or "; `keyhole explain` lists them"
        raise ValueError(f"{name!r} is not a check{known}")
    return name


#: The name of a check in a policy.
CheckName = Annotated[str, AfterValidator(_known_check)]


class Applied(BaseModel):
    """A waiver that applies to an object, as its report states it.

    It waives findings of `check` up to `severity`. `until` is the last day, in UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    severity: Severity
    reason: str
    by: str | None = None
    until: date

    def covers(self, finding: Finding) -> bool:
        """Return whether it waives a finding. A finding with the severity `info` needs no waiver."""
        return (
            finding.check == self.check
            and finding.severity is not Severity.INFO
            and _SEVERITIES.index(finding.severity) <= _SEVERITIES.index(self.severity)
        )

    def has_ended(self, today: date | None = None) -> bool:
        """Return whether the waiver is no longer in force, although the recorded verdict still states it."""
        return (today or datetime.now(UTC).date()) > self.until

    def sentence(self) -> str:
        """Return who waives the check, why and until when, and whether that day has passed."""
        ended = " (ended)" if self.has_ended() else ""
        return f"waived{f' by {self.by}' if self.by else ''} until {self.until}{ended}: {self.reason}"


class Waiver(BaseModel):
    """A waiver of a policy file: an object or objects, a check, and the reason and end of the exception."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Globs, as in rules. A waiver without a key is for all keys, and must have an ETag or a version.
    bucket: _Text
    key: Annotated[str, Field(min_length=1)] | None = None
    etag: _Text | None = None
    version_id: _Text | None = None
    check: CheckName
    reason: _Text
    by: _Text | None = None
    until: Annotated[date, Field(strict=True)]
    #: The highest severity of a finding that is waived; by default the usual severity of the check.
    severity: Severity | None = None

    @field_validator("check")
    @classmethod
    def _can_be_waived(cls, value: str) -> str:
        if value in NEVER:
            raise ValueError(f"{value} cannot be waived: {NEVER[value]}")
        return value

    @field_validator("reason", "by")
    @classmethod
    def _is_printable(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("must be one line without control characters")
        return value

    @field_validator("etag")
    @classmethod
    def _identifies_content(cls, value: str | None) -> str | None:
        if value is not None and not value.strip(' "'):
            raise ValueError("names no ETag")
        return value

    @field_validator("version_id")
    @classmethod
    def _identifies_a_version(cls, value: str | None) -> str | None:
        if value == "null":
            raise ValueError("the version null can be replaced, so it does not identify content")
        return value

    @model_validator(mode="after")
    def _names_objects(self) -> Self:
        if self.etag is None and self.version_id is None and not (self.key or "").strip("*?"):
            raise ValueError(
                "a waiver must name a key, an etag or a version_id; "
                "to change a check for all objects, use a rule's severity"
            )
        return self

    def is_for(self, bucket: str | None, key: str | None, etag: str | None, version_id: str | None) -> bool:
        """Return whether it is for an object with this ETag and version; never for a local file."""
        return (
            bucket is not None
            and key is not None
            and fnmatchcase(bucket, self.bucket)
            and (self.key is None or fnmatchcase(key, self.key))
            and (self.etag is None or (etag or "").strip('"') == self.etag.strip('"'))
            and (self.version_id is None or version_id == self.version_id)
        )

    def is_in_force(self, today: date) -> bool:
        """Return whether the waiver has not ended."""
        return today <= self.until

    def applied(self) -> Applied:
        """Return the waiver as a report states it."""
        severity = self.severity or CHECKS[self.check].severity
        return Applied(check=self.check, severity=severity, reason=self.reason, by=self.by, until=self.until)


def for_object(
    waivers: Sequence[Waiver],
    bucket: str | None,
    key: str | None,
    etag: str | None,
    version_id: str | None,
    today: date | None = None,
) -> tuple[Applied, ...]:
    """Return the waivers that are in force for an object, the ones that end last first."""
    day = today or datetime.now(UTC).date()
    found = [
        waiver.applied()
        for waiver in waivers
        if waiver.is_in_force(day) and waiver.is_for(bucket, key, etag, version_id)
    ]
    return tuple(sorted(found, key=lambda one: one.until, reverse=True))


def waiver_of(finding: Finding, waivers: Iterable[Applied]) -> Applied | None:
    """Return the first waiver that covers a finding."""
    return next((waiver for waiver in waivers if waiver.covers(finding)), None)


def used(findings: Iterable[Finding], waivers: Sequence[Applied]) -> Iterator[Applied]:
    """Yield the waivers without which a verdict on these findings could differ, each once."""
    found = dict.fromkeys(waiver_of(finding, waivers) for finding in findings)
    return (waiver for waiver in found if waiver is not None)
