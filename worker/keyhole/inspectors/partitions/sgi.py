"""Parses the volume header of IRIX, `sgi`. All fields are big-endian.

Source: Linux, `block/partitions/sgi.c`.

| at | bytes | field |
|---|---|---|
| 0 | 4 | 0B E5 A9 41 |
| 312 | 16 x 12 | partitions: blocks u32, first block u32, type u32 (0: the header, 6: the whole disk) |
| 504 | 4 | checksum: the sum of all 32-bit words is zero |

A block has 512 bytes. sfdisk and parted accept a header with a wrong checksum, but Linux and libblkid reject
it.
"""

from struct import unpack

from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import found
from keyhole.inspectors.partitions.table import Partition, Table

MAGIC = b"\x0b\xe5\xa9\x41"
VOLUME_HEADER, WHOLE_DISK = 0, 6
WRONG = found("checksum_mismatch", "the volume header does not match its checksum")


def parse(front: bytes) -> Table | None:
    """Return the partition table of an object that begins with `front`, or `None` if there is no table."""
    if not front.startswith(MAGIC) or len(front) < SECTOR:
        return None
    header = front[:SECTOR]
    entries = [unpack(">III", header[at : at + 12]) for at in range(312, 504, 12)]
    # The partition that spans the whole disk is moved to the end, so that the list begins with a real volume.
    used = [
        (blocks, first)
        for blocks, first, kind in entries
        if blocks and kind not in {VOLUME_HEADER, WHOLE_DISK}
    ]
    used += [(blocks, first) for blocks, first, kind in entries if blocks and kind == WHOLE_DISK]
    partitions = tuple(Partition(first * SECTOR, blocks * SECTOR) for blocks, first in used)
    return Table("sgi", SECTOR, partitions, () if _intact(header) else (WRONG,))


def _intact(header: bytes) -> bool:
    total: int = sum(unpack(">128I", header))
    return not total & 0xFFFFFFFF
