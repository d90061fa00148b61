"""Looking inside: the means by which a container has its members inspected.

A container declares its members and says where their bytes lie. It does not know what inspects them: it asks
`Inside.look`, which opens an inspection one level deeper under the same limits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.compression.limits import Decompression
from keyhole.inspectors.facts import Facts
from keyhole.inspectors.region import ByteRange

#: Enough for a disk in an archive in a compressed archive in a container image's layer. Deeper nesting is
#: not an accident.
MAX_DEPTH = 4


class Look(Protocol):
    """The inspection of a member, or an unpacker in front of one."""

    @property
    def complete(self) -> bool:
        """Whether everything wanted has arrived, or can no longer matter."""

    @property
    def holds_much(self) -> bool:
        """Whether something is being decompressed."""

    @property
    def context_info(self) -> dict[str, int]:
        """How many bytes each region holds in memory."""

    @property
    def matches(self) -> Sequence[FileInspector]:
        """The inspectors that recognise the member."""

    def feed(self, offset: int, data: bytes) -> None:
        """Present bytes from anywhere."""

    def finish(self, size: int | None = None) -> None:
        """Make the member's length known."""

    def missing(self) -> list[ByteRange]:
        """The ranges that are still wanted."""

    def facts(self) -> Facts:
        """The facts as they are known now."""

    def close(self) -> None:
        """Release the memory. The inspection is not used after this."""


@dataclass(frozen=True, slots=True)
class Inside:
    """How deep an object lies in containers, and how its members may be inspected.

    Args:
        depth: How many containers the object lies in.
        decompression: How much may be decompressed to look inside.
        thorough: Whether all maps of an image are read, instead of a sample.
    """

    #: Opens an inspection. The module `inspection` sets it on import, because no other knows all formats.
    opener: ClassVar[Callable[["Inside"], Look]]
    #: Names the format of a disk image by its first bytes; `None` if they have no magic number. Set likewise.
    format_by_prefix: ClassVar[Callable[[bytes], str | None]]

    depth: int = 0
    decompression: Decompression = field(default_factory=Decompression)
    thorough: bool = False

    @property
    def too_deep(self) -> bool:
        """Whether members are too deep in containers to be inspected."""
        return self.depth >= MAX_DEPTH

    def look(self, *, within_another: bool = False) -> Look:
        """Open an inspection of one member; see `Decompression` for `within_another`."""
        decompression = replace(self.decompression, within_another=within_another)
        return Inside.opener(replace(self, depth=self.depth + 1, decompression=decompression))
