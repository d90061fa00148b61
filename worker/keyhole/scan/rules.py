"""The policy: rules that state which images an importer accepts.

The rules come from a TOML file or from a shipped profile.

A policy file names a profile and contains rules. A rule applies to an object if its globs match the object's
bucket and key. If several rules match, the first one applies; if none matches, the profile applies. A field
that a rule does not set has the profile's value.

    profile = "default"

    [[rules]]
    bucket = "uploads-*"
    key = "*.qcow2"
    formats = ["qcow2", "vmdk:streamOptimized"]
    max_virtual_size = "2 TiB"

    [rules.severity]
    encrypted = "info"

A policy file can also contain waivers (`keyhole.scan.waivers`).

In a glob, `*` matches any text, including `/` and line breaks, as in S3's bucket policies. `?` matches one
character, `[…]` one of the listed characters, and `[[]` the character `[`. Globs are case-sensitive.
"""

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool

from keyhole.inspectors.catalogue import CONTAINER_FORMATS, NAMES
from keyhole.inspectors.findings import Severity
from keyhole.inspectors.readers import READERS
from keyhole.scan.profile_names import PROFILES
from keyhole.scan.sizes import Size
from keyhole.scan.waivers import CheckName, Waiver
from keyhole.suggestions import did_you_mean
from keyhole.toml_files import parse_as, read_text

#: The entry in `Rule.containers` that accepts a disk outside a container.
BARE = "bare"


#: A size in bytes that is greater than zero. A limit of zero would exclude every image.
Limit = Annotated[Size, Field(gt=0, strict=True)]


def _known_format(entry: str) -> str:
    name, colon, variant = entry.partition(":")
    if name not in NAMES:
        known = did_you_mean(name, NAMES) or f"; the formats are {', '.join(NAMES)}"
        raise ValueError(f"{entry!r} is not a format{known}")
    if not colon:
        return entry
    from keyhole.scan.variants import VARIANTS  # noqa: PLC0415 - the default policy names no variants

    variants = VARIANTS.get(name, ())
    if not variants:
        raise ValueError(f"{entry!r}: the format {name} has no variants; write {name}")
    if variant not in variants:
        known = did_you_mean(variant, variants) or f"; the variants are {', '.join(variants)}"
        raise ValueError(f"{entry!r} is not a variant of {name}{known}")
    return entry


def _known_container(entry: str) -> str:
    if entry != BARE and not CONTAINER_FORMATS.issuperset(entry.split("/")):
        names = ", ".join(sorted(CONTAINER_FORMATS))
        raise ValueError(
            f"{entry!r} cannot contain disks; write {BARE} or formats from {names}, as in 'gzip/tar'"
        )
    return entry


def _known_reader(entry: str) -> str:
    if entry not in READERS:
        known = did_you_mean(entry, READERS) or f"; the readers are {', '.join(READERS)}"
        raise ValueError(f"{entry!r} is not a reader{known}")
    return entry


_Format = Annotated[str, AfterValidator(_known_format)]
_Container = Annotated[str, AfterValidator(_known_container)]
_Reader = Annotated[str, AfterValidator(_known_reader)]


class Rule(BaseModel):
    """A rule of the policy, and the objects to which it applies. Sizes are in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: str = "*"
    key: str = "*"
    #: The accepted formats, such as `vmdk`, or with a variant, `vmdk:streamOptimized`. `None` accepts every
    #: format that Keyhole knows.
    formats: tuple[_Format, ...] | None = None
    #: The containers in which a disk is accepted. An entry lists the formats of nested containers, outermost
    #: first, such as `gzip/tar`. The entry `bare` accepts disks outside a container. `None` accepts a disk in
    #: every container.
    containers: tuple[_Container, ...] | None = None
    #: The name that a disk in an archive must have. `None` accepts every name.
    member_name: str | None = None
    max_virtual_size: Limit | None = None
    virtual_size_multiple: Limit | None = None
    #: The limit in decompressed bytes for a compressed object. Keyhole decompresses the object up to this
    #: limit, or to its end, to inspect its content. With `None`, it stops after a small amount
    #: (`keyhole.inspectors.compression.limits`).
    decompress: Limit | None = None
    #: The programs that will read the imported disk, as named in `keyhole.inspectors.readers`. The report
    #: states the virtual size that the first program uses. A finding that concerns none of these programs
    #: gets the severity `info`.
    readers: tuple[_Reader, ...] = Field(default=READERS, min_length=1)
    #: The least wholeness (`keyhole.inspectors.facts`) that an image must have to be `safe`. `proven` is the
    #: highest, then `sampled`, and `unchecked` accepts every image. `provable` means `sampled`, but accepts
    #: every image of a format that does not record where its data end.
    wholeness: Literal["proven", "sampled", "provable", "unchecked"] = "provable"
    #: Maps a check to the severity of its findings, in place of their usual severity.
    severity: dict[CheckName, Severity] = {}
    #: Whether Keyhole compares the object's real format with the format that its metadata, content type,
    #: content encoding or suffix declare.
    compare_declared: StrictBool = True

    def is_for(self, bucket: str | None, key: str | None) -> bool:
        """Return whether the rule's globs match an object. The key of a local file is its path."""
        return fnmatchcase(bucket or "", self.bucket) and fnmatchcase(key or "", self.key)

    def accepts(self, image_format: str, subformat: str | None) -> bool:
        """Return whether the rule accepts a format in this variant."""
        return (
            self.formats is None
            or image_format in self.formats
            or f"{image_format}:{subformat}" in self.formats
        )

    def accepts_placement(self, around: Sequence[str]) -> bool:
        """Return whether the rule accepts a disk in these nested containers, outermost first."""
        return self.containers is None or ("/".join(around) or BARE) in self.containers

    def accepts_some(self, image_format: str) -> bool:
        """Return whether the rule accepts at least one variant of a format."""
        return self.formats is None or any(entry.partition(":")[0] == image_format for entry in self.formats)


class PolicyFile(BaseModel):
    """The content of a policy file."""

    # Build the validator only when it is used: the default policy is a profile, so most processes read no
    # policy file.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    profile: Literal[PROFILES] = "default"  # type: ignore[valid-type] # mypy wants literals here
    rules: tuple[Rule, ...] = ()
    waivers: tuple[Waiver, ...] = ()


class Policy(BaseModel):
    """A named list of rules, in the order in which Keyhole tries them. The last rule matches every object."""

    model_config = ConfigDict(frozen=True)

    name: str
    rules: tuple[Rule, ...]
    waivers: tuple[Waiver, ...] = ()

    def rule_for(self, bucket: str | None, key: str | None) -> Rule:
        """Return the first rule that matches an object."""
        return next(rule for rule in self.rules if rule.is_for(bucket, key))


def load_policy(policy: str | os.PathLike[str]) -> Policy:
    """Return a policy: a profile by its name, or the policy in a file, which is read each time.

    >>> from keyhole import load_policy
    >>> load_policy("azure").name
    'azure'

    Args:
        policy: The name of a profile, such as `azure`, or the path of a policy file.

    Raises:
        keyhole.errors.KeyholeError: The file cannot be read, or the policy in it is not valid. The message
            names the profiles, or the line of each mistake.
    """
    name = os.fspath(policy)
    if name in PROFILES:
        return _profile(name)
    profiles = f"({', '.join(PROFILES)}{did_you_mean(name, PROFILES)})"
    text = read_text(name, f"is neither a profile {profiles} nor a readable file")
    written = parse_as(PolicyFile, text, name)
    base = _profile(written.profile).rules[0]
    rules = tuple(_completed(rule, base) for rule in written.rules)
    digest = sha256(text.encode()).hexdigest()[:8]
    return Policy(name=f"{Path(name).stem}-{digest}", rules=(*rules, base), waivers=written.waivers)


@lru_cache
def settled_policy(name: str) -> Policy:
    """Return the same as `load_policy`, but read each file only once.

    So the policy of a worker stays the same while the worker runs. A worker can also not read its file again
    after it has confined itself.
    """
    return load_policy(name)


@lru_cache
def _profile(name: str) -> Policy:
    return Policy(name=name, rules=(parse_as(Rule, profile_text(name), f"profile {name}"),))


def profile_text(name: str) -> str:
    """Return the TOML text of a shipped profile. Its comments name the source of each value."""
    return resources.files("keyhole.scan").joinpath("profiles", f"{name}.toml").read_text(encoding="utf-8")


def _completed(rule: Rule, base: Rule) -> Rule:
    """Return a rule whose unset fields and severities have the values of the profile."""
    stated = {field: getattr(rule, field) for field in rule.model_fields_set}
    return base.model_copy(update={**stated, "severity": {**base.severity, **rule.severity}})
