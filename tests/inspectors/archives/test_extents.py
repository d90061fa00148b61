"""The map of a file's extents gives the same bytes as the plain file."""

from hypothesis import given
from hypothesis import strategies as st

from keyhole.inspectors.extents import ExtentMap, JoinedExtents


@st.composite
def single_maps(draw: st.DrawFn, place: int = 100) -> tuple[ExtentMap, list[int | None]]:
    """A map of a contiguous file, and the offset of each of its bytes."""
    plan = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(0, 3)), max_size=6))
    places: list[int | None] = []
    added = []
    for hole, length, gap in plan:
        places += [None] * hole
        place += gap
        added.append((len(places), length, place))
        places += range(place, place + length)
        place += length
    places += [None] * draw(st.integers(0, 3))
    extents = ExtentMap(len(places))
    for one in added:
        extents.add(*one)
    return extents, places


@st.composite
def joined_maps(draw: st.DrawFn) -> tuple[ExtentMap, list[int | None]]:
    """A map of a file in pieces, in any order, and the offset of each of its bytes."""
    order = draw(st.permutations(range(draw(st.integers(0, 3)))))
    pieces = [draw(single_maps(100 + 50 * turn)) for turn in order]
    return JoinedExtents(one for one, _ in pieces), [place for _, places in pieces for place in places]


maps = st.one_of(single_maps(), joined_maps())


@given(maps, st.integers(0, 90), st.integers(0, 90))
def test_a_part_of_the_file_lies_where_its_bytes_do(
    drawn: tuple[ExtentMap, list[int | None]], offset: int, end: int
) -> None:
    extents, places = drawn
    stored = {
        part.offset + at: part.place + at for part in extents.within(offset, end) for at in range(part.length)
    }
    holes = {at for start, stop in extents.holes(offset, end) for at in range(start, stop)}
    wanted = dict(enumerate(places[offset:end], offset))
    assert stored == {at: place for at, place in wanted.items() if place is not None}
    assert holes == {at for at, place in wanted.items() if place is None}


@given(maps, st.integers(95, 240), st.integers(95, 240))
def test_a_part_of_the_container_holds_the_bytes_that_lie_there(
    drawn: tuple[ExtentMap, list[int | None]], start: int, end: int
) -> None:
    extents, places = drawn
    held = {
        part.offset + at: part.place + at for part in extents.placed(start, end) for at in range(part.length)
    }
    assert held == {
        at: place for at, place in enumerate(places) if place is not None and start <= place < end
    }


@given(maps, st.integers(95, 240))
def test_what_is_available_ends_before_the_first_byte_that_is_not_there(
    drawn: tuple[ExtentMap, list[int | None]], size: int
) -> None:
    extents, places = drawn
    cut = [at for at, place in enumerate(places) if place is not None and place >= size]
    assert extents.available(size) == min([*cut, len(places)])


@given(maps)
def test_it_knows_its_beginning_its_end_and_how_much_is_stored(
    drawn: tuple[ExtentMap, list[int | None]],
) -> None:
    extents, places = drawn
    stored = [place for place in places if place is not None]
    assert extents.place == (places[0] if places else None)
    assert extents.end == max(stored, default=-1) + 1
    assert (extents.stored, extents.sparse) == (len(stored), len(stored) < len(places))
