"""The MBR, `dos`: four partitions behind boot code. Little-endian.

Source: UEFI Specification 2.10, section 5.2.

| at | bytes | field |
|---|---|---|
| 446 | 4 x 16 | partitions: status u8 (00 or 80), type u8@4 (0: unused), first sector u32@8, sectors u32@12 |
| 510 | 2 | 55 AA |

A sector has 512 bytes. Boot sectors of FAT, NTFS, exFAT and HPFS volumes carry 55 AA, too, and code where the
partitions would stand; they are no partition tables. What an extended partition (types 05, 0F, 85) is divided
into is not followed; it counts as one.
"""

from struct import unpack_from

from worker.inspectors.tables.table import Partition, Table

MBR_BYTES = SECTOR = 512
#: The type of the one partition that stands in front of a GPT.
PROTECTIVE = 0xEE

#: What volumes' boot sectors state about themselves, by where they state it.
VOLUME_NAMES = {3: (b"NTFS", b"EXFAT", b"IBM", b"OS2"), 54: (b"FAT", b"HPFS"), 82: (b"FAT",)}


def parse(front: bytes) -> Table | None:
    """The table of an object that begins so; `None` if this is no MBR, or one without partitions."""
    entries = _entries(front)
    if not entries:
        return None
    partitions = tuple(Partition(first * SECTOR, sectors * SECTOR) for _, first, sectors in entries)
    return Table("dos", SECTOR, partitions)


def is_protective(front: bytes) -> bool:
    """Whether the MBR says that there is a GPT."""
    return any(kind == PROTECTIVE for kind, _, _ in _entries(front))


def _entries(front: bytes) -> list[tuple[int, int, int]]:
    """Type, first sector and sectors of the partitions in use; none if the sector is something else."""
    if len(front) < MBR_BYTES or front[510:512] != b"\x55\xaa" or _is_boot_sector(front):
        return []
    entries = [(front[at], front[at + 4], *unpack_from("<II", front, at + 8)) for at in range(446, 510, 16)]
    used = [(kind, first, sectors) for _, kind, first, sectors in entries if kind]
    sound = all(status in {0x00, 0x80} for status, *_ in entries) and all(
        first and sectors for _, first, sectors in used
    )
    return used if sound else []


def _is_boot_sector(front: bytes) -> bool:
    """Whether a sector that ends in 55 AA says that it is a volume's boot sector."""
    jump = front[0] in {0xEB, 0xE9}
    return jump and any(
        front[at : at + len(name)] == name for at, names in VOLUME_NAMES.items() for name in names
    )
