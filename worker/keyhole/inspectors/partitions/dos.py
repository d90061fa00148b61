"""The MBR, `dos`: four partitions after boot code. Little-endian.

Source: UEFI Specification 2.10, section 5.2. For how readers treat unusual entries: Linux's
block/partitions/msdos.c and efi.c, libblkid's partitions/dos.c and gpt.c (2.38), and the output of sfdisk,
parted, sgdisk and 7-Zip.

| at | bytes | field |
|---|---|---|
| 446 | 4 x 16 | partitions: status u8 (00 or 80), type u8@4 (0: unused), first sector u32@8, sectors u32@12 |
| 510 | 2 | 55 AA |

A sector has 512 bytes. An extended partition (types 05, 0F, 85) counts as one; the partitions within it are
not followed.

Each entry is judged separately:

| entry | readers | finding |
|---|---|---|
| no sectors | ignore it | `structure`, as information |
| first sector 0 | accept it, because hybrid discs have such entries | none |
| status other than 00, 80 | Linux, libblkid, 7-Zip see no table; sfdisk, sgdisk do | `structure` if an entry is empty or a partition begins within the disk; otherwise the bytes are code or compressed data, and no table |
| type EE | the disk has a GPT; Linux and UEFI want the entry to begin at sector 1 | `structure` if no such entry does |
| partitions overlap | accept them, except parted | `structure`, as information |

libblkid also recognises a table without partitions. A table is named `PMBR` if an entry has type EE; the module
`gpt` decides whether there is a GPT. The boot sectors of FAT, NTFS and exFAT have 55 AA, too, so the caller must
check whether the sector belongs to such a volume.
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Iterator, Sequence
from struct import unpack_from
from typing import NamedTuple

from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.partitions.table import Partition, Table, odd

MBR_BYTES = SECTOR = 512
ENTRY_BYTES = 16
PLACES = range(446, 510, ENTRY_BYTES)
BOOT_MARK = b"\x55\xaa"
#: The type of the one partition that protects a GPT.
PROTECTIVE = 0xEE
PMBR = "PMBR"
NAMES = frozenset({"dos", PMBR})
STATUSES = frozenset({0x00, 0x80})
#: AIX's volumes begin with this; they have no table.
AIX = b"\xc9\xc2\xd4\xc1"


class Entry(NamedTuple):
    """One of the four entries."""

    number: int
    status: int
    kind: int
    first: int
    sectors: int


#: The entry in FreeBSD's boot1 on a disk without slices: 50,000 sectors from sector 0 on, on any disk.
FREEBSD_FAKE = (0xA5, 0, 50_000)


def parse(front: bytes) -> Table | None:
    """The partition table of an object that begins with `front`; `None` if it has no MBR."""
    entries = _entries(front)
    if entries is None:
        return None
    long = [entry for entry in entries if entry.sectors and entry[2:] != FREEBSD_FAKE]
    # sfdisk takes an entry of type 0 for a deleted one. Linux ignores types.
    used = [entry for entry in long if entry.kind] or long
    table = Table(
        name=PMBR if any(entry.kind == PROTECTIVE for entry in entries) else "dos",
        sector=SECTOR,
        partitions=tuple(Partition(entry.first * SECTOR, entry.sectors * SECTOR) for entry in used),
        findings=tuple(_odd(entries)),
        doubtful=any(entry.status not in STATUSES for entry in entries),
        likely=any(not any(front[at : at + ENTRY_BYTES]) for at in PLACES),
    )
    return table._replace(findings=(*table.findings, *table.overlapping()))


def is_protective(front: bytes) -> bool:
    """Whether the MBR says that there is a GPT."""
    return any(entry.kind == PROTECTIVE for entry in _entries(front) or ())


def protective_findings(front: bytes) -> list[Finding]:
    """Findings on an unusual MBR of a disk with a GPT."""
    entries = [entry for entry in _entries(front) or () if entry.kind == PROTECTIVE]
    if not entries:
        return [found("structure", "no protective entry in the MBR announces the GPT: few readers see it")]
    if all(entry.first != 1 for entry in entries):
        return [
            found(
                "structure",
                f"the protective entry of the MBR begins at sector {entries[0].first}, not 1: "
                "Linux and UEFI see no GPT",
            )
        ]
    return [*_without_sectors(entries)]


def _entries(front: bytes) -> list[Entry] | None:
    if len(front) < MBR_BYTES or front[510:512] != BOOT_MARK or front.startswith(AIX):
        return None
    return [
        Entry(number, front[at], front[at + 4], *unpack_from("<II", front, at + 8))
        for number, at in enumerate(PLACES, 1)
    ]


def _odd(entries: Sequence[Entry]) -> Iterator[Finding]:
    for entry in entries:
        if entry.status not in STATUSES:
            yield found(
                "structure",
                f"partition {entry.number} has the status {entry.status:02x}, neither 00 nor 80: "
                "some readers see no partition table",
            )
    yield from _without_sectors(entries)


def _without_sectors(entries: Sequence[Entry]) -> Iterator[Finding]:
    for entry in entries:
        if entry.kind and not entry.sectors:
            yield odd(f"partition {entry.number} has no sectors")
