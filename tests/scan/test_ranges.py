"""The ranges that a scan read, as its report states them."""

import io
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from keyhole.api import inspect_stream
from keyhole.builders.qcow2 import qcow2
from keyhole.scan.ranges import MOST_RANGES, ReadRanges

READS = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 9)), max_size=200)


@given(READS)
def test_they_are_sorted_apart_few_and_cover_what_was_read(reads: list[tuple[int, int]]) -> None:
    ranges = ReadRanges()
    for offset, length in reads:
        ranges.add(offset, length)

    found = ranges.report()

    assert len(found) <= MOST_RANGES
    assert all(one.end < other.offset for one, other in pairwise(found))
    covered = {at for part in found for at in range(part.offset, part.end)}
    read = {at for offset, length in reads for at in range(offset, offset + length)}
    assert read <= covered
    if len(found) < MOST_RANGES:
        assert read == covered


def test_a_scan_of_a_large_container_keeps_few() -> None:
    ranges = ReadRanges()
    for number in range(20_000):
        ranges.add(number * 10, 1)

    assert len(ranges._read) <= 1025
    assert len(ranges.report()) == MOST_RANGES


def test_a_report_states_them() -> None:
    data = qcow2(1 << 30, allocated=3).to_bytes()

    report = inspect_stream(io.BytesIO(data))

    assert report.ranges[0][0] == 0
    assert sum(length for _, length in report.ranges) <= report.bytes_read
    assert all(offset + length <= len(data) for offset, length in report.ranges)
