"""Builds COWD extents, VMware ESX's copy-on-write format for the extents of vmfsSparse disks.

Header, 2,048 bytes (little-endian; VMware "Virtual Disk Format 5.0", "ESX Server Sparse Extents")::

     0  "COWD"                      4  version u32 = 1                8  flags u32: 1 root, 2 can be checked
    12  capacity u32, sectors      16  grain u32, sectors            20  grain directory u32, sector
    24  grain directory's entries u32                               28  next free sector u32
    32  in a root: cylinders, heads, sectors u32; in a child: the parent's name, 1,024 bytes
    1648  nonzero if not closed cleanly u32

The grain directory follows the header. Then come the grain tables and the grains. A grain table has 4,096
entries and precedes the first grain that it maps. An entry of the directory or of a table is a sector number
u32.
"""

import struct

from keyhole.builders.guest import SECTOR, Allocated, block_numbers, pattern
from keyhole.builders.image import Image, ceil_div

DIRECTORY_SECTOR = 4
TABLE_ENTRIES = 4096
TABLE_SECTORS = TABLE_ENTRIES * 4 // SECTOR
ROOT, CHECK_CAPABLE = 1, 2
HEADS, TRACK_SECTORS = 16, 63


def cowd(
    virtual_size: int, *, grain_sectors: int = 1, allocated: Allocated = 0, parent: str | None = None
) -> Image:
    """Return a COWD extent of `virtual_size` bytes that stores the `allocated` grains.

    The first sector of each stored grain contains a test pattern. Without `parent`, the extent is a root.
    With `parent`, the extent is a child that names this parent.
    """
    capacity = ceil_div(virtual_size, SECTOR)
    numbers = block_numbers(allocated, ceil_div(capacity, grain_sectors))
    entries = ceil_div(capacity, grain_sectors * TABLE_ENTRIES)
    free = DIRECTORY_SECTOR + ceil_div(4 * entries, SECTOR)
    pieces: list[tuple[int, bytes]] = []
    tables: dict[int, int] = {}
    for number in numbers:
        index, entry = divmod(number, TABLE_ENTRIES)
        if index not in tables:
            tables[index] = free
            pieces.append((DIRECTORY_SECTOR * SECTOR + 4 * index, struct.pack("<I", free)))
            free += TABLE_SECTORS
        pieces.append((tables[index] * SECTOR + 4 * entry, struct.pack("<I", free)))
        pieces.append((free * SECTOR, pattern(number)))
        free += grain_sectors
    header = struct.pack(
        "<4s7I",
        b"COWD",
        1,
        CHECK_CAPABLE | (ROOT if parent is None else 0),
        capacity,
        grain_sectors,
        DIRECTORY_SECTOR,
        entries,
        free,
    )
    geometry = struct.pack("<3I", capacity // (HEADS * TRACK_SECTORS), HEADS, TRACK_SECTORS)
    origin = geometry if parent is None else parent.encode()
    return Image.of(free * SECTOR, [(0, header + origin), *pieces])
