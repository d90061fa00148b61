"""The block table of a dynamic VHD, which states the place of each block and of the bitmap before it.

Source: Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0, sections "Dynamic Disk Header
Format", "Block Allocation Table" and "Data Blocks". All fields are big-endian.

| offset | bytes | field of a parent locator; the dynamic header has 8 of them, from 576 on |
|---|---|---|
| 0 | 4 | platform code; 0 if there is no locator |
| 4 | 4 | space for the locator, in bytes (some writers state sectors) |
| 8 | 4 | length of the locator in bytes |
| 16 | 8 | offset of the locator |
"""

from collections.abc import Iterator
from struct import unpack_from
from typing import NamedTuple

from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.formats.allocated import allocated
from keyhole.inspectors.formats.layout import Blocks, Part
from keyhole.inspectors.region import ByteRange

#: The value of an entry whose block is not allocated.
FREE = (b"\xff\xff\xff\xff",)
LOCATORS_AT, LOCATORS_END, LOCATOR_BYTES = 576, 768, 24


class BlockTable(NamedTuple):
    """The block table that the dynamic header describes, and the entries that have been read.

    Attributes:
        offset: The offset of the table in bytes.
        blocks_count: The number of entries.
        block: The size of a block in bytes, without its bitmap.
        blocks: The allocated blocks, each with its bitmap, according to the entries that have been read.
        locators: The parent locators in the dynamic header.
    """

    offset: int
    blocks_count: int
    block: int
    blocks: Blocks
    locators: bytes

    @classmethod
    def of(cls, header: bytes, held: bytes) -> "BlockTable":
        """Return the table that a dynamic header of 1,024 bytes describes.

        `held` contains the bytes of the table that have been read.
        """
        offset, _, count, block = unpack_from(">QIII", header, 16)
        # The bitmap has one bit for each sector and fills whole sectors.
        length = -(-block // (8 * SECTOR * SECTOR)) * SECTOR + block
        blocks = Blocks("a block", allocated("I", "big", held, FREE), length, unit=SECTOR)
        return cls(offset, count, block, blocks, header[LOCATORS_AT:LOCATORS_END])

    @property
    def end(self) -> int:
        """The offset of the first byte after the table."""
        return self.offset + 4 * self.blocks_count

    @property
    def block_is_sound(self) -> bool:
        """Whether the block size is a power of two and at least one sector."""
        return self.block >= SECTOR and not self.block & (self.block - 1)

    @property
    def blocks_end(self) -> int:
        """The offset of the first byte after the last block.

        It is zero if no block is allocated, or if the last block is at sector 0, where no valid block can be.
        """
        return self.blocks.end if self.blocks.end > self.blocks.length else 0

    def parts(self) -> Iterator[Part]:
        """Yield the table and the parent locators that the dynamic header describes."""
        yield Part(self.offset, self.end, "the block table")
        for at in range(0, len(self.locators), LOCATOR_BYTES):
            code, length, start = unpack_from(">I4xI4xQ", self.locators, at)
            if code:
                yield Part(start, start + length, "a parent locator")


def place_of_table(header: bytes) -> ByteRange:
    """Return the range of the block table, according to a dynamic header of 1,024 bytes."""
    offset, count = unpack_from(">Q4xI", header, 16)
    return ByteRange(offset, 4 * count)
