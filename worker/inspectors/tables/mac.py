"""The Apple partition map, `mac`. Big-endian.

Source: Inside Macintosh: Devices, "SCSI Manager", partition maps; `include/linux` has the same in
`block/partitions/mac.h`.

| at | bytes | field |
|---|---|---|
| 0 | 18 | driver descriptor: `ER`, block size u16@2 |
| each block from 1 on | 512 | `PM`, entries u32@4, first block u32@8, blocks u32@12, type char[32]@48 |

The map's entries are blocks of the disk, counted from 1; it lists itself and what is free, too. A disc may
have blocks of 2,048 bytes here and a second map in blocks of 512.
"""

from struct import unpack_from

from worker.inspectors.tables.table import Partition, Table

SIGNATURE, ENTRY_SIGNATURE = b"ER", b"PM"
#: What libblkid takes for a block, too.
SECTORS = (512, 1024, 2048, 4096)
#: Entries in the map: those within the first 8 KiB.
FRONT_BYTES = 8192
#: Not volumes: the map itself, free space, drivers and their patches.
NO_VOLUMES = (b"Apple_partition_map", b"Apple_Free", b"Apple_Driver", b"Apple_Patches", b"Apple_Void")


def parse(front: bytes) -> Table | None:
    """The table of an object that begins so; `None` if this is no such map."""
    if not front.startswith(SIGNATURE) or len(front) < 4:
        return None
    sector = int.from_bytes(front[2:4], "big")
    if sector not in SECTORS or front[sector : sector + 2] != ENTRY_SIGNATURE:
        return None
    count = int.from_bytes(front[sector + 4 : sector + 8], "big")
    if not count:
        return None
    partitions = []
    for number in range(1, min(count, FRONT_BYTES // sector - 1) + 1):
        entry = front[number * sector : number * sector + 80]
        if len(entry) < 80 or not entry.startswith(ENTRY_SIGNATURE):
            break
        first, blocks = unpack_from(">II", entry, 8)
        if blocks and not entry[48:].startswith(NO_VOLUMES):
            partitions.append(Partition(first * sector, blocks * sector))
    return Table("mac", sector, tuple(partitions))
