"""Sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.scan.sizes import UNITS, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("1 B", 1),
        ("2KiB", 2048),
        ("10 GiB", 10 << 30),
        ("2 TiB", 2 << 40),
        ("1PiB", 1 << 50),
    ],
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "-1", "1.5 GiB", "1 GB", "1 gib", "1  GiB", " 1", "1 GiB ", "1e3", "0x10", "1_000", "9" * 20],
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as '2 TiB'"):
        parse_size(text)


@given(st.integers(0, 10**19 - 1), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " "]))
def test_every_number_with_a_unit_is_so_many_times_the_unit(number: int, unit: str, space: str) -> None:
    assert parse_size(f"{number}{space}{unit}") == number * UNITS[unit]
