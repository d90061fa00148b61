"""The partition table that all parsers of this package return, and its partitions."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from keyhole.inspectors.findings import Finding, Severity, found


class Partition(NamedTuple):
    """A partition: its offset from the beginning of the disk, and its length, both in bytes."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset of the first byte after the partition."""
        return self.offset + self.length


class Table(NamedTuple):
    """A partition table.

    Attributes:
        name: libblkid's name for this type of table.
        sector: The sector size in bytes.
        partitions: The partitions in use.
        findings: Errors and unusual values in the table that do not depend on the disk's length.
        doubtful: Whether the bytes could also be something other than a table, such as code or compressed
            data. Some readers do not accept such a table.
        likely: Whether a doubtful table has a property that makes a real table likely: in an MBR, one of the
            four entries is all zeros. Without this property, Keyhole accepts a doubtful table only if one of
            its partitions begins within the disk.
        end: The length of the disk in bytes that the table states; zero if the table states no length.
    """

    name: str
    sector: int
    partitions: tuple[Partition, ...]
    findings: tuple[Finding, ...] = ()
    doubtful: bool = False
    likely: bool = False
    end: int = 0

    def stands(self, size: int | None) -> bool:
        """Return whether Keyhole accepts this table for a disk of `size` bytes (`None`: not known yet).

        A doubtful table without partitions is never accepted.
        """
        if not self.doubtful:
            return True
        return any(self.likely or size is None or one.offset < size for one in self.partitions)

    def beyond(self, size: int) -> list[Finding]:
        """Return a finding for every partition that ends after `size`, the object's length in bytes.

        If there is no such partition, but the table states a disk that is longer than the object, return one
        finding about the disk's length.
        """
        findings = [
            found("truncated", f"partition {number} ends at byte {partition.end}, the object ends at {size}")
            for number, partition in enumerate(self.partitions, 1)
            if partition.end > size
        ]
        if self.end > size and not findings:
            findings.append(
                found("truncated", f"the table describes a disk of {self.end} bytes, the object has {size}")
            )
        return findings


def overlapping(partitions: Sequence[Partition]) -> list[Finding]:
    """Return a finding if partitions overlap. Linux and libblkid accept overlapping partitions."""
    if any(second.offset < first.end for first, second in pairwise(sorted(partitions))):
        return [odd("partitions overlap")]
    return []


def odd(message: str) -> Finding:
    """Return a finding about an unusual value in a table that readers nevertheless accept."""
    return found("structure", message, Severity.INFO)
