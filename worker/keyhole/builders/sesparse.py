"""Builds SESparse extents, VMware ESXi's space-efficient format for the extents of seSparse disks.

Constant header, at sector 0 (little-endian, places and sizes in sectors; the format is not published: QEMU
block/vmdk.c, VMDKSESparseConstHeader)::

     0  0xCAFEBABE u64              8  version u64                   16  capacity u64
    24  grain size u64 = 8         32  grain table size u64 = 64     40  flags u64
    80  place and size u64 of: volatile header, journal header, journal, grain directory, grain tables,
        bitmap of free grains, back map, grains

The volatile header has 0xCAFECAFE u64, the number of the next free table u64, the number of the next
transaction u64, and whether a reader must replay the journal u64.

A table's number is its index in the area of grain tables, and a grain's number is its index in the area of
grains. Both numbers are assigned in the order of the first write. A directory entry u64 is 1 << 60 plus the
table's number. A table entry u64 is 3 << 60, plus the lowest 12 bits of the grain's number << 48, plus the
grain's number >> 12.
"""

import struct

from keyhole.builders.guest import SECTOR, Allocated, block_numbers, pattern
from keyhole.builders.image import Image, ceil_div

GRAIN_SECTORS = 8
GRAIN_SIZE = GRAIN_SECTORS * SECTOR
TABLE_SECTORS = 64
TABLE_ENTRIES = TABLE_SECTORS * SECTOR // 8
VERSION = 0x0000000200000001
#: The number of sectors that ESXi reserves for the journal.
JOURNAL_SECTORS = 2048


def sesparse(virtual_size: int, *, allocated: Allocated = 0, replay_journal: bool = False) -> Image:
    """Return an SESparse extent of `virtual_size` bytes that stores the `allocated` grains of 4 KiB.

    The first sector of each stored grain contains a test pattern. If `replay_journal` is true, the extent
    states that a reader must replay the journal.
    """
    capacity = ceil_div(virtual_size, SECTOR)
    grains = ceil_div(capacity, GRAIN_SECTORS)
    numbers = block_numbers(allocated, grains)
    table_count = ceil_div(grains, TABLE_ENTRIES)
    sizes = (
        1,
        2,
        JOURNAL_SECTORS,
        ceil_div(8 * table_count, SECTOR),
        table_count * TABLE_SECTORS,
        ceil_div(grains, 8 * SECTOR),
        ceil_div(8 * grains, SECTOR),
        grains * GRAIN_SECTORS,
    )
    areas: list[int] = []
    place = 1
    for size in sizes:
        areas += (place, size)
        place += size
    directory, first_table, first_grain = areas[6], areas[8], areas[14]
    tables: dict[int, int] = {}
    pieces: list[tuple[int, bytes]] = []
    for grain, number in enumerate(numbers):
        index, entry = divmod(number, TABLE_ENTRIES)
        if index not in tables:
            tables[index] = len(tables)
            pieces.append((directory * SECTOR + 8 * index, struct.pack("<Q", 1 << 60 | tables[index])))
        at = (first_table + tables[index] * TABLE_SECTORS) * SECTOR + 8 * entry
        pieces.append((at, struct.pack("<Q", 3 << 60 | (grain & 0xFFF) << 48 | grain >> 12)))
        pieces.append((first_grain * SECTOR + grain * GRAIN_SIZE, pattern(number)))
    constant = struct.pack(
        "<6Q32x16Q", 0xCAFEBABE, VERSION, capacity, GRAIN_SECTORS, TABLE_SECTORS, 0, *areas
    )
    volatile = struct.pack("<4Q", 0xCAFECAFE, len(tables), 1, replay_journal)
    end = first_grain * SECTOR + len(numbers) * GRAIN_SIZE
    return Image.of(end, [(0, constant), (areas[0] * SECTOR, volatile), *pieces])
