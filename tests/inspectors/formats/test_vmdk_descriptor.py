"""The descriptor of a VMDK, with any content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.inspectors.formats.vmdk.descriptor import MAX_EXTENTS, MAX_VALUES, parse

MIB = 1024**2


@given(st.binary(max_size=5000))
def test_any_descriptor_can_be_read(text: bytes) -> None:
    parsed = parse(text)
    assert all(value.isprintable() for values in parsed.settings.values() for value in values)


@pytest.mark.parametrize(
    "line", [b'RW 1 FLAT "a" 0\n', b'a="b"\n', b'a=x   "y', b"RW 1 FLAT   ", b"=", b'"', b"\0", b" \t"]
)
def test_a_descriptor_of_a_mebibyte_is_read_in_linear_time(line: bytes) -> None:
    """A parser that takes quadratic time would not finish."""
    parsed = parse(line * (MIB // len(line)))
    assert len(parsed.extents) <= MAX_EXTENTS
    assert all(len(values) <= MAX_VALUES for values in parsed.settings.values())
