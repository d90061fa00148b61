"""Regions of many pieces store the bytes of each piece, in any order."""

from hypothesis import given
from hypothesis import strategies as st

from keyhole.inspectors.formats.scattered import ScatteredRegion
from keyhole.inspectors.region import ByteRange

BYTES = bytes(range(256))


@given(
    st.lists(st.builds(ByteRange, st.integers(0, 255), st.integers(0, 40)), max_size=8),
    st.lists(st.tuples(st.integers(0, 255), st.integers(1, 100)), max_size=30),
    st.integers(0, 256),
)
def test_it_holds_what_was_put_and_wants_the_rest(
    pieces: list[ByteRange], puts: list[tuple[int, int]], size: int
) -> None:
    region = ScatteredRegion(pieces)
    wanted = {at for piece in pieces for at in range(piece.offset, piece.end)}
    seen: set[int] = set()
    for offset, length in puts:
        region.put(offset, BYTES[offset : offset + length])
        seen.update(range(offset, min(offset + length, 256)))
    assert region.length == len(wanted)
    assert region.held == len(wanted & seen)
    assert region.complete == (wanted <= seen)
    for end in (None, size):
        gaps = {at for gap in region.gaps(end) for at in range(gap.offset, gap.end)}
        assert gaps == {at for at in wanted - seen if end is None or at < end}
    for gap in region.gaps(256):
        region.put(gap.offset, BYTES[gap.offset : gap.end])
    assert region.data == bytes(at for at in range(256) if at in wanted)


def test_pieces_that_touch_are_fetched_as_one() -> None:
    region = ScatteredRegion([ByteRange(30, 10), ByteRange(10, 20), ByteRange(99, 0), ByteRange(15, 3)])
    assert region.gaps(None) == [ByteRange(10, 30)]
