"""The result of an inspection, as one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from keyhole.inspectors.findings import Finding

#: The reason in `unseen` if data without errors were not decompressed to their end.
DECOMPRESSION_LIMIT: Final = "decompression_limit"


class Wholeness(StrEnum):
    """How far Keyhole knows that the whole image is there.

    `PROVEN`: the format's own high-water mark lies inside the object. `SAMPLED`: a part of the format's maps
    was read, and everything that this part points to lies inside. `UNCHECKED`: the format has no such mark,
    or the mark was not reached.
    """

    PROVEN = "proven"
    SAMPLED = "sampled"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one image. Sizes are in bytes; `None` means unknown.

    `details` holds values that JSON can represent. `complete` is false if wanted bytes were never seen, so
    that facts which depend on them are unknown: a stream passed the bytes before they were declared, or
    nobody fetched them, or `unseen` names another reason: a check, or `DECOMPRESSION_LIMIT`.
    `first_bytes` are those of an object that was not recognised, so that it can be named: up to 4 KiB, or all
    that are held if all of these are zeros (and none if only the first 4 KiB are zeros). `other_sizes` are
    the virtual sizes that some readers use instead of `virtual_size`, by the reader's name in `readers`; zero
    means unknown.
    """

    format: str | None
    subformat: str | None
    virtual_size: int | None
    actual_size: int
    content: tuple[str, ...]
    details: Mapping[str, object] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    wholeness: Wholeness = Wholeness.UNCHECKED
    complete: bool = True
    members: tuple["Member", ...] = ()
    first_bytes: bytes = b""
    unseen: str | None = None
    other_sizes: Mapping[str, int] = field(default_factory=dict)

    def virtual_size_by(self, reader: str) -> int | None:
        """Return the virtual size in bytes that a reader uses; `None` if that is unknown."""
        return (self.other_sizes[reader] or None) if reader in self.other_sizes else self.virtual_size


@dataclass(frozen=True, slots=True)
class Member:
    """An inspected member of a container.

    `offset` is where it begins in the container, or `None` if it is not stored there unchanged. `size` is its
    own length, or `None` if its end was not reached.
    """

    name: str
    offset: int | None
    size: int | None
    facts: Facts
