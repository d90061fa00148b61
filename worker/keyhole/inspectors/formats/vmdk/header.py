r"""Parses the header of a sparse VMDK.

An image has a header at the front. If it has a footer, the footer contains a second header.

All fields are little-endian. A sector has 512 bytes.

| offset | bytes | field |
|---|---|---|
| 0 | 4 | magic `KDMV` |
| 4 | 4 | version, 1 to 3 |
| 8 | 4 | flags: 0x1 the line ends are valid; 0x2 the redundant grain directory is valid; 0x4 an entry of 1 in a grain table is a grain of zeros; 0x10000 grains are compressed |
| 12 | 8 | capacity in sectors |
| 20 | 8 | grain size in sectors |
| 28 | 8 | descriptor: first sector; zero in an extent of a split disk, because the disk's descriptor is another file |
| 36 | 8 | descriptor: length in sectors |
| 44 | 4 | entries in a grain table, 512 |
| 48 | 8 | redundant grain directory: first sector |
| 56 | 8 | grain directory: first sector; all ones if the valid header is in the footer |
| 64 | 8 | overhead: the number of sectors at the front that the metadata occupy |
| 72 | 1 | not zero after an unclean shutdown |
| 73 | 4 | line ends `\n`, space, `\r\n`, which show whether the file was transferred as text |
| 77 | 2 | compression: 0 none, 1 deflate |
"""  # noqa: E501 - the rows of the table are one line each

from struct import Struct
from typing import NamedTuple, Self

from keyhole.inspectors.fields import SECTOR

MAGIC = b"KDMV"
HEADER_BYTES = 512
#: The field for the grain directory's sector has this value if only the header in the footer states the
#: sector.
AT_END = 0xFFFFFFFFFFFFFFFF

FIELDS = Struct("<4sIIQQQQIQQQB4sH")
LINE_ENDS_VALID, REDUNDANT_VALID, ZERO_GRAINS, COMPRESSED = 0x1, 0x2, 0x4, 0x10000
LINE_ENDS = b"\n \r\n"
NO_COMPRESSION, DEFLATE = 0, 1

#: The grain size must be a power of two. The minimum comes from the specification, the maximum from QEMU
#: (block/vmdk.c, vmdk_add_extent).
MIN_GRAIN_SECTORS, MAX_GRAIN_SECTORS = 8, 0x200000
#: The number of entries in a grain table, according to the specification. QEMU also accepts fewer entries.
TABLE_ENTRIES = 512


class SparseHeader(NamedTuple):
    """The fields of a header, in the units of the header; see the table above."""

    magic: bytes
    version: int
    flags: int
    capacity: int
    grain: int
    descriptor: int
    descriptor_sectors: int
    table_entries: int
    redundant_directory: int
    directory: int
    overhead: int
    unclean: int
    line_ends: bytes
    compression: int

    @classmethod
    def parse(cls, sector: bytes) -> Self | None:
        """Return the header in a sector, or `None` if the sector is incomplete or has another magic."""
        if len(sector) < HEADER_BYTES or not sector.startswith(MAGIC):
            return None
        return cls(*FIELDS.unpack_from(sector))

    @property
    def compressed(self) -> bool:
        """Whether the flag for compressed grains is set."""
        return bool(self.flags & COMPRESSED)

    @property
    def method_agrees(self) -> bool:
        """Whether the compression method matches the flag for compressed grains.

        QEMU uses only the method.
        """
        return self.compression == (DEFLATE if self.compressed else NO_COMPRESSION)

    @property
    def line_ends_intact(self) -> bool:
        """Whether the line ends are unchanged; true if the flag for valid line ends is not set."""
        return not self.flags & LINE_ENDS_VALID or self.line_ends == LINE_ENDS

    @property
    def has_footer(self) -> bool:
        """Whether the image has a footer, whose header states the grain directory."""
        return self.directory == AT_END

    @property
    def grain_bytes(self) -> int:
        """The size of a grain in bytes."""
        return self.grain * SECTOR

    @property
    def table_bytes(self) -> int:
        """The size of a grain table in bytes."""
        return 4 * self.table_entries

    @property
    def tables_needed(self) -> int:
        """How many grain tables the capacity needs; zero if the header's sizes are out of bounds."""
        sound = MIN_GRAIN_SECTORS <= self.grain <= MAX_GRAIN_SECTORS and not self.grain & (self.grain - 1)
        if not sound or self.table_entries != TABLE_ENTRIES:
            return 0
        return -(-self.capacity // (self.grain * self.table_entries))

    @property
    def least_grain(self) -> int:
        """The lowest value of a grain table entry that is the sector of a grain.

        If the flag for grains of zeros is set, an entry of 1 means a grain of zeros. QEMU treats the entry in
        the same way.
        """
        return 2 if self.flags & ZERO_GRAINS else 1

    @property
    def first_directory(self) -> int:
        """The sector of the redundant grain directory if it is valid, or else of the grain directory."""
        return (self.flags & REDUNDANT_VALID and self.redundant_directory) or self.directory

    def agrees(self, footer: "SparseHeader") -> bool:
        """Return whether the footer's header equals this header.

        Fields are not compared if a writer knows their values only after it has written the grains.
        `VMDKInspector` compares the capacity.
        """
        late = footer._replace(
            capacity=self.capacity,
            redundant_directory=self.redundant_directory,
            directory=self.directory,
            overhead=self.overhead,
            unclean=self.unclean,
            line_ends=self.line_ends,
        )
        return late == self
