"""The block allocation table (BAT) of a VHDX: the places of the disk's blocks and of their sector bitmaps.

Source: Microsoft, [MS-VHDX], section 2.5. Each entry has 8 bytes, little-endian: the state in bits 0 to 2,
the offset in MiB from bit 20 on. The chunk ratio is the number of data blocks that share one sector bitmap
block. The BAT consists of groups: the entries of the data blocks that share a bitmap block, then the entry of
this bitmap block.
"""

from array import array
from sys import byteorder
from typing import NamedTuple

from keyhole.inspectors.fields import little_endian
from keyhole.inspectors.formats.allocated import allocated
from keyhole.inspectors.formats.layout import Blocks
from keyhole.inspectors.formats.vhdx.metadata import Disk
from keyhole.inspectors.formats.vhdx.tables import MIB

#: The bits of a BAT entry that contain its state.
STATE = 7
FULLY_PRESENT, PARTIALLY_PRESENT = 6, 7
#: The BAT entries of blocks that are not stored in the image, as bytes. The states of these blocks are 0 not
#: present, 1 undefined, 2 zeros, 3 unmapped.
NOT_PRESENT = tuple(state.to_bytes(8, byteorder) for state in range(4))


class Bat(NamedTuple):
    """The offsets of the blocks and the sector bitmaps that are present, in MiB.

    `block_size` is in bytes. `partial` is true if part of a block's content is in a parent image.
    """

    blocks: "array[int]"
    bitmaps: "array[int]"
    block_size: int
    partial: bool

    @classmethod
    def of(cls, table: bytes, disk: Disk) -> "Bat":
        """Return the BAT of a disk.

        `table` contains the bytes of the BAT that have been read. Entries that the disk does not need are
        ignored.
        """
        ratio = disk.chunk_ratio
        entries = little_endian("Q", table[: 8 * disk.bat_entries])
        bitmaps = _allocated(entries[ratio :: ratio + 1])
        del entries[ratio :: ratio + 1]
        blocks = _allocated(entries)
        partial = any(one & STATE == PARTIALLY_PRESENT for one in blocks)
        return cls(_present(blocks), _present(bitmaps), disk.block_size, partial)

    @property
    def end(self) -> int:
        """The end of the last block or bitmap, in bytes; zero if no block and no bitmap is present."""
        pairs = ((self.blocks, self.block_size), (self.bitmaps, MIB))
        return max((max(places) * MIB + length for places, length in pairs if places), default=0)

    def structures(self) -> tuple[Blocks, Blocks]:
        """Return the blocks and the bitmaps in the form in which `overlaps` compares them."""
        return (
            Blocks("a block", self.blocks, self.block_size, unit=MIB),
            Blocks("a sector bitmap", self.bitmaps, MIB, unit=MIB),
        )


def _allocated(entries: "array[int]") -> "array[int]":
    return allocated("Q", byteorder, entries.tobytes(), NOT_PRESENT)


def _present(entries: "array[int]") -> "array[int]":
    return array("Q", [one >> 20 for one in entries if one & STATE >= FULLY_PRESENT])
