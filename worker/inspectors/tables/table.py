"""What every partition table comes to."""

from typing import NamedTuple

from worker.inspectors.findings import Finding, found


class Partition(NamedTuple):
    """A part of the disk, in bytes from its beginning."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The byte behind it."""
        return self.offset + self.length


class Table(NamedTuple):
    """A partition table: libblkid's name for it, the size of its sectors in bytes, the partitions in use."""

    name: str
    sector: int
    partitions: tuple[Partition, ...]

    def beyond(self, size: int) -> list[Finding]:
        """A finding for every partition that ends beyond a disk of `size` bytes."""
        return [
            found("truncated", f"partition {number} ends at byte {partition.end}, the object at {size}")
            for number, partition in enumerate(self.partitions, 1)
            if partition.end > size
        ]
