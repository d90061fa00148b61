"""Finds the partition table and the GPT header in the first bytes of a disk."""

from typing import Final, NamedTuple

from keyhole.inspectors.partitions import bsd, dos, gpt, mac, sgi, sun
from keyhole.inspectors.partitions.gpt import GPTHeader
from keyhole.inspectors.partitions.table import Table

#: The parsers of partition tables, in libblkid's order.
TABLES: Final = (sgi.parse, sun.parse, dos.parse, mac.parse, bsd.parse)


class DiskFront(NamedTuple):
    """The partition table and the GPT header at the front of a disk.

    Attributes:
        table: A table that is not a GPT, such as the MBR before a GPT.
        header: The header of a GPT, or `None`. If there is a table and the MBR does not announce a GPT,
            Keyhole does not search for a header.
        announced: Whether the MBR announces a GPT.
    """

    table: Table | None = None
    header: GPTHeader | None = None
    announced: bool = False

    @classmethod
    def parse(cls, front: bytes) -> "DiskFront":
        """Return the table and the header in `front`, which contains the first bytes of the disk."""
        table = next((table for parse in TABLES if (table := parse(front)) is not None), None)
        announced = dos.is_protective(front)
        header = gpt.parse(front, protected=announced) if announced or table is None else None
        return cls(table, header, announced)
