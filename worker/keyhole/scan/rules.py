"""The policy: which images an importer accepts, as rules in a TOML file; and the shipped profiles.

A file names a profile and has rules. The first rule whose globs match bucket and key applies. Fields that a
rule does not set are those of the profile. If no rule matches, the profile applies.

    profile = "default"

    [[rules]]
    bucket = "uploads-*"
    key = "*.qcow2"
    formats = ["qcow2", "vmdk:streamOptimized"]
    max_virtual_size = "2 TiB"

    [rules.severity]
    encrypted = "info"

In a glob `*` is any text, `/` and line breaks included, as in S3's policies; `?` is one character, `[…]`
one of several, `[[]` a bracket. Case matters.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    field_validator,
)

from keyhole.inspectors.catalogue import CONTAINER_FORMATS, INSPECTORS
from keyhole.inspectors.findings import CHECKS, Severity
from keyhole.inspectors.readers import READERS
from keyhole.scan.sizes import Size
from keyhole.toml_files import parse_as, read_text

PROFILES = ("default", "openstack", "aws-vm-import", "azure", "gcp", "kubevirt")
#: The name for a disk outside of any container.
BARE = "bare"


#: A size that limits something, so that zero would allow nothing.
Limit = Annotated[Size, Field(gt=0, strict=True)]


class Rule(BaseModel):
    """The rule for a set of objects. A format is written `vmdk`, or `vmdk:streamOptimized`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: str = "*"
    key: str = "*"
    #: `None`: every format that Keyhole knows.
    formats: tuple[str, ...] | None = None
    #: The containers in which disks are accepted, from the outside in, such as `gzip/tar`; `bare`: none.
    #: `None`: any.
    containers: tuple[str, ...] | None = None
    #: The name that a disk in an archive must have; `None`: any.
    member_name: str | None = None
    max_virtual_size: Limit | None = None
    virtual_size_multiple: Limit | None = None
    #: The most bytes that are decompressed to inspect a compressed object in full; `None`: as many as are
    #: cheap.
    decompress: Limit | None = None
    #: The programs that open an imported disk, by their names in `keyhole.inspectors.readers`. The virtual
    #: size is that of the first one; a finding that concerns none of them is information.
    readers: tuple[str, ...] = Field(default=READERS, min_length=1)
    #: The proof of wholeness that `safe` needs. `provable`: a proof, or a sampled one, if the format has it.
    wholeness: Literal["proven", "sampled", "provable", "unchecked"] = "provable"
    severity: dict[str, Severity] = {}
    #: Whether metadata, content type and suffix are compared with what the object is.
    compare_declared: StrictBool = True

    @field_validator("formats")
    @classmethod
    def _known_formats(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for entry in value or ():
            if entry.partition(":")[0] not in INSPECTORS:
                raise ValueError(f"{entry!r} is not a format; the formats are {', '.join(INSPECTORS)}")
        return value

    @field_validator("containers")
    @classmethod
    def _known_containers(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for entry in value or ():
            if entry != BARE and not CONTAINER_FORMATS.issuperset(entry.split("/")):
                names = ", ".join(sorted(CONTAINER_FORMATS))
                raise ValueError(
                    f"{entry!r} cannot contain disks; write {BARE}, or formats of {names}, such as 'gzip/tar'"
                )
        return value

    @field_validator("readers")
    @classmethod
    def _known_readers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for reader in value:
            if reader not in READERS:
                raise ValueError(f"{reader!r} is not a reader; the readers are {', '.join(READERS)}")
        return value

    @field_validator("severity")
    @classmethod
    def _known_checks(cls, value: dict[str, Severity]) -> dict[str, Severity]:
        for check in value:
            if check not in CHECKS:
                raise ValueError(f"{check!r} is not a check; `keyhole docs checks` lists them")
        return value

    def is_for(self, bucket: str | None, key: str | None) -> bool:
        """Whether the rule applies to an object. A file outside of S3 has its path as key."""
        return fnmatchcase(bucket or "", self.bucket) and fnmatchcase(key or "", self.key)

    def accepts(self, image_format: str, subformat: str | None) -> bool:
        """Whether a format is accepted."""
        return (
            self.formats is None
            or image_format in self.formats
            or f"{image_format}:{subformat}" in self.formats
        )

    def accepts_placement(self, around: Sequence[str]) -> bool:
        """Whether a disk in these containers is accepted, which are given from the outside in."""
        return self.containers is None or ("/".join(around) or BARE) in self.containers

    def accepts_some(self, image_format: str) -> bool:
        """Whether a format is accepted, in all or some of its variants."""
        return self.formats is None or any(entry.partition(":")[0] == image_format for entry in self.formats)


class PolicyFile(BaseModel):
    """A policy as it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Literal[PROFILES] = "default"  # type: ignore[valid-type] # the names stand in one place
    rules: tuple[Rule, ...] = ()


class Policy(BaseModel):
    """Rules in the order in which they are tried. The last one applies to every object."""

    model_config = ConfigDict(frozen=True)

    name: str
    rules: tuple[Rule, ...]

    def rule_for(self, bucket: str | None, key: str | None) -> Rule:
        """Return the first rule that applies to an object."""
        return next(rule for rule in self.rules if rule.is_for(bucket, key))


@lru_cache
def load_policy(name: str) -> Policy:
    """Return the policy of a profile, by its name, or of a file, by its path.

    Raises:
        FileError: The policy does not exist, or is not valid.
    """
    if name in PROFILES:
        return Policy(name=name, rules=(parse_as(Rule, profile_text(name), f"profile {name}"),))
    text = read_text(name, f"is neither a profile ({', '.join(PROFILES)}) nor a file that can be read")
    written = parse_as(PolicyFile, text, name)
    base = load_policy(written.profile).rules[0]
    rules = tuple(_completed(rule, base) for rule in written.rules)
    digest = sha256(text.encode()).hexdigest()[:8]
    return Policy(name=f"{Path(name).stem}-{digest}", rules=(*rules, base))


def profile_text(name: str) -> str:
    """The text of a shipped profile, with its sources in comments."""
    return resources.files("keyhole.scan").joinpath("profiles", f"{name}.toml").read_text(encoding="utf-8")


def _completed(rule: Rule, base: Rule) -> Rule:
    """A rule with the fields and severities of the profile that it does not set."""
    stated = {field: getattr(rule, field) for field in rule.model_fields_set}
    return base.model_copy(update={**stated, "severity": {**base.severity, **rule.severity}})
