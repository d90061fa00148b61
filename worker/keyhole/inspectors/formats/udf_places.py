"""Looks for the anchor and the descriptors of a UDF volume in their places on a disc.

First, block 256 is searched for an anchor, for each block size that the recognition sequence allows. Only if
there is none, the last block is searched, and then the block 256 blocks before it. No tool omits the anchor
in block 256, but a rewritable disc may have lost it.
"""

from collections.abc import Iterator, Sequence

from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.udf import (
    ANCHOR_BLOCK,
    APART,
    DESCRIPTOR_BYTES,
    LARGEST_BLOCK,
    RECOGNISED,
    Anchor,
    Volume,
    anchor_at,
    block_sizes,
    read_sequence,
)
from keyhole.inspectors.region import CaptureRegion, TailRegion

#: The name of the region at the object's end, which holds the whole last block for any block size.
END = "udf_end"


class UDFPlaces:
    """A UDF volume on a disc, in regions of the disc's inspector.

    Args:
        disc: The disc's inspector, which holds the regions.
        begin: The inspector captures all bytes of the object from this offset up to `front_at`.
        front_at: All bytes from this offset up to `end` are captured, too, without a further range request.
        end: See `front_at`.
    """

    def __init__(self, disc: FileInspector, begin: int, front_at: int, end: int) -> None:
        self._disc = disc
        self._begin = begin
        self._front_at = front_at
        self._end = end

    @staticmethod
    def there(identifiers: Sequence[bytes]) -> bool:
        """Whether a recognition sequence says that there is a UDF volume."""
        return any(name in identifiers for name in RECOGNISED)

    def declare(self, identifiers: Sequence[bytes]) -> None:
        """Declare the next regions that are wanted of a volume whose recognition sequence is held."""
        groups = block_sizes(identifiers)
        if groups[0][0] <= APART:
            # With larger blocks this part holds no structures.
            self._want("front", self._front_at, self._end - self._front_at)
        for group in groups:
            for block_size in group:
                self._want(_name(block_size), ANCHOR_BLOCK * block_size, block_size)
            if not all(self._disc.filled(_name(block_size)) for block_size in group):
                return
            if any(self._first(block_size) for block_size in group):
                break
        else:
            self._declare_end(identifiers)
        anchor = self.anchor(identifiers)
        if anchor is not None and not self._in_front(anchor):
            self._want("sequence", *anchor.read)

    def anchor(self, identifiers: Sequence[bytes]) -> Anchor | None:
        """The first anchor that is found: in block 256, in the last block, or 256 blocks before it."""
        sizes = [block_size for group in block_sizes(identifiers) for block_size in group]
        for where in (self._first, self._last, self._before_last):
            for block_size in sizes:
                anchor = where(block_size)
                if anchor is not None:
                    return anchor
        return None

    def volume(self, identifiers: Sequence[bytes], front: bytes) -> Volume | None:
        """The volume, once its main sequence is held; `front` has the object's bytes from `begin` on."""
        anchor = self.anchor(identifiers)
        if anchor is None or not self._disc.filled("front" if self._in_front(anchor) else "sequence"):
            return None
        if not self._in_front(anchor):
            return read_sequence(self._disc.captured("sequence"), anchor)
        offset, length = anchor.read
        return read_sequence(front[offset - self._begin : offset - self._begin + length], anchor)

    def no_anchor(self, identifiers: Sequence[bytes]) -> Iterator[Finding]:
        """Yield a finding on the missing anchor, once all of its places are held."""
        sizes = [block_size for group in block_sizes(identifiers) for block_size in group]
        names = [*map(_name, sizes), END, *(_name(size, "before_last") for size in sizes)]
        if not all(map(self._disc.filled, names)):
            return
        if any(len(self._disc.captured(name)) < DESCRIPTOR_BYTES for name in map(_name, sizes)):
            yield found("truncated", "the object ends before the anchor of the UDF volume")
        else:
            yield found("unsupported_subformat", "the UDF volume has no anchor in any of its places")

    def _declare_end(self, identifiers: Sequence[bytes]) -> None:
        if not self._disc.has_region(END):
            self._disc.new_region(END, TailRegion(2 * LARGEST_BLOCK))
        if not self._disc.filled(END):
            return
        for block_size in (size for group in block_sizes(identifiers) for size in group):
            block = max(0, self._last_block(block_size) - ANCHOR_BLOCK)
            self._want(_name(block_size, "before_last"), block * block_size, block_size)

    def _want(self, name: str, offset: int, length: int) -> None:
        if not self._disc.has_region(name):
            self._disc.new_region(name, CaptureRegion(offset, length))

    def _first(self, block_size: int) -> Anchor | None:
        return anchor_at(self._disc.captured(_name(block_size)), block_size, ANCHOR_BLOCK)

    def _last(self, block_size: int) -> Anchor | None:
        if not self._disc.filled(END):
            return None
        block = self._last_block(block_size)
        at = block * block_size - self._disc.region(END).offset
        return anchor_at(self._disc.captured(END)[at:], block_size, block) if at >= 0 else None

    def _before_last(self, block_size: int) -> Anchor | None:
        if not self._disc.filled(END):
            return None
        data = self._disc.captured(_name(block_size, "before_last"))
        return anchor_at(data, block_size, self._last_block(block_size) - ANCHOR_BLOCK)

    def _last_block(self, block_size: int) -> int:
        """The number of the object's last whole block. The object's length is known: its end is held."""
        return self._disc.actual_size // block_size - 1

    def _in_front(self, anchor: Anchor) -> bool:
        """Whether the main sequence lies within the part of the front that is captured."""
        return (
            anchor.block_size <= APART and anchor.read.offset >= self._begin and anchor.read.end <= self._end
        )


def _name(block_size: int, which: str = "first") -> str:
    return f"anchor_{which}_{block_size}"
