"""Builds expandable disk images of Parallels.

Header, at byte 0 (little-endian; QEMU `docs/interop/parallels`, "Header")::

      0  "WithouFreSpacExt" or "WithoutFreeSpace"       16  version u32 = 2
     20  heads u32             24  cylinders u32        28  cluster size in sectors u32
     32  BAT entries u32       36  virtual size in sectors u64
     44  in use u32: 746F6E59 open, 312E3276 closed     48  data area's first sector u32
     52  flags u32: 1 empty    56  format extension's sector u64

The BAT follows the header (section "BAT"). The BAT contains a u32 for each cluster of the disk: 0 if the file
does not store the cluster, otherwise the place of the cluster in the file. With the newer magic number,
"WithouFreSpacExt", the place is a number of clusters. With the older magic number, "WithoutFreeSpace", the
place is a number of sectors.
"""

import struct

from keyhole.builders.guest import SECTOR, Allocated, block_numbers, pattern
from keyhole.builders.image import Image, ceil_div, round_up

HEADER_SIZE = 64
CLUSTER_SIZE = 1 << 20
HEADS, SECTORS_PER_TRACK = 16, 32
CLOSED = 0x312E3276


def parallels(
    virtual_size: int,
    *,
    cluster_size: int = CLUSTER_SIZE,
    allocated: Allocated = 0,
    extended: bool = True,
    in_use: int = CLOSED,
) -> Image:
    """Return a Parallels image of `virtual_size` bytes that stores the `allocated` clusters.

    The first sector of each stored cluster contains a test pattern. `virtual_size` is a multiple of the
    sector size. If `extended` is true, the image has the newer magic number, and the data begin at a cluster
    boundary. Otherwise the image has the older magic number, the data begin in the sector after the BAT, and
    the header does not state where the data begin.
    """
    entries = ceil_div(virtual_size, cluster_size)
    numbers = block_numbers(allocated, entries)
    bat_end = HEADER_SIZE + 4 * entries
    data = round_up(bat_end, cluster_size if extended else SECTOR)
    unit = cluster_size if extended else SECTOR
    places = {number: data + index * cluster_size for index, number in enumerate(numbers)}
    header = struct.pack(
        "<16s5IQIIIQ",
        b"WithouFreSpacExt" if extended else b"WithoutFreeSpace",
        2,
        HEADS,
        virtual_size // SECTOR // HEADS // SECTORS_PER_TRACK,
        cluster_size // SECTOR,
        entries,
        virtual_size // SECTOR,
        in_use,
        data // SECTOR if extended else 0,
        0,
        0,
    )
    pieces = [(0, header)]
    for number, place in places.items():
        pieces.append((HEADER_SIZE + 4 * number, struct.pack("<I", place // unit)))
        pieces.append((place, pattern(number)))
    return Image.of(data + len(numbers) * cluster_size, pieces)
