"""The result of an inspection, as one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from keyhole.inspectors.findings import Finding

#: Why something was not seen to its end, though the data are in order.
DECOMPRESSION_LIMIT: Final = "decompression_limit"


class Wholeness(StrEnum):
    """How far it is known that the whole image is there.

    `PROVEN`: the format's own high-water mark lies inside the object. `SAMPLED`: a part of the format's maps
    was read, and all that they lead to lies inside. `UNCHECKED`: the format has no such mark, or it was not
    reached.
    """

    PROVEN = "proven"
    SAMPLED = "sampled"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one image. Sizes are in bytes; `None` is unknown.

    `details` holds what JSON can say. `complete` is false where something wanted was never seen, so that
    whatever depends on it is unknown: a stream passed it before it was declared, or nobody fetched it, or
    `unseen` says why: the name of a check, or `DECOMPRESSION_LIMIT`.
    `first_bytes` are those of an object that was not recognised, so that it can be named: up to 4 KiB, or all
    that is held if that is nothing but zeros (and nothing if only the first 4 KiB are). `other_sizes` are the
    virtual sizes that some readers take in place of `virtual_size`, by the reader's name in `readers`; zero
    is unknown.
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
        """Return the virtual size that a reader takes, in bytes; `None` if it is unknown to it."""
        return (self.other_sizes[reader] or None) if reader in self.other_sizes else self.virtual_size


@dataclass(frozen=True, slots=True)
class Member:
    """Something in a container that was inspected.

    `offset` is where it begins in the container, `None` where it does not lie there as it is; `size` is its
    own length, `None` where that was not reached.
    """

    name: str
    offset: int | None
    size: int | None
    facts: Facts
