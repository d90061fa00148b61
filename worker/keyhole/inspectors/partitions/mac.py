"""Parses the Apple partition map, `mac`. All fields are big-endian.

Source: Inside Macintosh: Devices, "SCSI Manager", partition maps; Linux, `block/partitions/mac.h`. The choice
of the blocks to read follows libblkid's partitions/mac.c.

| at | bytes | field |
|---|---|---|
| 0 | 18 | driver descriptor: `ER`, block size u16@2 |
| each block from 1 on | 512 | `PM`, entries u32@4, first block u32@8, blocks u32@12, type char[32]@48 |

Each entry occupies one block of the disk. The first entry is in block 1. The map also lists itself and the
free space. An optical disc can have one map in blocks of 2,048 bytes and a second map in blocks of 512 bytes.
libblkid accepts every block size that is large enough for an entry. Linux accepts only blocks of at least 512
bytes. libblkid and Linux convert block numbers into sectors of 512 bytes, and round the block size down to
whole sectors.

In maps of the first Macs, entries begin with `TS` and have another layout. Keyhole does not read the
partitions in these maps.
"""

from struct import unpack_from

from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import found
from keyhole.inspectors.partitions.table import Partition, Table

SIGNATURE, ENTRY_SIGNATURE, OLD_SIGNATURE = b"ER", b"PM", b"TS"
#: `ENTRY_BYTES` is the length of an entry according to libblkid. The first `LOOKED_AT` bytes of an entry
#: contain all fields that Keyhole reads.
ENTRY_BYTES, LOOKED_AT = 136, 80
#: The first characters of the partition types that are not volumes: the map itself, free space, drivers and
#: their patches.
NO_VOLUMES = (b"Apple_partition_map", b"Apple_Free", b"Apple_Driver", b"Apple_Patches", b"Apple_Void")

#: The offset at which the second entry ends if blocks have the largest possible size.
REACH = 2 * 65536 + ENTRY_BYTES


def reaches(front: bytes) -> bool:
    """Return whether the object can have a map whose second entry ends after the end of `front`."""
    return front.startswith(SIGNATURE) and int.from_bytes(front[2:4], "big") > len(front) // 2 - ENTRY_BYTES


def parse(front: bytes) -> Table | None:
    """Return the partition table of an object that begins with `front`, or `None` if it has no such map."""
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
    """Return how many of the map's entries `front` contains; zero for a map of the first Macs."""
    if front[block : block + 2] == OLD_SIGNATURE:
        return 0
    return min(int.from_bytes(front[block + 4 : block + 8], "big"), len(front) // block)
