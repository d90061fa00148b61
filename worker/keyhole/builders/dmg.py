"""Builds DMG images (Apple's UDIF): data, a property list that maps the data to the disk, and a trailer.

Trailer, the last 512 bytes (big-endian; libmodi, "Mac OS disk image types")::

      0  "koly"     4  version u32 = 4     8  size u32 = 512    12  flags u32 = 1
     24  data fork: offset, length u64    40  resource fork: offset, length u64
     56  segment u32, segments u32        64  segment UUID
     80  data checksum: type u32, bits u32, 128 bytes
    216  property list: offset, length u64
    352  master checksum: type u32, bits u32, 128 bytes
    488  variant u32 = 1                 492  sectors u64

The property list contains the block table as base64. The block table::

      0  "mish"     8  first sector u64, sectors u64     200  entries u32     204  the entries

An entry of the block table::

      0  type u32: 1 raw, 2 ignore, FFFFFFFF end          8  first sector u64, sectors u64
     24  offset in the data fork u64                     32  length u64
"""

import struct
from base64 import encodebytes
from uuid import UUID

from keyhole.builders.guest import SECTOR, Allocated, block_numbers, pattern
from keyhole.builders.image import Image

#: The size of a block in bytes. All readers accept blocks of 1 MiB.
BLOCK_SIZE = 1 << 20
RAW, IGNORE, END = 1, 2, 0xFFFFFFFF
SEGMENT_UUID = UUID("4b657968-6f6c-4000-8000-646d672d3031")

PLIST = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>resource-fork</key>
	<dict>
		<key>blkx</key>
		<array>
			<dict>
				<key>Attributes</key>
				<string>0x0050</string>
				<key>CFName</key>
				<string>whole disk (Keyhole : 0)</string>
				<key>Data</key>
				<data>
{table}				</data>
				<key>ID</key>
				<string>0</string>
				<key>Name</key>
				<string>whole disk (Keyhole : 0)</string>
			</dict>
		</array>
	</dict>
</dict>
</plist>
"""


def dmg(virtual_size: int, *, allocated: Allocated = 0, segments: int = 1) -> Image:
    """Return a DMG of `virtual_size` bytes, which stores the blocks in `allocated` without compression.

    The size of a block is 1 MiB, and `virtual_size` is a multiple of 1 MiB. The first sector of each stored
    block contains a test pattern. If `segments` is more than 1, the trailer states that the image is split
    into `segments` files, and that this file is the first.
    """
    blocks = virtual_size // BLOCK_SIZE
    written = block_numbers(allocated, blocks)
    place = {block: index * BLOCK_SIZE for index, block in enumerate(written)}
    plist = PLIST.format(table=encodebytes(_block_table(blocks, place)).decode()).encode()
    data_length = len(written) * BLOCK_SIZE
    trailer = struct.pack(
        ">4s3I5Q2I16s2I128s2Q120x2I128sIQ12x",
        b"koly",
        *(4, 512, 1),
        *(0, 0, data_length, 0, 0),
        *(1, segments),
        SEGMENT_UUID.bytes,
        *(0, 0, b""),
        *(data_length, len(plist)),
        *(0, 0, b""),
        1,
        virtual_size // SECTOR,
    )
    data = [(place[block], pattern(block)) for block in written]
    size = data_length + len(plist) + len(trailer)
    return Image.of(size, [*data, (data_length, plist + trailer)])


def _block_table(blocks: int, place: dict[int, int]) -> bytes:
    sectors = BLOCK_SIZE // SECTOR
    entries = [
        struct.pack(
            ">2I4Q",
            *(RAW if block in place else IGNORE, 0),
            *(block * sectors, sectors),
            *((place[block], BLOCK_SIZE) if block in place else (0, 0)),
        )
        for block in range(blocks)
    ]
    entries.append(struct.pack(">2I4Q", END, 0, blocks * sectors, 0, 0, 0))
    head = struct.pack(">4sI3Q2I24x136xI", b"mish", 1, 0, blocks * sectors, 0, 0, len(entries), len(entries))
    return head + b"".join(entries)
