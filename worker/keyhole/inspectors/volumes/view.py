"""The known bytes of a volume, which is a whole disk, a partition, or the content of an image."""

from collections.abc import Sequence
from typing import Protocol

from keyhole.inspectors.region import CaptureRegion


class View(Protocol):
    """The bytes of a volume, as far as they are known."""

    @property
    def size(self) -> int | None:
        """The volume's length in bytes; None while it is unknown."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset` within the volume on; fewer, or none, if not all are known.

        Offsets are never negative, but may lie beyond the volume's end.
        """
        ...


class RegionsView:
    """A volume that lies on a disk, as far as an inspector's regions hold its bytes.

    Args:
        regions: The regions of the disk.
        base: Where on the disk the volume begins.
        size: Its length in bytes; `None` while it is unknown.
        limit: `read` returns no bytes from this offset in the volume on; `None`: there is no limit.
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
        """The volume's length."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes that are held from `offset` on."""
        if self._limit is not None:
            length = max(0, min(length, self._limit - offset))
        start = self._base + offset
        for region in self._regions:
            if region.offset <= start < region.offset + region.length:
                return region.data[start - region.offset : start - region.offset + length]
        return b""
