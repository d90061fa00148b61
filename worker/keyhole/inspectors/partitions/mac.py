"""The Apple partition map, `mac`. Big-endian.

Source: Inside Macintosh: Devices, "SCSI Manager", partition maps; Linux has the same in
`block/partitions/mac.h`. For which blocks are read: libblkid's partitions/mac.c.

| at | bytes | field |
|---|---|---|
| 0 | 18 | driver descriptor: `ER`, block size u16@2 |
| each block from 1 on | 512 | `PM`, entries u32@4, first block u32@8, blocks u32@12, type char[32]@48 |

Each entry is one block of the disk, from block 1 on. The map lists itself and free space, too. A disc may
have this map in blocks of 2,048 bytes and a second map in blocks of 512. libblkid accepts blocks of any size
into which an entry fits, Linux only blocks from 512 bytes on; both count partitions in whole sectors of 512
bytes. `TS` marks the entries of the first Macs, whose partitions are not read.
"""

from struct import unpack_from

from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import found
from keyhole.inspectors.partitions.table import Partition, Table

SIGNATURE, ENTRY_SIGNATURE, OLD_SIGNATURE = b"ER", b"PM", b"TS"
#: The bytes of an entry for libblkid, and how many of them are read here.
ENTRY_BYTES, LOOKED_AT = 136, 80
#: The types of entries that are not volumes: the map itself, free space, drivers and their patches.
NO_VOLUMES = (b"Apple_partition_map", b"Apple_Free", b"Apple_Driver", b"Apple_Patches", b"Apple_Void")

#: Where the first two entries end if blocks have the largest size.
REACH = 2 * 65536 + ENTRY_BYTES


def reaches(front: bytes) -> bool:
    """Whether there may be a map whose second entry lies after `front`."""
    return front.startswith(SIGNATURE) and int.from_bytes(front[2:4], "big") > len(front) // 2 - ENTRY_BYTES


def parse(front: bytes) -> Table | None:
    """The partition table of an object that begins with `front`; `None` if it has no such map."""
    if not front.startswith(SIGNATURE) or len(front) < 4:
        return None
    block = int.from_bytes(front[2:4], "big")
    if block < ENTRY_BYTES or front[block : block + 2] not in {ENTRY_SIGNATURE, OLD_SIGNATURE}:
        return None
    findings = []
    if block % SECTOR:
        findings.append(found("structure", f"the partition map states blocks of {block} bytes"))
    if front[block : block + 2] == OLD_SIGNATURE:
        findings.append(found("unsupported_subformat", "the partition map has the layout of the first Macs"))
    partitions = []
    for number in range(1, _entries(front, block) + 1):
        entry = front[number * block : number * block + LOOKED_AT]
        if len(entry) < LOOKED_AT:
            break
        if not entry.startswith(ENTRY_SIGNATURE):
            findings.append(found("structure", f"entry {number} of the partition map is missing"))
            break
        first, blocks = unpack_from(">II", entry, 8)
        if blocks and not entry[48:].startswith(NO_VOLUMES):
            whole = block // SECTOR * SECTOR
            partitions.append(Partition(first * whole, blocks * whole))
    return Table("mac", block, tuple(partitions), tuple(findings))


def _entries(front: bytes, block: int) -> int:
    """How many entries there are in `front`; zero if they have the layout of the first Macs."""
    if front[block : block + 2] == OLD_SIGNATURE:
        return 0
    return min(int.from_bytes(front[block + 4 : block + 8], "big"), len(front) // block)
