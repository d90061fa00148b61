"""A partition table of any kind, and its partitions."""

from itertools import pairwise
from typing import NamedTuple

from keyhole.inspectors.findings import Finding, Severity, found


class Partition(NamedTuple):
    """A part of the disk, in bytes from its beginning."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset of the first byte after the partition."""
        return self.offset + self.length


class Table(NamedTuple):
    """A partition table.

    Attributes:
        name: libblkid's name for this kind of table.
        sector: The size of its sectors in bytes.
        partitions: The partitions in use.
        findings: Errors and oddities in the table itself, whatever the disk's length.
        doubtful: Whether only some readers take it for a table, and the evidence is weak.
        likely: Whether a doubtful table looks like one. If not, it counts only if a partition begins within
            the disk.
        end: Where the disk ends, in bytes, if the table says so.
    """

    name: str
    sector: int
    partitions: tuple[Partition, ...]
    findings: tuple[Finding, ...] = ()
    doubtful: bool = False
    likely: bool = False
    end: int = 0

    def stands(self, size: int | None) -> bool:
        """Whether it counts as the table of a disk of `size` bytes; `None`: not known yet."""
        if not self.doubtful:
            return True
        return any(self.likely or size is None or one.offset < size for one in self.partitions)

    def beyond(self, size: int) -> list[Finding]:
        """A finding for every partition that ends beyond a disk of `size` bytes, and for the table itself."""
        findings = [
            found("truncated", f"partition {number} ends at byte {partition.end}, the object at {size}")
            for number, partition in enumerate(self.partitions, 1)
            if partition.end > size
        ]
        if self.end > size and not findings:
            findings.append(
                found("truncated", f"the table describes a disk of {self.end} bytes, the object has {size}")
            )
        return findings

    def overlapping(self) -> list[Finding]:
        """A finding if partitions overlap. Linux and libblkid accept overlapping partitions."""
        if any(second.offset < first.end for first, second in pairwise(sorted(self.partitions))):
            return [odd("partitions overlap")]
        return []


def odd(message: str) -> Finding:
    """A finding about something unusual in a table that every reader accepts."""
    return found("structure", message, Severity.INFO)
