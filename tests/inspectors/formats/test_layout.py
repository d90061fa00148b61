"""Overlaps: the parts and blocks of an image that share bytes."""

import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.inspectors.formats.layout import Blocks, Part, overlaps

#: A function that the interpreter calls before each line that it runs.
TraceFunction: TypeAlias = Callable[[FrameType, str, object], "TraceFunction | None"]


def messages(parts: list[Part], *blocks: Blocks) -> list[str]:
    """The messages of the findings."""
    findings = list(overlaps(parts, *blocks))
    assert {finding.check for finding in findings} <= {"metadata_overlap"}
    return [finding.message for finding in findings]


HEADER, TABLE = Part(0, 512, "the header"), Part(1024, 2048, "the table")


def test_what_lies_side_by_side_is_no_finding() -> None:
    assert messages([TABLE, HEADER], Blocks("a block", [2048, 4096, 512], 512)) == []


@pytest.mark.parametrize("place", [1023, 1024, 2047, 513])
def test_a_block_over_a_part_is_found(place: int) -> None:
    found = messages([TABLE, HEADER], Blocks("a block", [4096, place], 512))
    assert found == [f"a block at byte {place} overlaps the table"]


def test_parts_that_overlap_are_found() -> None:
    assert messages([Part(500, 600, "the log"), TABLE, HEADER]) == ["the log at byte 500 overlaps the header"]
    assert messages([Part(0, 4096, "all"), HEADER, TABLE]) == [
        "all at byte 0 overlaps the header",
        "the table at byte 1024 overlaps all",
    ]
    assert messages([Part(0, 0, "nothing"), HEADER, Part(100, 100, "nothing")]) == []


def test_two_blocks_in_one_place_are_found_unless_the_format_shares() -> None:
    assert messages([], Blocks("a block", [9, 5, 9], 512, unit=512)) == [
        "a block at byte 4608 overlaps another one"
    ]
    assert messages([], Blocks("a block", [9, 5, 9], 512, unit=512, shared=True)) == []
    assert messages([], Blocks("a block", [5, 6], 1024, unit=512)) == [
        "a block at byte 3072 overlaps another one"
    ]


def test_places_are_counted_in_units_from_a_base() -> None:
    blocks = Blocks("a block", [0, 7], 100, unit=100, base=2000)
    assert messages([TABLE], blocks) == ["a block at byte 2000 overlaps the table"]
    assert messages([Part(2700, 2701, "the end")], blocks) == ["a block at byte 2700 overlaps the end"]
    assert messages([Part(2800, 2801, "the end")], blocks) == []


def test_blocks_of_two_kinds_are_compared() -> None:
    tables, grains = (
        Blocks("a table", [10, 20], 2048, unit=512),
        Blocks("a grain", [14, 22, 30], 1024, unit=512),
    )
    assert messages([], tables, grains) == ["a grain at byte 11264 overlaps a table"]
    assert messages([], grains, tables) == ["a grain at byte 11264 overlaps a table"]


def test_thousands_of_overlaps_are_a_few_findings() -> None:
    parts = [Part(at, at + 2, "a part") for at in range(1000)]
    assert len(messages(parts, Blocks("a block", range(1000), 2))) < 20


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=5),
    st.lists(st.integers(0, 30), max_size=8),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(0, 9),
)
def test_it_agrees_with_counting_bytes(
    spans: list[tuple[int, int]], places: list[int], length: int, unit: int, base: int
) -> None:
    seen: set[int] = set()
    overlapped = False
    parts = [Part(start, start + size, "a part") for start, size in spans]
    for start, end in [
        *((part.start, part.end) for part in parts),
        *((base + place * unit, base + place * unit + length) for place in places),
    ]:
        overlapped |= not seen.isdisjoint(range(start, end))
        seen.update(range(start, end))
    assert bool(messages(parts, Blocks("a block", places, length, unit=unit, base=base))) == overlapped


def steps_for(count: int, length: int) -> int:
    """Return how many lines of Python run to compare this many blocks, which lie 65,536 bytes apart."""
    places = list(range(0, 128 * count, 128))
    random.Random(5).shuffle(places)  # noqa: S311 - to choose an order, the same in every run
    steps = 0

    def step(_frame: FrameType, event: str, _argument: object) -> TraceFunction:
        nonlocal steps
        steps += event == "line"
        return step

    tracer = sys.gettrace()
    sys.settrace(step)
    try:
        messages([HEADER], Blocks("a grain", places, length, unit=512, base=4096))
    finally:
        sys.settrace(tracer)
    return steps


@pytest.mark.parametrize("length", [65536, 65537])
def test_twice_as_many_blocks_take_at_most_twice_the_steps(length: int) -> None:
    """Blocks that lie side by side, and blocks that overlap."""
    assert steps_for(40_000, length) <= 2 * steps_for(20_000, length)


def test_half_a_million_blocks_are_compared() -> None:
    places = list(range(0, 128 * 500_000, 128))
    random.Random(5).shuffle(places)  # noqa: S311 - as above
    assert messages([HEADER], Blocks("a grain", places, 65536, unit=512, base=4096)) == []
