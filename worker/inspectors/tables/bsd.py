"""The BSD disklabel, `bsd`. Little-endian, as on the machines that have images.

Source: FreeBSD, `sys/sys/disk/bsd.h`; the places are those that libblkid looks at.

| at | bytes | field |
|---|---|---|
| 512, or 64 | 404 | label: magic u32 0x82564557, sector size u32@40, magic again u32@132, checksum u16@136 (the exclusive or of all 16-bit words up to the last partition is zero), partitions u16@138 |
| label + 148 | n x 16 | partitions: sectors u32, first sector u32@4, type u8@12 (0: unused) |

By convention the third partition is the whole disk. First sectors count from the beginning of the disk.
"""  # noqa: E501 - the rows of the table are one line each

from struct import unpack, unpack_from

from worker.inspectors.tables.table import Partition, Table

MAGIC = (0x82564557).to_bytes(4, "little")
PLACES = (512, 64)
LABEL_BYTES, ENTRY_BYTES = 148, 16
#: As many as any BSD makes.
MOST_PARTITIONS = 22
SECTORS = (512, 1024, 2048, 4096)


def parse(front: bytes) -> Table | None:
    """The table of an object that begins so; `None` if this is no disklabel."""
    for at in PLACES:
        table = _label(front[at : at + LABEL_BYTES + MOST_PARTITIONS * ENTRY_BYTES])
        if table is not None:
            return table
    return None


def _label(label: bytes) -> Table | None:
    if not label.startswith(MAGIC) or label[132:136] != MAGIC:
        return None
    sector, count = int.from_bytes(label[40:44], "little"), int.from_bytes(label[138:140], "little")
    length = LABEL_BYTES + count * ENTRY_BYTES
    if sector not in SECTORS or not 0 < count <= MOST_PARTITIONS or len(label) < length:
        return None
    checksum = 0
    for (word,) in (unpack_from("<H", label, at) for at in range(0, length, 2)):
        checksum ^= word
    if checksum:
        return None
    entries = [
        unpack("<IIIBBH", label[at : at + ENTRY_BYTES]) for at in range(LABEL_BYTES, length, ENTRY_BYTES)
    ]
    used = tuple(
        Partition(first * sector, sectors * sector)
        for sectors, first, _, kind, _, _ in entries
        if kind and sectors
    )
    return Table("bsd", sector, used)
