"""The integers and lengths that are read from tables."""

from hypothesis import given
from hypothesis import strategies as st

from keyhole.inspectors.fields import BLOCK_BYTES, used_blocks, used_bytes


@given(front=st.binary(max_size=300), zeros=st.integers(0, 200_000))
def test_the_used_bytes_of_a_table_end_with_its_last_byte_that_is_not_zero(front: bytes, zeros: int) -> None:
    table = front + bytes(zeros)
    assert used_bytes(table) == len(table.rstrip(b"\0"))


@given(
    parts=st.lists(st.sampled_from([0, 1, 7, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 8]), max_size=6)
)
def test_the_used_blocks_of_a_table_have_all_its_bytes_that_are_not_zero(parts: list[int]) -> None:
    table = b"\1".join(map(bytes, parts))
    rebuilt = bytearray(len(table))
    for at, block in used_blocks(table):
        assert block.count(1) or len(block) < BLOCK_BYTES
        rebuilt[at : at + len(block)] = block
    assert rebuilt == table
