"""Gives access to the bytes of a volume: of a whole disk, a partition, or the content of an image."""

from collections.abc import Sequence
from typing import Protocol

from keyhole.inspectors.region import CaptureRegion


class View(Protocol):
    """Gives access to the bytes of a volume that were read so far."""

    @property
    def size(self) -> int | None:
        """The volume's length in bytes; `None` while it is unknown."""
        ...

    @property
    def front(self) -> bytes:
        """The first bytes of the volume, without a copy. Other bytes may also have been read."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset` in the volume; fewer or none if some are not read yet.

        The offset is never negative, but it can be after the volume's end.
        """
        ...


class RegionsView:
    """A volume on a disk, whose bytes are in the regions that an inspector has captured.

    Args:
        regions: The captured regions of the disk.
        base: The offset in bytes at which the volume begins on the disk.
        size: The length of the volume in bytes; `None` while it is unknown.
        limit: `read` returns only bytes before this offset in the volume; `None` if there is no limit.
    """

    def __init__(
        self, regions: Sequence[CaptureRegion], base: int, size: int | None, limit: int | None = None
    ) -> None:
        self._regions = regions
        self._base = base
        self._size = size
        self._limit = limit

    @property
    def size(self) -> int | None:
        """The volume's length in bytes; `None` while it is unknown."""
        return self._size

    @property
    def front(self) -> bytes:
        """The bytes of the first captured region if it begins where the volume begins; otherwise empty."""
        first = self._regions[0]
        if first.offset != self._base:
            return b""
        return first.data if self._limit is None else first.data[: self._limit]

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset` on, from the first region that contains this offset."""
        if self._limit is not None:
            length = max(0, min(length, self._limit - offset))
        start = self._base + offset
        for region in self._regions:
            if region.offset <= start < region.offset + region.length:
                return region.data[start - region.offset : start - region.offset + length]
        return b""
