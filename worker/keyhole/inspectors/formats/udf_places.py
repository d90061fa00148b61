"""Find the anchor and the descriptors of a UDF volume on a disc.

The anchor is the descriptor that points to the other descriptors. The anchor is usually in block 256. But no
field states the block size, so the offset of this block is unknown at first. The recognition sequence (the
first descriptors of the disc) shows which block sizes are possible. Keyhole searches block 256 for each of
these block sizes. If no anchor is found, Keyhole searches the last block N, and the block N - 256. All tools
write an anchor to block 256, but on a rewritable disc, other data may have overwritten this anchor.
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

#: The name of the region at the object's end. It contains the whole last block for every block size.
END = "udf_end"


class UDFPlaces:
    """The structures of a UDF volume on a disc.

    Args:
        disc: The disc's inspector, in which the regions for the structures are declared.
        begin: The offset where a region that `disc` declares begins. This region ends at `front_at`.
        front_at: The offset where the region `front` begins, which this class declares. The bytes of this
            region cost no additional range request.
        end: The offset where the region `front` ends.
    """

    def __init__(self, disc: FileInspector, begin: int, front_at: int, end: int) -> None:
        self._disc = disc
        self._begin = begin
        self._front_at = front_at
        self._end = end

    @staticmethod
    def there(identifiers: Sequence[bytes]) -> bool:
        """Return whether the recognition sequence shows that there is a UDF volume."""
        return any(name in identifiers for name in RECOGNISED)

    def declare(self, identifiers: Sequence[bytes]) -> None:
        """Declare the next regions to read, once the recognition sequence has been read.

        Args:
            identifiers: The identifiers in the recognition sequence; see `block_sizes`.
        """
        groups = block_sizes(identifiers)
        if groups[0][0] <= APART:
            # The region `front` contains UDF structures only if blocks have at most 2,048 bytes.
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
        """Return the anchor in block 256, or else in the last block N, or else in block N - 256."""
        sizes = [block_size for group in block_sizes(identifiers) for block_size in group]
        for where in (self._first, self._last, self._before_last):
            for block_size in sizes:
                anchor = where(block_size)
                if anchor is not None:
                    return anchor
        return None

    def volume(self, identifiers: Sequence[bytes], front: bytes) -> Volume | None:
        """Return the volume, or `None` until its main sequence has been read.

        Args:
            identifiers: The identifiers in the recognition sequence; see `block_sizes`.
            front: The bytes of the object from `begin` on.
        """
        anchor = self.anchor(identifiers)
        if anchor is None or not self._disc.filled("front" if self._in_front(anchor) else "sequence"):
            return None
        if not self._in_front(anchor):
            return read_sequence(self._disc.captured("sequence"), anchor)
        offset, length = anchor.read
        return read_sequence(front[offset - self._begin : offset - self._begin + length], anchor)

    def no_anchor(self, identifiers: Sequence[bytes]) -> Iterator[Finding]:
        """Yield a finding on the missing anchor, once all blocks that can contain it have been read."""
        sizes = [block_size for group in block_sizes(identifiers) for block_size in group]
        names = [*map(_name, sizes), END, *(_name(size, "before_last") for size in sizes)]
        if not all(map(self._disc.filled, names)):
            return
        if any(len(self._disc.captured(name)) < DESCRIPTOR_BYTES for name in map(_name, sizes)):
            yield found("truncated", "the object ends before the anchor of the UDF volume")
        else:
            yield found(
                "unsupported_subformat", "none of the usual blocks contains an anchor of the UDF volume"
            )

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
        """Return the number of the object's last whole block.

        Call it only once the region `END` has been captured, because the object's length is known only then.
        """
        return self._disc.actual_size // block_size - 1

    def _in_front(self, anchor: Anchor) -> bool:
        """Return whether the anchor's main sequence is in the captured bytes from `begin` to `end`."""
        return (
            anchor.block_size <= APART and anchor.read.offset >= self._begin and anchor.read.end <= self._end
        )


def _name(block_size: int, which: str = "first") -> str:
    return f"anchor_{which}_{block_size}"
