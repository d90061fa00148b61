"""Builds images in VDI, VirtualBox's native format.

Header, at byte 0 (little-endian; VirtualBox `VDICore.h`, version 1.1)::

    0x000  text, 64 bytes          0x040  signature u32 = BEDA107F    0x044  version u32 = 1.1
    0x048  size of the rest u32    0x04C  type u32: 1 dynamic, 2 fixed, 3 undo, 4 differencing
    0x050  flags u32               0x054  comment, 256 bytes
    0x154  block map offset u32    0x158  data offset u32
    0x15C  cylinders, heads, sectors, sector size, u32 each
    0x170  disk size u64           0x178  block size u32              0x17C  extra bytes per block u32
    0x180  blocks u32              0x184  allocated blocks u32
    0x188  UUIDs, little-endian: own, last snapshot's, parent's, parent's snapshot

The block map contains a u32 for each block of the disk: the index of the block in the data area, or FFFFFFFF
if the file does not store the block.
"""

import struct
from uuid import UUID

from keyhole.builders.guest import SECTOR, Allocated, block_numbers, pattern
from keyhole.builders.image import Image, ceil_div, round_up

BLOCK_SIZE = 1 << 20
HEADER_SIZE = 512
FREE = 0xFFFFFFFF
STATIC = 2

IMAGE_UUID = UUID("4b657968-6f6c-4000-8000-7664692d3031")
SNAPSHOT_UUID = UUID("4b657968-6f6c-4000-8000-7664692d3032")
NO_UUID = UUID(int=0)


def vdi(
    virtual_size: int,
    *,
    allocated: Allocated = 0,
    image_type: int = 1,
    parent_uuid: UUID = NO_UUID,
) -> Image:
    """Return a VDI of `virtual_size` bytes that stores the `allocated` blocks of 1 MiB.

    The first sector of each allocated block contains a test pattern. With `image_type` 2 (fixed), the file
    also stores all other blocks, as zeros. With `image_type` 4 (differencing), `parent_uuid` is the UUID of
    the parent. QEMU refuses to open differencing images.
    """
    blocks = ceil_div(virtual_size, BLOCK_SIZE)
    written = block_numbers(allocated, blocks)
    stored = tuple(range(blocks)) if image_type == STATIC else written
    place = {block: index for index, block in enumerate(stored)}
    data_offset = HEADER_SIZE + round_up(4 * blocks, SECTOR)
    block_map = bytearray(struct.pack("<I", FREE) * blocks)
    for block, index in place.items():
        struct.pack_into("<I", block_map, 4 * block, index)
    header = struct.pack(
        "<64s5I256s2I4I4xQ4I16s16s16s16s",
        b"<<< Oracle VM VirtualBox Disk Image >>>\n",
        0xBEDA107F,
        0x00010001,
        0x190,
        image_type,
        0,
        b"",
        HEADER_SIZE,
        data_offset,
        *(0, 0, 0, SECTOR),
        virtual_size,
        *(BLOCK_SIZE, 0, blocks, len(stored)),
        IMAGE_UUID.bytes_le,
        SNAPSHOT_UUID.bytes_le,
        parent_uuid.bytes_le,
        (SNAPSHOT_UUID if parent_uuid != NO_UUID else NO_UUID).bytes_le,
    )
    data = [(data_offset + place[block] * BLOCK_SIZE, pattern(block)) for block in written]
    size = data_offset + len(stored) * BLOCK_SIZE
    return Image.of(size, [(0, header), (HEADER_SIZE, bytes(block_map)), *data])
