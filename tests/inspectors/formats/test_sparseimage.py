"""Sparse images: the finding of each check, for images that fail it and for similar good images."""

import pytest

from keyhole.builders import sparseimage
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.sparseimage import SparseImageInspector
from tests.inspectors.one_inspector import GIB, KIB, MIB, TIB, checks_of, inspected

#: The number of bands after the first node, and after each other node.
FIRST, OTHER = 1008, 1010
#: Bands so small that an image with many nodes stays small.
SMALL = 512
CHAINED = sparseimage(TIB, allocated=range(7, 7 + FIRST + OTHER + 5), band_size=SMALL)
SCATTERED = sparseimage(7 * MIB, allocated=(5, 0, 2))


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


@pytest.mark.parametrize("size", [MIB, 7 * MIB, 7 * MIB + 512, 3000 * MIB, 20 * TIB])
def test_a_good_image_is_whole_and_without_findings(size: int) -> None:
    inspector = inspected(SparseImageInspector, sparseimage(size, allocated=(0,)))
    assert (str(inspector), inspector.virtual_size) == ("sparseimage", size)
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN


def test_the_64_bit_size_may_be_left_out() -> None:
    inspector = inspected(SparseImageInspector, sparseimage(7 * MIB).patched(28, bytes(8)))
    assert inspector.virtual_size == 7 * MIB
    assert inspector.checks() == []


def test_a_chain_seen_to_its_end_is_proven() -> None:
    inspector = inspected(SparseImageInspector, CHAINED)
    assert inspector.wholeness is Wholeness.PROVEN
    assert inspector.details()["bands_seen"] == FIRST + OTHER + 5


def test_a_longer_chain_is_a_sample() -> None:
    inspector = inspected(
        SparseImageInspector, sparseimage(TIB, allocated=FIRST + 3 * OTHER, band_size=SMALL)
    )
    assert inspector.wholeness is Wholeness.SAMPLED
    assert inspector.checks() == []


def test_a_cut_in_a_sample_is_noticed_up_to_the_next_node() -> None:
    image = sparseimage(TIB, allocated=FIRST + 3 * OTHER, band_size=SMALL)
    third_link = 3 * 4 * KIB + (FIRST + 2 * OTHER) * SMALL
    assert checks_of(SparseImageInspector, image.truncated(third_link + 4095)) == ["truncated"]
    assert checks_of(SparseImageInspector, image.truncated(third_link + 4096)) == []


def test_the_disks_last_band_may_be_a_part_of_one() -> None:
    image = sparseimage(7 * MIB + 512, allocated=(0, 7))
    assert checks_of(SparseImageInspector, image.truncated(image.size - MIB + 512)) == []
    assert checks_of(SparseImageInspector, image.truncated(image.size - MIB + 511)) == ["truncated"]


@pytest.mark.parametrize(
    ("at", "change", "found"),
    [
        (4, u32(4), "unknown_features"),
        (8, u32(0), "structure"),
        (8, u32(2**32 - 1), "truncated"),
        (16, u32(5), "size_mismatch"),
        (28, bytes(7) + b"\x01", "size_mismatch"),
        (20, bytes(6) + b"\x20\x00", "metadata_overlap"),
        (20, b"\xff" * 8, "truncated"),
        (64, u32(8), "structure"),
        (64, u32(1), "structure"),
    ],
)
def test_what_cannot_be_is_found(at: int, change: bytes, found: str) -> None:
    assert found in checks_of(
        SparseImageInspector, sparseimage(7 * MIB, allocated=(5, 0, 2)).patched(at, change)
    )


def test_a_disk_without_a_size_is_a_contradiction() -> None:
    image = sparseimage(7 * MIB).patched(16, bytes(4)).patched(28, bytes(8))
    assert checks_of(SparseImageInspector, image) == ["structure"]


def test_a_link_to_something_else_is_found() -> None:
    link = 4 * KIB + FIRST * SMALL
    assert checks_of(SparseImageInspector, CHAINED.patched(link, b"srps")) == ["structure"]


def test_bands_in_any_order_with_gaps_between_are_fine() -> None:
    image = sparseimage(7 * MIB, allocated=(5, 0, 2)).patched(68, bytes(4))
    assert checks_of(SparseImageInspector, image) == []


def test_the_signature_elsewhere_makes_no_sparse_image() -> None:
    assert not SparseImageInspector.matches_prefix(b"\0sprs")
    assert SparseImageInspector.matches_prefix(b"sprs")


def test_three_nodes_are_all_it_reads() -> None:
    inspector = inspected(SparseImageInspector, sparseimage(8 * GIB, allocated=FIRST + 5 * OTHER))
    assert sum(inspector.context_info.values()) == 3 * 4096
