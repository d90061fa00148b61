"""VDI: all facts are in the header."""

from uuid import UUID

import pytest

from keyhole.builders import vdi
from keyhole.inspectors import Wholeness
from tests.inspectors.inspecting import checks_of, facts_of

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4


@pytest.mark.parametrize("size", [7 * MIB, 513 * MIB, 2 * TIB])
@pytest.mark.parametrize(("image_type", "name"), [(1, "dynamic"), (2, "static")])
def test_a_good_image_is_whole(size: int, image_type: int, name: str) -> None:
    facts = facts_of(vdi(size, allocated=3, image_type=image_type))
    assert (facts.format, facts.subformat, facts.virtual_size) == ("vdi", name, size)
    assert facts.findings == ()
    assert facts.wholeness is Wholeness.PROVEN


def test_a_differencing_image_needs_its_parent() -> None:
    image = vdi(GIB, image_type=4, parent_uuid=UUID(int=5))
    assert checks_of(image) == ["parent_image"]
    assert facts_of(image).details["parent_uuid"] == str(UUID(int=5))


def test_a_parent_is_found_whatever_the_type_says() -> None:
    assert checks_of(vdi(GIB, parent_uuid=UUID(int=5))) == ["parent_image"]


@pytest.mark.parametrize(("at", "value"), [(0x4C, 9), (0x44, 0x00020001)])
def test_unknown_types_and_versions_are_found(at: int, value: int) -> None:
    assert checks_of(vdi(GIB).patched(at, value.to_bytes(4, "little"))) == ["unknown_features"]


@pytest.mark.parametrize(
    ("at", "value"), [(0x44, 0x00000002), (0x44, 0x00010000), (0x44, 0x00010002), (0x17C, 512)], ids=hex
)
def test_variants_that_only_virtualbox_reads_are_told(at: int, value: int) -> None:
    facts = facts_of(vdi(GIB).patched(at, value.to_bytes(4, "little")))
    assert [finding.check for finding in facts.findings] == ["unsupported_subformat"]
    # The header of version 0 stores the size at another offset.
    assert facts.virtual_size == (None if value == 2 else GIB)


@pytest.mark.parametrize(
    ("at", "value", "check"),
    [
        (0x154, 0, "metadata_overlap"),
        (0x158, 512, "metadata_overlap"),
        (0x178, 0, "size_mismatch"),
        (0x180, 1, "size_mismatch"),
        (0x180, 1025, "size_mismatch"),
        (0x184, 2**31, "structure"),
    ],
)
def test_offsets_and_counts_that_cannot_be_are_found(at: int, value: int, check: str) -> None:
    assert check in checks_of(vdi(GIB, allocated=2).patched(at, value.to_bytes(4, "little")))


def test_every_cut_is_noticed() -> None:
    image = vdi(7 * MIB, allocated=3)
    for size in [0x44, 511, 512, *range(1024, image.size, 100_000), image.size - 1]:
        assert checks_of(image.truncated(size)) == ["truncated"], size


def test_the_signature_of_another_byte_is_no_vdi() -> None:
    assert facts_of(vdi(GIB).patched(0x40, b"\x7e")).format is None


@pytest.mark.parametrize(
    ("at", "value"),
    [(0x170, 7 * MIB + 1), (0x168, 4096), (0x178, 3 * MIB), (0x154, 700), (0x158, 1 * MIB + 1)],
    ids=hex,
)
def test_what_readers_round_or_refuse_is_a_contradiction(at: int, value: int) -> None:
    assert "structure" in checks_of(vdi(8 * MIB).patched(at, value.to_bytes(4, "little")))


def test_a_block_beyond_those_that_are_counted_is_a_contradiction() -> None:
    """A crash can leave such an image: the map leads further than the number of allocated blocks."""
    assert checks_of(vdi(8 * MIB, allocated=2).patched(512 + 4 * 5, (2).to_bytes(4, "little"))) == [
        "structure"
    ]


@pytest.mark.parametrize("entry", [0xFFFFFFFF, 0xFFFFFFFE])
def test_free_and_zeroed_blocks_lead_nowhere(entry: int) -> None:
    assert checks_of(vdi(8 * MIB, allocated=2).patched(512 + 4 * 5, entry.to_bytes(4, "little"))) == []


def test_a_block_that_two_entries_lead_to_is_found() -> None:
    assert checks_of(vdi(8 * MIB, allocated=2).patched(512 + 4 * 5, bytes(4))) == ["metadata_overlap"]


def test_a_map_that_lost_a_block_is_a_contradiction() -> None:
    assert checks_of(vdi(8 * MIB, allocated=2).patched(512, b"\xff" * 4)) == ["structure"]


def test_a_map_too_long_to_be_held_is_not_counted() -> None:
    assert checks_of(vdi(64 * GIB, allocated=range(0, 64 * 1024, 2048))) == []
