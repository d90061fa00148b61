"""The bytes of a volume that are known: of a whole disk, of a partition, or of what lies in an image."""

from typing import Protocol


class View(Protocol):
    """The bytes of a volume, as far as they are known."""

    @property
    def size(self) -> int | None:
        """The volume's length in bytes; None while it is unknown."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset` within the volume on: fewer, or none, where not all are known.

        Offsets are never negative, but may lie beyond the volume's end.
        """
        ...
