"""Builds Apple's sparse images: index nodes of 4,096 bytes, each followed by the bands that it lists.

First node (big-endian; libmodi, "Mac OS disk image types")::

     0  "sprs"    4  version u32 = 3    8  sectors in a band u32    12  flags u32 = 1
    16  sectors u32                    20  next node's offset u64   28  sectors u64
    64  1008 numbers of bands u32, from 1

Other nodes::

     0  "sprs"    4  number u32, from 0    8  flags u32 = 1    12  next node's offset u64
    56  1010 numbers of bands u32
"""

import struct

from keyhole.builders.guest import SECTOR, Allocated, block_numbers, pattern
from keyhole.builders.image import Image, ceil_div

NODE_SIZE = 4096
BAND_SIZE = 1 << 20
FIRST_BANDS, OTHER_BANDS = 1008, 1010


def sparseimage(virtual_size: int, *, allocated: Allocated = 0, band_size: int = BAND_SIZE) -> Image:
    """Return a sparse image of `virtual_size` bytes that stores the `allocated` bands.

    The first sector of each stored band contains a test pattern. The first node lists up to 1,008 bands.
    Further nodes list the other bands.
    """
    written = block_numbers(allocated, ceil_div(virtual_size, band_size))
    nodes = [written[:FIRST_BANDS]]
    nodes += [written[at : at + OTHER_BANDS] for at in range(FIRST_BANDS, len(written), OTHER_BANDS)]
    pieces = []
    offset = 0
    for number, bands in enumerate(nodes):
        behind = offset + NODE_SIZE + len(bands) * band_size
        following = behind if number + 1 < len(nodes) else 0
        head = _other(number - 1, following) if number else _first(virtual_size, band_size, following)
        numbers = struct.pack(f">{len(bands)}I", *(band + 1 for band in bands))
        pieces.append((offset, (head + numbers).ljust(NODE_SIZE, b"\0")))
        pieces += [
            (offset + NODE_SIZE + index * band_size, pattern(band)) for index, band in enumerate(bands)
        ]
        offset = behind
    return Image.of(offset, pieces)


def _first(virtual_size: int, band_size: int, following: int) -> bytes:
    sectors = virtual_size // SECTOR
    numbers = (3, band_size // SECTOR, 1, sectors & 0xFFFFFFFF)
    return struct.pack(">4s4IQQ28x", b"sprs", *numbers, following, sectors)


def _other(number: int, following: int) -> bytes:
    return struct.pack(">4sIIQ36x", b"sprs", number, 1, following)
