"""Builds cloop images (compressed loopback images) of version 2.

Header, at byte 0 (big-endian; QEMU `block/cloop.c`)::

      0  a shell script, padded with zeros    128  block size u32    132  blocks u32
    136  the offset of each block, and the offset at which the last block ends, u64 each

After these offsets come the blocks. Each block is a zlib stream.
"""

import struct
from itertools import accumulate
from zlib import compress

from keyhole.builders.guest import Allocated, block_numbers, pattern
from keyhole.builders.image import Image

PREAMBLE = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"
PREAMBLE_SIZE = 128
HEADER_SIZE = 136
BLOCK_SIZE = 64 << 10


def cloop(virtual_size: int, *, block_size: int = BLOCK_SIZE, allocated: Allocated = 0) -> Image:
    """Return a cloop image of `virtual_size` bytes.

    The image stores all blocks. The first sector of each `allocated` block contains a test pattern, and all
    other sectors are zeros.

    Raises:
        ValueError: `virtual_size` is not a multiple of `block_size`. The format can store only whole blocks.
    """
    blocks, rest = divmod(virtual_size, block_size)
    if rest:
        raise ValueError(f"{virtual_size} bytes are not whole blocks of {block_size}")
    stored = [compress(bytes(block_size))] * blocks
    for number in block_numbers(allocated, blocks):
        stored[number] = compress(pattern(number).ljust(block_size, b"\0"))
    table_end = HEADER_SIZE + 8 * (blocks + 1)
    offsets = list(accumulate(map(len, stored), initial=table_end))
    header = PREAMBLE.ljust(PREAMBLE_SIZE, b"\0") + struct.pack(">II", block_size, blocks)
    table = struct.pack(f">{len(offsets)}Q", *offsets)
    return Image.of(offsets[-1], [(0, header + table), (table_end, b"".join(stored))])
