"""Parses the MBR, `dos`: four partition entries after the boot code. All fields are little-endian.

Source: UEFI Specification 2.10, section 5.2. How readers treat unusual entries comes from Linux's
block/partitions/msdos.c and efi.c, from libblkid's partitions/dos.c and gpt.c (2.38), and from the output of
sfdisk, parted, sgdisk and 7-Zip.

| at | bytes | field |
|---|---|---|
| 446 | 4 x 16 | partitions: status u8 (00 or 80), type u8@4 (0: unused), first sector u32@8, sectors u32@12 |
| 510 | 2 | 55 AA |

A sector has 512 bytes. Keyhole treats an extended partition (types 05, 0F, 85) as one partition, and does not
read the partitions within it.

Readers treat unusual entries as follows, and Keyhole reports these findings:

| entry | readers | finding |
|---|---|---|
| no sectors | ignore the entry | `structure`, as information |
| first sector 0 | accept the entry, because hybrid discs have such entries | none |
| status other than 00, 80 | Linux, libblkid and 7-Zip find no table; sfdisk and sgdisk find one | `structure` if one of the four entries is all zeros or a partition begins within the disk; otherwise Keyhole finds no table, because the bytes are probably code or compressed data |
| type EE | assume a GPT; Linux and UEFI require that the entry begins at sector 1 | `structure` if no entry of this type begins at sector 1 |
| partitions overlap | parted rejects the entries, all other readers accept them | `structure`, as information |

libblkid recognises a table even if the table has no partitions. A table is named `PMBR` if an entry has type
EE. The module `gpt` decides whether there is a GPT. The boot sectors of FAT, NTFS and exFAT end with 55 AA,
too, so the caller must check whether the sector belongs to a volume of these types.
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Iterator, Sequence
from struct import iter_unpack
from typing import NamedTuple

from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.partitions.table import Partition, Table, odd, overlapping

MBR_BYTES = SECTOR = 512
ENTRY_BYTES = 16
PLACES = range(446, 510, ENTRY_BYTES)
#: The slice of the MBR that contains the types of the four entries.
KINDS = slice(PLACES.start + 4, PLACES.stop, ENTRY_BYTES)
#: An entry that is all zeros.
EMPTY = bytes(ENTRY_BYTES)
BOOT_MARK = b"\x55\xaa"
#: The type of the entry that covers the GPT, to protect it from tools that know only the MBR.
PROTECTIVE = 0xEE
PMBR = "PMBR"
NAMES = frozenset({"dos", PMBR})
STATUSES = frozenset({0x00, 0x80})
#: The first bytes of an AIX volume, which has no partition table.
AIX = b"\xc9\xc2\xd4\xc1"


class Entry(NamedTuple):
    """One of the four partition entries. `first` and `sectors` are in sectors, `number` counts from 1."""

    number: int
    status: int
    kind: int
    first: int
    sectors: int


#: The type, the first sector and the number of sectors of an entry in boot1, the boot code that FreeBSD
#: writes to disks without slices. The entry is the same on every disk, so Keyhole does not report it as a
#: partition.
FREEBSD_FAKE = (0xA5, 0, 50_000)


def parse(front: bytes) -> Table | None:
    """Return the partition table of an object that begins with `front`, or `None` if it has no MBR."""
    entries = _entries(front)
    if entries is None:
        return None
    long = [entry for entry in entries if entry.sectors and entry[2:] != FREEBSD_FAKE]
    # sfdisk treats an entry of type 0 as deleted, but Linux uses entries of every type. So leave out the
    # entries of type 0 if there is an entry of another type.
    used = [entry for entry in long if entry.kind] or long
    partitions = tuple(Partition(entry.first * SECTOR, entry.sectors * SECTOR) for entry in used)
    return Table(
        name=PMBR if any(entry.kind == PROTECTIVE for entry in entries) else "dos",
        sector=SECTOR,
        partitions=partitions,
        findings=(*_odd(entries), *overlapping(partitions)),
        doubtful=not STATUSES.issuperset(entry.status for entry in entries),
        likely=any(front.startswith(EMPTY, at) for at in PLACES),
    )


def is_protective(front: bytes) -> bool:
    """Return whether an entry of the MBR announces a GPT."""
    return _is_mbr(front) and PROTECTIVE in front[KINDS]


def protective_findings(front: bytes) -> list[Finding]:
    """Return findings about an unusual MBR on a disk with a GPT."""
    entries = [entry for entry in _entries(front) or () if entry.kind == PROTECTIVE]
    if not entries:
        return [found("structure", "the MBR has no protective entry, so few readers find the GPT")]
    if all(entry.first != 1 for entry in entries):
        return [
            found(
                "structure",
                f"the protective entry of the MBR begins at sector {entries[0].first}, not 1: "
                "Linux and UEFI find no GPT",
            )
        ]
    return [*_without_sectors(entries)]


def _is_mbr(front: bytes) -> bool:
    return front.startswith(BOOT_MARK, MBR_BYTES - len(BOOT_MARK)) and not front.startswith(AIX)


def _entries(front: bytes) -> list[Entry] | None:
    if not _is_mbr(front):
        return None
    fields = iter_unpack("<B3xB3xII", front[PLACES.start : PLACES.stop])
    return [Entry(number, *entry) for number, entry in enumerate(fields, 1)]


def _odd(entries: Sequence[Entry]) -> Iterator[Finding]:
    for entry in entries:
        if entry.status not in STATUSES:
            yield found(
                "structure",
                f"partition {entry.number} has the status {entry.status:02x}, neither 00 nor 80: "
                "some readers find no partition table",
            )
    yield from _without_sectors(entries)


def _without_sectors(entries: Sequence[Entry]) -> Iterator[Finding]:
    for entry in entries:
        if entry.kind and not entry.sectors:
            yield odd(f"partition {entry.number} has no sectors")
