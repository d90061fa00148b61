"""Builds redolog images of Bochs.

Header, at byte 0, 512 bytes (little-endian; QEMU `block/bochs.c`, struct bochs_header)::

      0  "Bochs Virtual HD Image"     32  "Redolog"       48  "Growing", "Undoable" or "Volatile"
     64  version u32: 0x10000 or 0x20000                  68  header size u32 = 512
     72  catalog entries u32         76  bytes of an extent's bitmap u32     80  bytes of an extent u32
     84  version 1: virtual size u64; version 2: a time u32, then the virtual size u64

The catalog follows the header. The catalog contains a u32 for each extent of the disk: the index of the
extent among the stored extents, or FFFFFFFF if the image does not store the extent. After the catalog come
the stored extents. A stored extent begins with a bitmap, which is padded to a sector. Each bit of the bitmap
states whether one sector of the extent has data. The extent's data follow the bitmap.
"""

import struct

from keyhole.builders.guest import SECTOR, Allocated, block_numbers, pattern
from keyhole.builders.image import Image, ceil_div, round_up

HEADER_SIZE = 512
EXTENT_SIZE = 1 << 20
FREE = 0xFFFFFFFF
VERSIONS = {1: 0x00010000, 2: 0x00020000}
#: The bitmap of each stored extent. The bitmap states that only the first sector has data.
FIRST_SECTOR = b"\1"


def bochs(
    virtual_size: int,
    *,
    extent_size: int = EXTENT_SIZE,
    allocated: Allocated = 0,
    version: int = 2,
    subtype: str = "Growing",
) -> Image:
    """Return a Bochs image of `virtual_size` bytes that stores the `allocated` extents.

    The first sector of each stored extent contains a test pattern. `virtual_size` is a multiple of the sector
    size. `extent_size` is a power of two, in bytes. Bochs makes extents of at least 4 KiB.
    """
    entries = ceil_div(virtual_size, extent_size)
    numbers = block_numbers(allocated, entries)
    bitmap_size = extent_size // SECTOR // 8
    bitmap_room = round_up(bitmap_size, SECTOR)
    data = HEADER_SIZE + 4 * entries
    catalog = bytearray(struct.pack("<I", FREE) * entries)
    pieces = []
    end = data
    for index, number in enumerate(numbers):
        struct.pack_into("<I", catalog, 4 * number, index)
        pieces += [(end, FIRST_SECTOR), (end + bitmap_room, pattern(number))]
        end += bitmap_room + extent_size
    header = struct.pack(
        "<32s16s16s5I",
        b"Bochs Virtual HD Image",
        b"Redolog",
        subtype.encode(),
        VERSIONS[version],
        HEADER_SIZE,
        entries,
        bitmap_size,
        extent_size,
    )
    header += struct.pack("<Q" if version == 1 else "<4xQ", virtual_size)
    return Image.of(end, [(0, header), (HEADER_SIZE, bytes(catalog)), *pieces])
