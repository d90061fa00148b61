"""The strip of ranges."""

from hypothesis import given
from hypothesis import strategies as st

from keyhole.dashboard.strip import WIDTH, strip

RANGES = st.lists(st.tuples(st.integers(-5, 1 << 70), st.integers(-5, 1 << 70)), max_size=40)


@given(RANGES, st.none() | st.integers(-1, 1 << 70))
def test_every_piece_lies_on_the_strip(ranges: list[tuple[int, int]], size: int | None) -> None:
    """A record can contain any numbers."""
    found = strip(ranges, size)

    if found is None:
        return
    assert 0 < found.read <= found.size
    for piece in found.pieces:
        assert piece.width > 0
        assert 0 <= piece.x <= piece.x + piece.width <= WIDTH + 0.02


def test_a_range_of_a_large_object_is_visible() -> None:
    found = strip([(0, 512), ((1 << 50) - 512, 512)], 1 << 50)

    assert found is not None
    assert [(piece.x, piece.width) for piece in found.pieces] == [(0, 4), (996, 4)]
