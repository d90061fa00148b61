"""Builds images in QED, QEMU's enhanced disk format.

Header, at byte 0 (little-endian; QEMU `docs/interop/qed_spec`, "Header")::

      0  "QED" 00               4  cluster size u32     8  table size in clusters u32
     12  header size in clusters u32
     16  features u64: 1 backing file, 2 needs a check, 4 the backing file is raw
     24  compatible features u64                       32  autoclear features u64
     40  L1 table's offset u64                         48  virtual size u64
     56  backing name's offset u32                     60  backing name's length u32

The L1 table follows the header's cluster. Then come the L2 tables and the guest clusters. An L2 table
precedes the first guest cluster that it maps. An entry u64 of the L1 table is the offset of an L2 table, and
an entry u64 of an L2 table is the offset of a guest cluster.
"""

import struct

from keyhole.builders.guest import Allocated, block_numbers, pattern
from keyhole.builders.image import Image, ceil_div

HEADER_SIZE = 64
CLUSTER_SIZE = 64 << 10
TABLE_SIZE = 4
BACKING_FILE = 1


def qed(
    virtual_size: int,
    *,
    cluster_size: int = CLUSTER_SIZE,
    table_size: int = TABLE_SIZE,
    allocated: Allocated = 0,
    backing_file: str = "",
    features: int = 0,
) -> Image:
    """Return a QED image of `virtual_size` bytes that stores the `allocated` guest clusters.

    The first sector of each stored guest cluster contains a test pattern. `table_size` is the size of each L1
    or L2 table in clusters. `features` is a set of feature bits. If `backing_file` is given, the header also
    has the feature bit for a backing file.
    """
    table = table_size * cluster_size
    numbers = block_numbers(allocated, ceil_div(virtual_size, cluster_size))
    name = backing_file.encode()
    l1_offset = cluster_size
    end = l1_offset + table
    pieces = [(HEADER_SIZE, name)]
    tables: dict[int, int] = {}
    for number in numbers:
        index, entry = divmod(number, table // 8)
        if index not in tables:
            tables[index] = end
            pieces.append((l1_offset + 8 * index, struct.pack("<Q", end)))
            end += table
        pieces.append((tables[index] + 8 * entry, struct.pack("<Q", end)))
        pieces.append((end, pattern(number)))
        end += cluster_size
    header = struct.pack(
        "<4sIIIQQQQQII",
        b"QED\0",
        cluster_size,
        table_size,
        1,
        features | (BACKING_FILE if name else 0),
        0,
        0,
        l1_offset,
        virtual_size,
        HEADER_SIZE if name else 0,
        len(name),
    )
    return Image.of(end, [(0, header), *pieces])
