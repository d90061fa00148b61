"""The interface through which the inspector of a container opens inspections of the container's members.

The container's inspector knows where the members' bytes lie. It calls `Inside.look` to open an inspection of
a member, one level deeper and with the same limits. So the container's inspector does not depend on the
inspectors of other formats.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.compression.limits import Decompression
from keyhole.inspectors.facts import Facts
from keyhole.inspectors.region import ByteRange

#: The most containers that a member can be nested in. Four are enough for a disk in an archive in a
#: compressed archive in a layer of a container image. Deeper nesting is almost certainly deliberate.
MAX_DEPTH = 4


class Look(Protocol):
    """The inspection of a member, or an unpacker that passes the unpacked bytes to the inspection."""

    @property
    def complete(self) -> bool:
        """Whether the inspection needs no more bytes."""

    @property
    def holds_much(self) -> bool:
        """Whether the inspection is decompressing data."""

    @property
    def context_info(self) -> dict[str, int]:
        """How many bytes of each region are in memory."""

    @property
    def matches(self) -> Sequence[FileInspector]:
        """The inspectors that recognise the member."""

    def feed(self, offset: int, data: bytes) -> None:
        """Pass bytes that begin at `offset` in the member. The offsets can come in any order."""

    def finish(self, size: int | None = None) -> None:
        """Set the member's length in bytes."""

    def missing(self) -> list[ByteRange]:
        """Return the ranges that the inspection still needs."""

    def facts(self) -> Facts:
        """Return the facts that are known so far."""

    def close(self) -> None:
        """Release the memory. The inspection must not be used afterwards."""


@dataclass(frozen=True, slots=True)
class Inside:
    """How deep an object is nested in containers, and the limits for inspecting its members.

    Args:
        depth: The number of containers that the object is nested in.
        decompression: The limits for decompressing the object's content.
        thorough: Whether to read all maps of an image, instead of a sample.
    """

    #: Opens an inspection. The module `inspection` sets this function when it is imported, because only that
    #: module imports all formats.
    opener: ClassVar[Callable[["Inside"], Look]]
    #: Returns the format of a disk image with these first bytes; `None` if they have no known magic number.
    #: The module `inspection` sets this function, too.
    format_by_prefix: ClassVar[Callable[[bytes], str | None]]

    depth: int = 0
    decompression: Decompression = field(default_factory=Decompression)
    thorough: bool = False

    @property
    def too_deep(self) -> bool:
        """Whether members of the object are nested too deep to be inspected."""
        return self.depth >= MAX_DEPTH

    def look(self, *, within_another: bool = False) -> Look:
        """Open an inspection of one member of the object; see `Decompression` for `within_another`."""
        decompression = replace(self.decompression, within_another=within_another)
        return Inside.opener(replace(self, depth=self.depth + 1, decompression=decompression))
