"""A sparse image behaves like the bytes that it represents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image
from keyhole.builders.guest import block_numbers

SIZE = 200


@st.composite
def patches(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    offsets = draw(st.lists(st.integers(0, SIZE), max_size=6))
    return [(offset, draw(st.binary(max_size=min(40, SIZE - offset)))) for offset in offsets]


def both(changes: list[tuple[int, bytes]]) -> tuple[Image, bytearray]:
    """The same changes, made to an image and to plain bytes."""
    image, plain = Image(SIZE), bytearray(SIZE)
    for offset, data in changes:
        image = image.patched(offset, data)
        plain[offset : offset + len(data)] = data
    return image, plain


@given(patches())
def test_patched_changes_what_bytes_would_change(changes: list[tuple[int, bytes]]) -> None:
    image, plain = both(changes)
    assert image.to_bytes() == plain


@given(patches(), st.integers(0, SIZE + 10), st.integers(0, SIZE + 10))
def test_read_gives_a_slice(changes: list[tuple[int, bytes]], offset: int, length: int) -> None:
    image, plain = both(changes)
    assert image.read(offset, length) == plain[offset : offset + length]


@given(patches(), st.integers(0, SIZE), st.binary(max_size=9))
def test_truncated_and_appended_cut_and_grow(
    changes: list[tuple[int, bytes]], size: int, tail: bytes
) -> None:
    image, plain = both(changes)
    assert image.truncated(size).appended(tail).to_bytes() == plain[:size] + tail


@given(changes=patches())
def test_write_to_writes_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]
) -> None:
    image, plain = both(changes)
    assert image.write_to(tmp_path_factory.mktemp("image") / "image").read_bytes() == plain


@pytest.mark.parametrize("pieces", [[(0, b"ab"), (1, b"c")], [(8, b"abc")]])
def test_pieces_that_overlap_or_stick_out_are_refused(pieces: list[tuple[int, bytes]]) -> None:
    with pytest.raises(ValueError, match="piece"):
        Image.of(10, pieces)


@pytest.mark.parametrize("allocated", [5, [4], [-1], [1, 1]])
def test_blocks_that_the_disk_lacks_or_has_already_are_refused(allocated: int | list[int]) -> None:
    with pytest.raises(ValueError, match="block"):
        block_numbers(allocated, 4)
