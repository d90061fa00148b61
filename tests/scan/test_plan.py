"""Laws of merging ranges."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from keyhole.inspectors.region import ByteRange
from keyhole.scan.plan import merge

GAPS = st.integers(0, 50)
RANGES = st.lists(st.builds(ByteRange, st.integers(0, 300), st.integers(1, 60)), max_size=12)


@given(RANGES, GAPS)
def test_all_that_is_wanted_is_covered(wanted: list[ByteRange], gap: int) -> None:
    merged = merge(wanted, gap)
    assert all(any(big.offset <= part.offset and part.end <= big.end for big in merged) for part in wanted)


@given(RANGES, GAPS)
def test_ranges_ascend_and_lie_further_apart_than_the_gap(wanted: list[ByteRange], gap: int) -> None:
    merged = merge(wanted, gap)
    assert all(left.end + gap < right.offset for left, right in pairwise(merged))


@given(RANGES, GAPS)
def test_a_range_begins_and_ends_where_something_wanted_does(wanted: list[ByteRange], gap: int) -> None:
    for part in merge(wanted, gap):
        assert part.offset in {one.offset for one in wanted}
        assert part.end in {one.end for one in wanted}


@given(RANGES, GAPS)
def test_unwanted_bytes_are_fetched_only_in_gaps_that_are_small_enough(
    wanted: list[ByteRange], gap: int
) -> None:
    useful = {at for part in wanted for at in range(part.offset, part.end)}
    for part in merge(wanted, gap):
        run = 0
        for at in range(part.offset, part.end):
            run = 0 if at in useful else run + 1
            assert run <= gap


@given(RANGES, GAPS)
def test_merging_again_changes_nothing(wanted: list[ByteRange], gap: int) -> None:
    merged = merge(wanted, gap)
    assert merge(merged, gap) == merged


def test_two_ranges_become_one_over_the_gap_but_not_over_more() -> None:
    assert merge([ByteRange(20, 5), ByteRange(0, 10)], 10) == [ByteRange(0, 25)]
    assert merge([ByteRange(21, 5), ByteRange(0, 10)], 10) == [ByteRange(0, 10), ByteRange(21, 5)]
