"""The block allocation table (BAT) of a VHDX: where the disk's blocks and their sector bitmaps lie.

Source: Microsoft, [MS-VHDX], section 2.5. Each entry has 8 bytes, little-endian: the state in bits 0 to 2,
the offset in MiB from bit 20 on. The chunk ratio says how many data blocks share a sector bitmap block. The
BAT has the entries of that many data blocks, then the entry of their bitmap block, and so on.
"""

from array import array
from typing import NamedTuple

from keyhole.inspectors.effort import CALL, spend
from keyhole.inspectors.fields import little_endian
from keyhole.inspectors.formats.layout import Blocks
from keyhole.inspectors.formats.vhdx.metadata import Disk
from keyhole.inspectors.formats.vhdx.tables import MIB

#: The bits of a BAT entry that hold its state.
STATE = 7
FULLY_PRESENT, PARTIALLY_PRESENT = 6, 7


class Bat(NamedTuple):
    """The offsets of the blocks and of the sector bitmaps that are present, in MiB.

    `partial` says whether the content of some block lies partly in a parent image.
    """

    blocks: "array[int]"
    bitmaps: "array[int]"
    block_size: int
    partial: bool

    @classmethod
    def of(cls, table: bytes, disk: Disk) -> "Bat":
        """The BAT, as far as `table` holds it and the disk needs it."""
        ratio = disk.chunk_ratio
        spend(CALL)
        blocks = little_endian("Q", table[: 8 * disk.bat_entries])
        bitmaps = blocks[ratio :: ratio + 1]
        del blocks[ratio :: ratio + 1]
        partial = any(one & STATE == PARTIALLY_PRESENT for one in blocks)
        return cls(_present(blocks), _present(bitmaps), disk.block_size, partial)

    @property
    def end(self) -> int:
        """The end of the last block or bitmap, in bytes; zero if there is none."""
        pairs = ((self.blocks, self.block_size), (self.bitmaps, MIB))
        return max((max(places) * MIB + length for places, length in pairs if places), default=0)

    def structures(self) -> tuple[Blocks, Blocks]:
        """The blocks and the bitmaps, for the check that nothing overlaps."""
        return (
            Blocks("a block", self.blocks, self.block_size, unit=MIB),
            Blocks("a sector bitmap", self.bitmaps, MIB, unit=MIB),
        )


def _present(entries: "array[int]") -> "array[int]":
    return array("Q", (one >> 20 for one in entries if one & STATE >= FULLY_PRESENT))
