"""Builds raw disks with a partition table: MBR ("dos") or GPT.

MBR, at byte 0 (little-endian; UEFI specification 2.10, section 5.2.1)::

    446  four entries of 16 bytes: boot flag u8, first CHS 3 bytes, type u8, last CHS 3 bytes,
         first LBA u32, sectors u32
    510  55 AA

GPT header, at LBA 1 and the last LBA (little-endian; section 5.3.2)::

      0  "EFI PART"            8  revision u32 = 1.0      12  header size u32 = 92
     16  CRC-32 of the header with zero in this field     24  own LBA u64
     32  the other header's LBA u64                       40  first and last usable LBA u64, u64
     56  disk GUID            72  entries' LBA u64        80  entries u32, bytes per entry u32
     88  CRC-32 of the entries

Entry (section 5.3.3): type GUID, own GUID, first and last LBA u64, attributes u64, name UTF-16LE 72 bytes.
"""

import struct
from collections.abc import Sequence
from uuid import UUID
from zlib import crc32

from keyhole.builders.guest import SECTOR
from keyhole.builders.image import Image

#: UEFI section 5.3.1 requires at least 16 KiB for the entries: 128 entries of 128 bytes each.
GPT_ENTRIES = 128
GPT_ENTRY_SIZE = 128

#: The offset of the first partition in bytes. Partitioning tools have used 1 MiB since disks with sectors of
#: 4 KiB appeared.
FIRST_PARTITION = 1 << 20

DISK_GUID = UUID("4b657968-6f6c-4000-8000-6770742d3030")
LINUX_DATA = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")

#: The type of the protective entry. The protective entry covers the whole disk, so that tools that support
#: only MBR do not change the disk (section 5.2.3).
PROTECTIVE_TYPE = 0xEE


def mbr_disk(size: int, partitions: Sequence[tuple[int, int, int]] = ((0x83, 2048, 2048),)) -> Image:
    """Return a disk of `size` bytes with an MBR and up to four partitions.

    Each partition is (type, first LBA, sectors).
    """
    return Image.of(size, [(0, _mbr(partitions))])


def gpt_disk(size: int, *, partitions: int = 1, sector: int = SECTOR) -> Image:
    """Return a disk of `size` bytes with a protective MBR, both GPT headers and partitions of equal size.

    `partitions` is the number of partitions. `sector` is the size of a logical sector in bytes: 512 or 4096.
    `size` is a multiple of `sector`.
    """
    last = size // sector - 1
    table_sectors = GPT_ENTRIES * GPT_ENTRY_SIZE // sector
    usable = (2 + table_sectors, last - table_sectors - 1)
    entries = _entries(partitions, FIRST_PARTITION // sector, usable[1])
    primary = _header(1, last, usable, 2, entries)
    backup = _header(last, 1, usable, last - table_sectors, entries)
    protective = _mbr([(PROTECTIVE_TYPE, 1, min(last, 0xFFFFFFFF))])
    return Image.of(
        size,
        [
            (0, protective),
            (sector, primary),
            (2 * sector, entries),
            ((last - table_sectors) * sector, entries),
            (last * sector, backup),
        ],
    )


def _mbr(partitions: Sequence[tuple[int, int, int]]) -> bytes:
    # The CHS fields have their largest value, which means "use the LBA fields".
    entries = b"".join(
        struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", first, sectors)
        for kind, first, sectors in partitions
    )
    return struct.pack("<446x64s2s", entries, b"\x55\xaa")


def _entries(count: int, first: int, last: int) -> bytes:
    share = (last + 1 - first) // max(count, 1)
    if count > GPT_ENTRIES or share < 1:
        raise ValueError(f"{count} partitions do not fit on this disk")
    entries = b"".join(
        struct.pack(
            "<16s16sQQQ72s",
            LINUX_DATA.bytes_le,
            UUID(int=DISK_GUID.int + 1 + number).bytes_le,
            first + number * share,
            first + (number + 1) * share - 1,
            0,
            f"sample {number}".encode("utf-16-le"),
        )
        for number in range(count)
    )
    return entries.ljust(GPT_ENTRIES * GPT_ENTRY_SIZE, b"\0")


def _header(own: int, other: int, usable: tuple[int, int], entries_lba: int, entries: bytes) -> bytes:
    def packed(checksum: int) -> bytes:
        return struct.pack(
            "<8sIII4xQQQQ16sQIII",
            b"EFI PART",
            0x00010000,
            92,
            checksum,
            own,
            other,
            *usable,
            DISK_GUID.bytes_le,
            entries_lba,
            GPT_ENTRIES,
            GPT_ENTRY_SIZE,
            crc32(entries),
        )

    return packed(crc32(packed(0)))
