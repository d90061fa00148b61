"""The compressed loopback image, cloop, version 2. All fields are big-endian.

Source: QEMU, block/cloop.c, cloop_probe, cloop_open, cloop_read_block. An image begins with a shell script,
the preamble. The source of the older preamble is cloop, create_compressed_fs.c, CLOOP_PREAMBLE.

| offset | bytes | field |
|---|---|---|
| 0 | 128 | the preamble: a shell script that mounts the image, and zeros |
| 128 | 4 | block size in bytes, a multiple of 512, at most 64 MiB |
| 132 | 4 | number of blocks |
| 136 | 8 each | offset of each block, and then the offset where the last block ends |

Each block is a separate zlib stream. The virtual size is the number of blocks times the block size.

Wholeness: the last entry of the offset table is the offset where the data end. The object must contain all
data up to this offset. If the table is longer than `MAX_TABLE_BYTES`, only its beginning and its end are
read. In this case, the order of the entries between these two parts is not checked.
"""

from array import array
from collections.abc import Iterator, Mapping
from itertools import islice
from operator import sub

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR, big_endian
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.ascending import rises
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.region import CaptureRegion

PREAMBLE = b"#!/bin/sh\n#V2.0 Format\n"
#: The beginning of the preamble's third line, in the current preamble and in the older preamble.
COMMANDS = (b"modprobe cloop ", b"insmod cloop")
HEADER_BYTES = 136

#: At most this many bytes are read from the beginning of the offset table: 16,384 entries, which map 1 GiB
#: of the disk with blocks of 64 KiB.
MAX_TABLE_BYTES = 128 * 1024
#: If the table is longer than `MAX_TABLE_BYTES`, at most this many bytes are read from its end. The last
#: entry states where the data end, so it is needed to determine the wholeness.
MAX_TABLE_END_BYTES = 64 * 1024
#: QEMU's limits (cloop_open).
MAX_BLOCK_BYTES = 64 * 1024 * 1024
MAX_COMPRESSED_BYTES = 2 * MAX_BLOCK_BYTES
MAX_OFFSETS_BYTES = 512 * 1024 * 1024
#: The maximum number of sectors of the disk. QEMU stores this number in 32 bits and would compute a wrong
#: size for a larger disk.
MAX_SECTORS = 2**32 - 1


class CloopInspector(HeaderInspector):
    """Inspects cloop version 2.

    The header states the virtual size. The offset table states where the data end.
    """

    NAME = "cloop"
    HEADER_LENGTH = HEADER_BYTES
    BYTE_ORDER = "big"

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Return whether an object that begins with `prefix` has a preamble of cloop version 2."""
        return prefix.startswith(PREAMBLE) and prefix.startswith(COMMANDS, len(PREAMBLE))

    @property
    def virtual_size(self) -> int:
        """The total size of all blocks in bytes; zero until the header has been read."""
        known = self.format_match and len(self.region("header").data) == HEADER_BYTES
        return self._block_bytes * self._blocks if known else 0

    @property
    def subformat(self) -> str | None:
        """`V2.0`, the only version that Keyhole recognises."""
        return "V2.0" if self.format_match else None

    def post_process(self) -> None:
        """Declare regions for the beginning and the end of the offset table."""
        if not self._usable or self.has_region("offsets"):
            return
        length = self._table_end - HEADER_BYTES
        end_length = min(max(0, length - MAX_TABLE_BYTES), MAX_TABLE_END_BYTES)
        self.new_region("offsets", CaptureRegion(HEADER_BYTES, min(length, MAX_TABLE_BYTES)))
        self.new_region("offsets_end", CaptureRegion(self._table_end - end_length, end_length))

    @property
    def wholeness(self) -> Wholeness:
        """`PROVEN` if the object contains all data up to the offset in the table's last entry.

        A thorough inspector must also check the order of all entries. If it read only a part of the table,
        the result is `SAMPLED`.
        """
        if self._size is None or not self._table_filled or self._end > self._size:
            return Wholeness.UNCHECKED
        held = self.region("offsets").length + self.region("offsets_end").length
        return Wholeness.SAMPLED if self.thorough and held < 8 * (self._blocks + 1) else Wholeness.PROVEN

    def details(self) -> Mapping[str, object]:
        """The block size and the number of blocks."""
        if not self._usable:
            return {}
        return {"block_size": self._block_bytes, "blocks": self._blocks}

    def checks(self) -> list[Finding]:
        """Return findings on sizes out of bounds, on offsets that are out of order, and on missing data."""
        if not self.format_match or not self.filled("header"):
            return []
        if len(self.captured("header")) < HEADER_BYTES:
            return [found("truncated", "the object ends within the cloop header")]
        if not self._usable:
            return [found("structure", "the header's block size or number of blocks is out of bounds")]
        return [*self._contradictions(), *self._needs(self._end)]

    def _contradictions(self) -> Iterator[Finding]:
        begin, end = big_endian("Q", self.captured("offsets")), big_endian("Q", self.captured("offsets_end"))
        if begin and begin[0] < self._table_end:
            yield found("metadata_overlap", "the first block overlaps the offset table")
        offsets = begin + end
        in_order = rises(offsets, 0)
        if not in_order:
            yield found("structure", "the offsets of the blocks are not in ascending order")
        # A block's length is the difference between its offset and the next offset. If only the beginning and
        # the end of the table were read, the last offset of the beginning and the first offset of the end do
        # not belong to adjacent blocks. In this case, the lengths are computed for each part separately.
        gap = end and len(offsets) <= self._blocks
        if any(
            _longest(part, in_order) > MAX_COMPRESSED_BYTES for part in ((begin, end) if gap else (offsets,))
        ):
            yield found("structure", f"a compressed block has more than {MAX_COMPRESSED_BYTES} bytes")

    # The header's fields

    @property
    def _usable(self) -> bool:
        """Whether the header has been read and its sizes are within QEMU's limits.

        If not, Keyhole does not read the offset table.
        """
        return (
            self.format_match
            and len(self.captured("header")) == HEADER_BYTES
            and 0 < self._block_bytes <= MAX_BLOCK_BYTES
            and not self._block_bytes % SECTOR
            and self._table_end - HEADER_BYTES <= MAX_OFFSETS_BYTES
            and self._blocks * (self._block_bytes // SECTOR) <= MAX_SECTORS
        )

    @property
    def _block_bytes(self) -> int:
        return self._u32(128)

    @property
    def _blocks(self) -> int:
        return self._u32(132)

    @property
    def _table_end(self) -> int:
        return HEADER_BYTES + 8 * (self._blocks + 1)

    # The offset table

    @property
    def _table_filled(self) -> bool:
        return self.filled("offsets") and self.filled("offsets_end")

    @property
    def _end(self) -> int:
        """The offset where the last block ends, or where the offset table ends, whichever is higher.

        The object must have at least this length in bytes.
        """
        last = self.captured("offsets_end" if self.region("offsets_end").length else "offsets")
        entries = big_endian("Q", last)
        return max(self._table_end, entries[-1] if entries else 0)


def _longest(offsets: "array[int]", in_order: bool) -> int:
    """Return the length of the longest block in bytes.

    If the total length of all blocks is within the limit for one block, return the total length instead: it
    is faster to compute, and it proves that every block is within the limit.
    """
    if in_order and offsets and offsets[-1] - offsets[0] <= MAX_COMPRESSED_BYTES:
        return offsets[-1] - offsets[0]
    return max(map(sub, islice(offsets, 1, None), offsets), default=0)
