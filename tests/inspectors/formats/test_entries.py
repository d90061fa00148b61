"""The entries of block maps: which are allocated, and whether they are in order."""

from array import array
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.inspectors.formats.allocated import PAGE_BYTES, PIECE_BYTES, allocated
from keyhole.inspectors.formats.ascending import COMPARED, SHORT, is_range, lacking, largest, rises, unique

SIZES = {"I": 4, "Q": 8}
ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
codes = st.sampled_from(sorted(SIZES))


def entries(code: str) -> st.SearchStrategy[list[int]]:
    """Lists of entries, many of which are zero, among the largest ones, or have zeros at one end."""
    top = 1 << 8 * SIZES[code]
    odd = st.sampled_from([0, 1, 256, top >> 8, top >> 2, top >> 1, top - 2, top - 1])
    return st.lists(odd | st.integers(0, top - 1) | st.integers(0, 9), max_size=9)


@given(codes, st.sampled_from(ORDERS), st.data(), st.binary(max_size=3))
def test_the_allocated_entries_are_all_but_the_free_ones(
    code: str, order: Literal["little", "big"], data: st.DataObject, rest: bytes
) -> None:
    size, top = SIZES[code], 1 << 8 * SIZES[code]
    runs = data.draw(st.lists(st.tuples(entries(code), st.sampled_from([1, 70, 1100])), max_size=4))
    table = [entry for some, times in runs for entry in some * times]
    free = data.draw(st.sampled_from([(0,), (top - 1,), (top - 1, top - 2)]))
    stored = b"".join(entry.to_bytes(size, order) for entry in table) + rest
    values = tuple(value.to_bytes(size, order) for value in free)
    assert list(allocated(code, order, stored, values)) == [entry for entry in table if entry not in free]


@pytest.mark.parametrize("length", [0, PIECE_BYTES, PAGE_BYTES, PAGE_BYTES + PIECE_BYTES + 4])
def test_a_table_without_an_allocated_entry_is_empty(length: int) -> None:
    assert not allocated("I", "little", bytes(length), (bytes(4),))


@given(codes, st.data(), st.booleans())
def test_entries_rise_if_no_neighbours_are_nearer_than_the_step(
    code: str, data: st.DataObject, in_order: bool
) -> None:
    numbers = data.draw(entries(code)) * data.draw(st.sampled_from([1, SHORT]))
    numbers = sorted(numbers) if in_order else numbers
    step = data.draw(st.integers(0, 9) | st.sampled_from(numbers or [0]))
    expected = all(after - before >= step for before, after in pairwise(numbers))
    assert rises(array(code, numbers), step) == expected


@given(codes, st.integers(0, 9), st.integers(0, 1 << 33), st.integers(0, 9))
def test_a_long_array_rises_by_its_step(code: str, step: int, start: int, less: int) -> None:
    size = 8 * SIZES[code]
    numbers = array(code, range(start % (1 << size - 1), (start % (1 << size - 1)) + 10 * SHORT * 10, 10))
    assert rises(numbers, step) == (step <= 10)
    numbers[-1] -= less
    assert rises(numbers, step) == (step <= 10 - less)


@pytest.mark.parametrize("at", [0, 1, COMPARED - 2, COMPARED - 1, COMPARED, 2 * COMPARED - 2, 2 * COMPARED])
@pytest.mark.parametrize("code", sorted(SIZES))
def test_one_pair_of_a_long_array_is_enough_not_to_rise(code: str, at: int) -> None:
    numbers = array(code, range(10, 10 * (2 * COMPARED + 3), 10))
    assert rises(numbers, 10)
    numbers[at] += 1
    assert not rises(numbers, 10)
    assert rises(numbers, 9)


@given(codes, st.data())
def test_numbers_without_duplicates_and_the_numbers_that_they_lack(code: str, data: st.DataObject) -> None:
    numbers, others = data.draw(entries(code)), data.draw(entries(code))
    known = unique(array(code, numbers))
    assert list(known) == sorted(set(numbers))
    assert list(lacking(known, others)) == [other for other in others if other not in numbers]


@given(codes, st.data())
def test_the_largest_number(code: str, data: st.DataObject) -> None:
    numbers = data.draw(entries(code))
    assert largest(array(code, numbers)) == max(numbers, default=0)


@given(st.lists(st.integers(0, 3), max_size=4), st.integers(0, 3), st.integers(0, 2))
def test_numbers_are_a_range_if_they_equal_it(numbers: list[int], start: int, step: int) -> None:
    expected = [start + step * index for index in range(len(numbers))]
    assert is_range(array("I", numbers), start, step) == (numbers == expected)
