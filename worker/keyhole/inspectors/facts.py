"""The facts of an inspection: its result as one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from keyhole.inspectors.findings import Finding

#: The value of `Facts.unseen` if a limit prevented the inspection from decompressing all data.
DECOMPRESSION_LIMIT: Final = "decompression_limit"


class Wholeness(StrEnum):
    """Whether the object contains the whole image, as far as the bytes that Keyhole has read show it.

    `PROVEN`: the format states where its last data lie, and these data lie inside the object. `SAMPLED`:
    Keyhole has read a part of the format's maps, and all data that this part points to lie inside the object.
    `UNCHECKED`: the format does not state where its last data lie, or Keyhole has not read the field that
    states it.
    """

    PROVEN = "proven"
    SAMPLED = "sampled"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one image. Sizes are in bytes; `None` means unknown.

    Attributes:
        details: More facts of the format, as values that JSON can represent.
        complete: False if the inspection did not receive all bytes that it needed, so some facts are unknown.
            Either a stream passed the bytes before the inspector declared them, or the caller did not fetch
            them, or `unseen` states the reason.
        unseen: The reason why a part of a container was not inspected: `DECOMPRESSION_LIMIT`, or the name of
            the check that found an error in the compressed data.
        first_bytes: The first 4 KiB of an object that was not recognised, so that the caller can determine
            what it is. If all captured bytes are zeros, these are all captured bytes. If the first 4 KiB are
            zeros, and later captured bytes are not, this is `b""`.
        other_sizes: The virtual sizes that some readers use instead of `virtual_size`. The keys are the
            readers' names from the module `readers`; a size of zero means unknown.
        also_valid_as: The other formats in which the object is valid. All facts except `findings` are about
            `format` only.
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
    also_valid_as: tuple[str, ...] = ()

    def virtual_size_by(self, reader: str) -> int | None:
        """Return the virtual size in bytes that a reader uses; `None` if the size is unknown."""
        return (self.other_sizes[reader] or None) if reader in self.other_sizes else self.virtual_size


@dataclass(frozen=True, slots=True)
class Member:
    """An inspected member of a container.

    Attributes:
        offset: The place of the member's first byte in the container; `None` if the member is not stored
            there unchanged.
        size: The member's length in bytes; `None` if its end was not reached.
    """

    name: str
    offset: int | None
    size: int | None
    facts: Facts
