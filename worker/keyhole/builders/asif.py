"""Builds images in Apple Sparse Image Format (ASIF) of macOS 26: header, two directories, tables, chunks.

Header (big-endian; github.com/huven/asif-format)::

     0  "shdw"    4  version u32 = 1    8  size u32 = 512    12  flags u32
    16  offsets of the directories, two u64                  32  UUID
    48  sectors u64                    56  sectors at most u64
    64  chunk size u32                 68  sector size u16

The file consists of chunks, which are numbered from 0. This builder puts the header and the directories into
chunk 0.

A directory consists of a sequence number u64 and, for each table, the number of the chunk that contains the
table, u64. Readers use the directory with the higher sequence number. With chunks of 1 MiB, a table consists
of 63 groups. Each group has 2,048 entries u64 for data chunks and then one entry u64 for a bitmap chunk. The
upper two bits of a data chunk's entry are flags (01: all sectors are written), and the other bits are the
chunk's number.
"""

import struct
from uuid import UUID

from keyhole.builders.guest import SECTOR, Allocated, block_numbers, pattern
from keyhole.builders.image import Image, ceil_div

CHUNK_SIZE = 1 << 20
GROUP_CHUNKS = 4 * SECTOR
GROUPS = CHUNK_SIZE // (8 * (GROUP_CHUNKS + 1))
TABLE_CHUNKS = GROUPS * GROUP_CHUNKS
WRITTEN = 1 << 62
DIRECTORY_OFFSETS = (512, 512 + (256 << 10))
MAXIMUM_SIZE = 4 << 50
IMAGE_UUID = UUID("4b657968-6f6c-4000-8000-617369662d31")


def asif(virtual_size: int, *, allocated: Allocated = 0) -> Image:
    """Return an ASIF image of `virtual_size` bytes that stores the `allocated` chunks of 1 MiB.

    The first sector of each stored chunk contains a test pattern. The image has no metadata.
    """
    written = block_numbers(allocated, ceil_div(virtual_size, CHUNK_SIZE))
    tables = sorted({chunk // TABLE_CHUNKS for chunk in written})
    table_place = {table: 1 + index for index, table in enumerate(tables)}
    place = {chunk: 1 + len(tables) + index for index, chunk in enumerate(written)}
    header = struct.pack(
        ">4s3I2Q16s2QIH",
        b"shdw",
        *(1, 512, 0),
        *DIRECTORY_OFFSETS,
        IMAGE_UUID.bytes,
        *(virtual_size // SECTOR, MAXIMUM_SIZE // SECTOR),
        *(CHUNK_SIZE, SECTOR),
    )
    count = max(tables, default=-1) + 1
    entries = struct.pack(f">{count}Q", *(table_place.get(table, 0) for table in range(count)))
    pieces = [(0, header)]
    pieces += [(at, struct.pack(">Q", 2 - n) + entries) for n, at in enumerate(DIRECTORY_OFFSETS)]
    for chunk in written:
        table, within = divmod(chunk, TABLE_CHUNKS)
        entry = within + within // GROUP_CHUNKS
        at = table_place[table] * CHUNK_SIZE + 8 * entry
        pieces.append((at, struct.pack(">Q", WRITTEN | place[chunk])))
        pieces.append((place[chunk] * CHUNK_SIZE, pattern(chunk)))
    return Image.of((1 + len(tables) + len(written)) * CHUNK_SIZE, pieces)
