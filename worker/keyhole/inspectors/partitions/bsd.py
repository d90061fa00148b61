"""Parses the BSD disklabel, `bsd`.

Keyhole reads only little-endian labels, because the machines whose disks are stored as images are
little-endian. Source: FreeBSD, `sys/sys/disk/bsd.h`. Keyhole searches for the label at the same offsets as
libblkid.

| at | bytes | field |
|---|---|---|
| 512, 64 or 128 | 404 | label: magic u32 0x82564557, sector size u32@40, sectors u32@60, magic again u32@132, checksum u16@136 (the exclusive or of all 16-bit words up to the last partition is zero), partitions u16@138 |
| label + 148 | n x 16 | partitions: sectors u32, first sector u32@4, type u8@12 (0: unused) |

By convention, the third partition spans the whole disk. It has the type 0, so Keyhole does not list it. A
partition's first sector counts from the beginning of the disk.

libblkid checks only the first magic number. sfdisk checks both magic numbers. Neither tool checks the
checksum. So Keyhole accepts a label with the first magic number, and reports a wrong second magic number,
sector size, number of partitions or checksum as a finding.
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Iterator
from struct import iter_unpack, unpack, unpack_from

from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.partitions.table import Partition, Table

MAGIC = (0x82564557).to_bytes(4, "little")
PLACES = (512, 64, 128)
LABEL_BYTES, ENTRY_BYTES = 148, 16
#: The largest number of partitions in the labels that BSD systems write.
MOST_PARTITIONS = 22
SECTORS = (512, 1024, 2048, 4096)


def parse(front: bytes) -> Table | None:
    """Return the partition table of an object that begins with `front`, or `None` if it has no disklabel."""
    for at in PLACES:
        if front.startswith(MAGIC, at) and len(front) >= at + LABEL_BYTES:
            return _table(front[at : at + LABEL_BYTES + MOST_PARTITIONS * ENTRY_BYTES])
    return None


def _table(label: bytes) -> Table:
    sector = _sector(label)
    used = tuple(
        Partition(first * sector, sectors * sector)
        for sectors, first, _, kind, _, _ in _entries(label)
        if kind and sectors
    )
    return Table("bsd", sector, used, tuple(_wrong(label)), end=_end(label))


def _sector(label: bytes) -> int:
    sector: int = unpack_from("<I", label, 40)[0]
    return sector if sector in SECTORS else SECTORS[0]


def _count(label: bytes) -> int:
    count: int = unpack_from("<H", label, 138)[0]
    return min(count, MOST_PARTITIONS)


def _entries(label: bytes) -> Iterator[tuple[int, int, int, int, int, int]]:
    places = range(LABEL_BYTES, LABEL_BYTES + _count(label) * ENTRY_BYTES, ENTRY_BYTES)
    return (
        unpack("<IIIBBH", label[at : at + ENTRY_BYTES]) for at in places if at + ENTRY_BYTES <= len(label)
    )


def _end(label: bytes) -> int:
    """Return the length of the disk in bytes.

    The result is the length that the label states, or the highest end of a partition if this end is higher.
    """
    counted: int = unpack_from("<I", label, 60)[0]
    whole = [first + sectors for sectors, first, *_ in _entries(label) if sectors]
    return max(counted, *whole, 0) * _sector(label)


def _wrong(label: bytes) -> Iterator[Finding]:
    sector, count = unpack_from("<I", label, 40)[0], unpack_from("<H", label, 138)[0]
    if label[132:136] != MAGIC:
        yield found("structure", "the disklabel lacks its second magic number")
    if sector not in SECTORS:
        yield found("structure", f"the disklabel states sectors of {sector} bytes")
    if count > MOST_PARTITIONS:
        yield found(
            "structure", f"the disklabel states {count} partitions, but at most {MOST_PARTITIONS} are valid"
        )
        return
    checksum = 0
    for (word,) in iter_unpack("<H", label[: LABEL_BYTES + count * ENTRY_BYTES]):
        checksum ^= word
    if checksum:
        yield found("checksum_mismatch", "the disklabel does not match its checksum")
