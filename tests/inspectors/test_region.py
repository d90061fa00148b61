"""A region stores its own bytes, in whatever order they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.inspectors.region import ByteRange, CaptureRegion, TailRegion

ALPHABET = bytes(range(ord("A"), ord("z")))


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 16, 57, 500])
def test_regions_capture_their_part_of_a_stream_whatever_its_chunks(chunk_size: int) -> None:
    """`capture` takes the position after the chunk. A region beyond the end stays incomplete."""
    regions = [CaptureRegion(3, 9), CaptureRegion(0, 256), CaptureRegion(32, 8)]
    assert not any(region.complete for region in regions)

    position = 0
    for start in range(0, len(ALPHABET), chunk_size):
        chunk = ALPHABET[start : start + chunk_size]
        position += len(chunk)
        for region in regions:
            region.capture(chunk, position)

    assert regions[0].data == ALPHABET[3:12]
    assert regions[1].data == ALPHABET
    assert regions[2].data == ALPHABET[32:40]
    assert [region.complete for region in regions] == [True, False, True]


def test_data_ends_at_the_first_byte_that_is_not_here() -> None:
    region = CaptureRegion(10, 10)
    region.put(15, b"fghij")
    assert region.data == b""
    assert region.gaps(None) == [ByteRange(10, 5)]
    region.put(10, b"abc")
    assert region.data == b"abc"
    assert region.gaps(None) == [ByteRange(13, 2)]


def test_bytes_held_already_stay_as_they_are() -> None:
    region = CaptureRegion(0, 4)
    region.put(1, b"bc")
    region.put(0, b"AXXD")
    assert region.data == b"AbcD"


def test_nothing_is_wanted_beyond_the_objects_end() -> None:
    region = CaptureRegion(100, 50)
    assert region.gaps(120) == [ByteRange(100, 20)]
    assert region.gaps(100) == []
    assert region.gaps(7) == []


def test_a_region_of_exabytes_costs_nothing_until_bytes_come() -> None:
    region = CaptureRegion(0, 2**62)
    region.put(2**61, b"x")
    assert region.held == 1


pieces = st.lists(st.tuples(st.integers(0, 120), st.integers(1, 60)), max_size=12)


@given(pieces, st.integers(0, 100), st.integers(0, 60))
def test_a_region_holds_the_union_of_what_came(puts: list[tuple[int, int]], offset: int, length: int) -> None:
    """Compared with a simple model: a set of offsets."""
    source = bytes(index % 251 for index in range(200))
    region, here = CaptureRegion(offset, length), set()
    for start, count in puts:
        region.put(start, source[start : start + count])
        here.update(range(start, min(start + count, 200)))
    wanted = set(range(offset, offset + length))

    assert region.held == len(here & wanted)
    missing = {at for gap in region.gaps(None) for at in range(gap.offset, gap.end)}
    assert missing == wanted - here
    prefix = next((at for at in range(offset, offset + length) if at not in here), offset + length)
    assert region.data == source[offset:prefix]


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(1, 50))
def test_a_tail_of_a_stream_is_its_last_bytes_at_every_moment(chunks: list[int], length: int) -> None:
    source = bytes(index % 251 for index in range(sum(chunks)))
    tail, position = TailRegion(length), 0
    for count in chunks:
        tail.put(position, source[position : position + count])
        position += count
        assert tail.data == source[max(0, position - length) : position]
        assert tail.held <= length
    tail.anchor(position)
    assert tail.complete
    assert tail.data == source[-length:]


def test_a_tail_wants_nothing_until_the_length_is_known() -> None:
    tail = TailRegion(10)
    assert tail.gaps(None) == []
    assert not tail.complete
    tail.anchor(25)
    assert tail.gaps(25) == [ByteRange(15, 10)]


def test_a_tail_longer_than_the_object_is_all_of_it() -> None:
    tail = TailRegion(10)
    tail.put(0, b"abc")
    tail.anchor(3)
    assert tail.complete
    assert tail.data == b"abc"
