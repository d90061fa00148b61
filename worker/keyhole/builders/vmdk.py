r"""Builds images in VMDK, VMware's format: sparse extents, stream-optimized extents, and text descriptors.

Sparse extent header, at byte 0 (little-endian; VMware "Virtual Disk Format 5.0", "Hosted Sparse Extents")::

     0  "KDMV"                      4  version u32                      8  flags u32
    12  capacity u64, sectors      20  grain u64, sectors
    28  descriptor offset u64      36  descriptor length u64, sectors
    44  entries per grain table u32 = 512
    48  redundant grain directory u64, sector
    56  grain directory u64, sector; all ones: see the footer
    64  overhead u64, sectors      72  unclean shutdown u8
    73  "\n", " ", "\r\n", which a transfer as text damages         77  compression u16: 0 none, 1 deflate

A directory entry u32 is the sector of a grain table. A table entry u32 is the sector of a grain. 0 means that
the extent does not store the table or the grain.

A stream-optimized extent (section "Stream-Optimized Compressed Sparse Extents") can be written in one pass.
The grains of such an extent are compressed. The sector number and the length of a grain precede the grain. A
grain table follows the grains that it maps. Then come the grain directory, the footer and the end of the
stream.

A marker of one sector precedes each table, the directory and the footer. The last marker ends the stream. A
marker is: length in sectors u64, 0 u32, type u32 (1 grain table, 2 grain directory, 3 footer, 0 end of
stream). The footer is a copy of the header, except that it states the sector of the grain directory. The
footer is in the second to last sector.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from keyhole.builders.guest import SECTOR, Allocated, block_numbers, pattern
from keyhole.builders.image import Image, ceil_div, round_up

GRAIN_SECTORS = 128
GRAIN_SIZE = GRAIN_SECTORS * SECTOR
TABLE_ENTRIES = 512
TABLE_SECTORS = TABLE_ENTRIES * 4 // SECTOR
DESCRIPTOR_SECTORS = 20
IN_FOOTER = 0xFFFFFFFFFFFFFFFF

NEWLINE_TEST, REDUNDANT_TABLES = 1 << 0, 1 << 1
COMPRESSED, MARKERS = 1 << 16, 1 << 17

END_OF_STREAM, GRAIN_TABLE, GRAIN_DIRECTORY, FOOTER = 0, 1, 2, 3

#: The value of parentCID for a disk without a parent.
NO_PARENT = "ffffffff"


def vmdk_sparse(
    virtual_size: int,
    *,
    create_type: str = "monolithicSparse",
    extent_line: str | None = None,
    parent_cid: str = NO_PARENT,
    extra_lines: Sequence[str] = (),
    descriptor: bytes | None = None,
    descriptor_sector: int = 1,
    allocated: Allocated = 0,
) -> Image:
    """Return a sparse extent of `virtual_size` bytes with an embedded descriptor.

    VMware's hosted products write such extents. The extent stores the `allocated` grains, and the first
    sector of each stored grain contains a test pattern. `descriptor_sector` is the sector of the descriptor.
    QEMU ignores this field of the header, and always reads the descriptor at sector 1. `descriptor` replaces
    the whole text of the descriptor. In the default text, `extent_line` replaces the only extent line, and
    `extra_lines` are added at the end.
    """
    capacity = ceil_div(virtual_size, SECTOR)
    grains = block_numbers(allocated, ceil_div(virtual_size, GRAIN_SIZE))
    tables = ceil_div(virtual_size, GRAIN_SIZE * TABLE_ENTRIES)
    if descriptor is None:
        descriptor = _descriptor(capacity, create_type, extent_line, parent_cid, extra_lines)
    descriptor_sectors = max(DESCRIPTOR_SECTORS, ceil_div(len(descriptor), SECTOR))

    directory_sectors = ceil_div(tables * 4, SECTOR)
    redundant = descriptor_sector + descriptor_sectors
    primary = redundant + directory_sectors + tables * TABLE_SECTORS
    overhead = round_up(primary + directory_sectors + tables * TABLE_SECTORS, GRAIN_SECTORS)
    header = _Header(
        version=1,
        flags=NEWLINE_TEST | REDUNDANT_TABLES,
        capacity=capacity,
        descriptor=(descriptor_sector, descriptor_sectors),
        redundant_directory=redundant,
        directory=primary,
        overhead=overhead,
        compression=0,
    )
    place = {grain: overhead + index * GRAIN_SECTORS for index, grain in enumerate(grains)}
    pieces = [(0, header.packed()), (descriptor_sector * SECTOR, descriptor)]
    for directory in (redundant, primary):
        first_table = directory + directory_sectors
        table_sectors = range(first_table, first_table + tables * TABLE_SECTORS, TABLE_SECTORS)
        pieces.append((directory * SECTOR, struct.pack(f"<{tables}I", *table_sectors)))
        pieces += [
            (first_table * SECTOR + 4 * grain, struct.pack("<I", sector)) for grain, sector in place.items()
        ]
    pieces += [(sector * SECTOR, pattern(grain)) for grain, sector in place.items()]
    return Image.of((overhead + len(grains) * GRAIN_SECTORS) * SECTOR, pieces)


def vmdk_stream_optimized(virtual_size: int, *, allocated: Allocated = 0) -> Image:
    """Return a stream-optimized extent of `virtual_size` bytes. OVA files contain such extents.

    The extent stores the `allocated` grains compressed. The first sector of each stored grain contains a test
    pattern.
    """
    capacity = ceil_div(virtual_size, SECTOR)
    grains = sorted(block_numbers(allocated, ceil_div(virtual_size, GRAIN_SIZE)))
    tables = ceil_div(virtual_size, GRAIN_SIZE * TABLE_ENTRIES)
    descriptor = _descriptor(capacity, "streamOptimized", None, NO_PARENT, ())
    header = _Header(
        version=3,
        flags=NEWLINE_TEST | COMPRESSED | MARKERS,
        capacity=capacity,
        descriptor=(1, DESCRIPTOR_SECTORS),
        redundant_directory=0,
        directory=IN_FOOTER,
        overhead=GRAIN_SECTORS,
        compression=1,
    )
    stream = _Stream(GRAIN_SECTORS)
    directory = [0] * tables
    for table, members in groupby(grains, key=lambda grain: grain // TABLE_ENTRIES):
        entries = [0] * TABLE_ENTRIES
        for grain in members:
            entries[grain % TABLE_ENTRIES] = stream.grain(grain)
        directory[table] = stream.marked(GRAIN_TABLE, struct.pack(f"<{TABLE_ENTRIES}I", *entries))
    directory_sector = stream.marked(GRAIN_DIRECTORY, struct.pack(f"<{tables}I", *directory))
    stream.marked(FOOTER, header.packed(directory=directory_sector))
    stream.marked(END_OF_STREAM, b"")
    pieces = [(0, header.packed()), (SECTOR, descriptor), *stream.pieces]
    return Image.of(stream.sector * SECTOR, pieces)


def vmdk_flat_descriptor(text: str) -> Image:
    """Return a file that contains only the text descriptor of a disk, whose extents are in other files."""
    data = text.encode()
    return Image.of(len(data), [(0, data)])


def _descriptor(
    capacity: int, create_type: str, extent_line: str | None, parent_cid: str, extra_lines: Iterable[str]
) -> bytes:
    lines = [
        "# Disk DescriptorFile",
        "version=1",
        "CID=6b657968",
        f"parentCID={parent_cid}",
        f'createType="{create_type}"',
        "",
        "# Extent description",
        f'RW {capacity} SPARSE "sample.vmdk"' if extent_line is None else extent_line,
        "",
        "# The Disk Data Base",
        "#DDB",
        "",
        'ddb.virtualHWVersion = "4"',
        f'ddb.geometry.cylinders = "{min(16383, capacity // (16 * 63))}"',
        'ddb.geometry.heads = "16"',
        'ddb.geometry.sectors = "63"',
        'ddb.adapterType = "ide"',
        *extra_lines,
        "",
    ]
    return "\n".join(lines).encode()


@dataclass(frozen=True, slots=True)
class _Header:
    """The header of a sparse extent. All places and lengths are in sectors."""

    version: int
    flags: int
    capacity: int
    descriptor: tuple[int, int]
    redundant_directory: int
    directory: int
    overhead: int
    compression: int

    def packed(self, *, directory: int | None = None) -> bytes:
        """Return the header's bytes. For a footer, `directory` is the sector of the grain directory."""
        return struct.pack(
            "<4sIIQQQQIQQQB4sH",
            b"KDMV",
            self.version,
            self.flags,
            self.capacity,
            GRAIN_SECTORS,
            *self.descriptor,
            TABLE_ENTRIES,
            self.redundant_directory,
            self.directory if directory is None else directory,
            self.overhead,
            0,
            b"\n \r\n",
            self.compression,
        )


class _Stream:
    """Writes the parts of a stream-optimized extent that follow the header and the descriptor."""

    def __init__(self, first_sector: int) -> None:
        self.sector = first_sector
        self.pieces: list[tuple[int, bytes]] = []

    def grain(self, number: int) -> int:
        """Write one compressed grain. Return the grain's sector."""
        data = zlib.compress(pattern(number).ljust(GRAIN_SIZE, b"\0"))
        return self._put(struct.pack("<QI", number * GRAIN_SECTORS, len(data)) + data)

    def marked(self, kind: int, data: bytes) -> int:
        """Write a marker and the metadata that follow it. Return the sector of the metadata."""
        self._put(struct.pack("<QII", ceil_div(len(data), SECTOR), 0, kind).ljust(SECTOR, b"\0"))
        return self._put(data)

    def _put(self, data: bytes) -> int:
        at = self.sector
        self.pieces.append((at * SECTOR, data))
        self.sector += ceil_div(len(data), SECTOR)
        return at
