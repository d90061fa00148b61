"""Builds images in VHD, Virtual PC's format: fixed, dynamic and differencing.

Footer, the last 512 bytes. Dynamic and differencing images also have a copy of the footer at byte 0
(big-endian; VHD specification 1.0, "Hard Disk Footer Format")::

     0  "conectix"              8  features u32 = 2        12  version u32 = 1.0
    16  dynamic header's offset u64, all ones if fixed     24  seconds since 2000 u32
    28  creator, 4 characters  32  creator's version u32   36  host system, 4 characters
    40  original size u64      48  current size u64        56  cylinders u16, heads u8, sectors u8
    60  type u32: 2 fixed, 3 dynamic, 4 differencing       64  checksum u32
    68  UUID                   84  saved state u8

Dynamic header, 1024 bytes ("Dynamic Disk Header Format")::

     0  "cxsparse"              8  all ones u64            16  block table's offset u64
    24  version u32 = 1.0      28  table entries u32       32  block size u32
    36  checksum u32           40  parent's UUID           56  parent's time u32
    64  parent's name, UTF-16BE, 512 bytes                576  eight parent locators of 24 bytes

An entry of the block table is the sector of a block's bitmap, or FFFFFFFF if the file does not store the
block. The block's data follow the bitmap. A checksum is the one's complement of the sum of all other bytes of
its structure. Versions of Virtual PC before 2004 wrote footers of 511 bytes.
"""

import struct
from typing import Literal
from uuid import UUID

from keyhole.builders.guest import SECTOR, Allocated, block_numbers, pattern
from keyhole.builders.image import Image, ceil_div, round_up

FOOTER_SIZE = 512
DYNAMIC_HEADER_SIZE = 1024
NOWHERE = 0xFFFFFFFFFFFFFFFF
FREE = 0xFFFFFFFF

#: The number of sectors in the largest geometry that fits into the footer's fields: about 127 GiB.
MAX_CHS_SECTORS = 65535 * 16 * 255

FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4

#: 1 January 2024, in seconds since 2000.
TIMESTAMP = 757382400

DISK_UUID = UUID("4b657968-6f6c-4000-8000-7668642d3031")
PARENT_UUID = UUID("4b657968-6f6c-4000-8000-7668642d3032")


def vhd_fixed(
    virtual_size: int,
    *,
    content: Image | None = None,
    creator: bytes = b"qem2",
    footer_size: Literal[512, 511] = 512,
) -> Image:
    """Return a fixed VHD: the disk `content` (by default `virtual_size` bytes of zeros) and a footer."""
    disk = content or Image(virtual_size)
    if disk.size != virtual_size:
        raise ValueError(f"the content has {disk.size} bytes, the disk {virtual_size}")
    return disk.appended(_footer(virtual_size, creator, FIXED)[:footer_size])


def vhd_dynamic(
    virtual_size: int,
    *,
    creator: bytes = b"qem2",
    block_size: int = 2 << 20,
    allocated: Allocated = 0,
    parent_name: str | None = None,
) -> Image:
    """Return a dynamic VHD, or a differencing VHD if `parent_name` names a parent in the same folder.

    The image stores the `allocated` blocks, and the first sector of each stored block contains a test
    pattern. In the footer, the current size is `virtual_size`, and the geometry is the largest geometry that
    does not exceed `virtual_size`. QEMU takes the size of the disk from one of these two fields, depending on
    `creator`.
    """
    blocks = ceil_div(virtual_size, block_size)
    written = block_numbers(allocated, blocks)
    table_offset = FOOTER_SIZE + DYNAMIC_HEADER_SIZE
    locator_offset = table_offset + round_up(4 * blocks, SECTOR)
    locator = f".\\{parent_name}".encode("utf-16-le") if parent_name else b""
    first_block = locator_offset + round_up(len(locator), SECTOR)
    bitmap_size = round_up(block_size // SECTOR // 8, SECTOR)

    place = {block: first_block + index * (bitmap_size + block_size) for index, block in enumerate(written)}
    table = bytearray(struct.pack(">I", FREE) * blocks).ljust(round_up(4 * blocks, SECTOR), b"\xff")
    for block, offset in place.items():
        struct.pack_into(">I", table, 4 * block, offset // SECTOR)
    bitmap = b"\xff" * (block_size // SECTOR // 8)
    data = [
        piece
        for block, offset in place.items()
        for piece in ((offset, bitmap), (offset + bitmap_size, pattern(block)))
    ]

    footer = _footer(virtual_size, creator, DIFFERENCING if parent_name else DYNAMIC)
    header = _dynamic_header(table_offset, blocks, block_size, parent_name, (locator_offset, len(locator)))
    end = first_block + len(written) * (bitmap_size + block_size)
    return Image.of(
        end + FOOTER_SIZE,
        [
            (0, footer),
            (FOOTER_SIZE, header),
            (table_offset, bytes(table)),
            (locator_offset, locator),
            *data,
            (end, footer),
        ],
    )


def vhd_geometry(sectors: int) -> tuple[int, int, int]:
    """Return cylinders, heads and sectors per track for a number of sectors (appendix "CHS Calculation").

    The product of the three values is at most the number of sectors.
    """
    sectors = min(sectors, MAX_CHS_SECTORS)
    if sectors >= 65535 * 16 * 63:
        return sectors // 255 // 16, 16, 255
    tracks = sectors // 17
    heads = max(4, ceil_div(tracks, 1024))
    if heads <= 16 and tracks < heads * 1024:
        return tracks // heads, heads, 17
    per_track = 31 if sectors // 31 < 16 * 1024 else 63
    return sectors // per_track // 16, 16, per_track


def _footer(size: int, creator: bytes, disk_type: int) -> bytes:
    footer = struct.pack(
        ">8sIIQI4sI4sQQHBBII16sB427x",
        b"conectix",
        2,
        0x00010000,
        NOWHERE if disk_type == FIXED else FOOTER_SIZE,
        TIMESTAMP,
        creator,
        0x00050003,
        b"Wi2k",
        size,
        size,
        *vhd_geometry(size // SECTOR),
        disk_type,
        0,
        DISK_UUID.bytes,
        0,
    )
    return _with_checksum(footer, 64)


def _dynamic_header(
    table_offset: int, entries: int, block_size: int, parent_name: str | None, locator: tuple[int, int]
) -> bytes:
    locator_offset, locator_length = locator
    locators = (
        struct.pack(">4sIIIQ", b"W2ru", round_up(locator_length, SECTOR), locator_length, 0, locator_offset)
        if parent_name
        else b""
    )
    header = struct.pack(
        ">8sQQIIII16sI4x512s192s256x",
        b"cxsparse",
        NOWHERE,
        table_offset,
        0x00010000,
        entries,
        block_size,
        0,
        PARENT_UUID.bytes if parent_name else b"",
        TIMESTAMP if parent_name else 0,
        (parent_name or "").encode("utf-16-be"),
        locators,
    )
    return _with_checksum(header, 36)


def _with_checksum(structure: bytes, at: int) -> bytes:
    checksum = ~sum(structure) & 0xFFFFFFFF
    return structure[:at] + checksum.to_bytes(4, "big") + structure[at + 4 :]
