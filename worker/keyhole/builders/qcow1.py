"""Builds images in qcow, version 1.

Header, at byte 0 (big-endian; QEMU `block/qcow.c`, struct QCowHeader)::

      0  "QFI" FB               4  version u32 = 1
      8  backing name's offset u64                  16  backing name's length u32
     20  time of modification u32                   24  virtual size u64
     32  cluster bits u8       33  L2 bits u8       36  encryption u32: 0 none, 1 AES
     40  L1 table's offset u64

After the header come the name of the backing file, padded to 8 bytes, and the L1 table. Then come the L2
tables and the guest clusters. The L2 tables, and the guest clusters that are not compressed, are aligned to
clusters. An L2 entry is the offset of a guest cluster. If the cluster is compressed, bit 63 of the entry is
set. In this case, the n bits below bit 63 contain the length of the compressed data in bytes, where n is the
value of the field "cluster bits".
"""

import struct
from zlib import Z_DEFAULT_COMPRESSION, compressobj

from keyhole.builders.guest import Allocated, block_numbers, pattern
from keyhole.builders.image import Image, ceil_div, round_up

HEADER_SIZE = 48
COMPRESSED = 1 << 63
#: zlib's parameter for a deflate stream without a header and with a window of 4 KiB (`block/qcow.c`,
#: decompress_buffer).
RAW_DEFLATE_4K = -12


def qcow1(
    virtual_size: int,
    *,
    cluster_bits: int = 12,
    l2_bits: int = 9,
    allocated: Allocated = 0,
    compressed: bool = False,
    backing_file: str = "",
    encryption: int = 0,
) -> Image:
    """Return a qcow image of `virtual_size` bytes that stores the `allocated` guest clusters.

    The first sector of each stored guest cluster contains a test pattern. The defaults are QEMU's: clusters
    of 2^12 bytes and L2 tables of 2^9 entries. If there is a backing file, QEMU makes clusters of 2^9 bytes
    and L2 tables of 2^12 entries.
    """
    cluster, table = 1 << cluster_bits, 8 << l2_bits
    numbers = block_numbers(allocated, ceil_div(virtual_size, cluster))
    name = backing_file.encode()
    l1_offset = round_up(HEADER_SIZE + len(name), 8)
    end = l1_offset + 8 * ceil_div(virtual_size, cluster << l2_bits)
    pieces = [(HEADER_SIZE, name)]
    tables: dict[int, int] = {}
    for number in numbers:
        index, entry = divmod(number, 1 << l2_bits)
        if index not in tables:
            tables[index] = round_up(end, cluster)
            pieces.append((l1_offset + 8 * index, struct.pack(">Q", tables[index])))
            end = tables[index] + table
        content = pattern(number)
        if compressed:
            content = _deflated(content.ljust(cluster, b"\0"))
            place = end
            mapping = COMPRESSED | len(content) << (63 - cluster_bits) | place
            end = place + len(content)
        else:
            place = mapping = round_up(end, cluster)
            end = place + cluster
        pieces.append((tables[index] + 8 * entry, struct.pack(">Q", mapping)))
        pieces.append((place, content))
    header = struct.pack(
        ">4sIQIIQBB2xIQ",
        b"QFI\xfb",
        1,
        HEADER_SIZE if name else 0,
        len(name),
        0,
        virtual_size,
        cluster_bits,
        l2_bits,
        encryption,
        l1_offset,
    )
    return Image.of(end, [(0, header), *pieces])


def _deflated(content: bytes) -> bytes:
    packer = compressobj(Z_DEFAULT_COMPRESSION, wbits=RAW_DEFLATE_4K)
    return packer.compress(content) + packer.flush()
