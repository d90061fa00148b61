"""The integers and lengths that are read from tables."""

from hypothesis import given
from hypothesis import strategies as st

from keyhole.inspectors.fields import used_bytes


@given(front=st.binary(max_size=300), zeros=st.integers(0, 200_000))
def test_the_used_bytes_of_a_table_end_with_its_last_byte_that_is_not_zero(front: bytes, zeros: int) -> None:
    table = front + bytes(zeros)
    assert used_bytes(table) == len(table.rstrip(b"\0"))
