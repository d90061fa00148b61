"""VHDX: the chain from the region tables to the virtual size, and what is checked on the way."""

from uuid import UUID

import pytest
from google_crc32c import value as crc32c

from tests.inspectors.inspecting import checks_of, facts_of
from worker.demo.images import Image, vhdx
from worker.inspectors import Wholeness

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4
TABLES = (192 * KIB, 256 * KIB)
METADATA = 2 * MIB


def with_tables(image: Image, at: int, value: bytes, tables: tuple[int, ...] = TABLES) -> Image:
    """Change region tables and correct their checksums."""
    for base in tables:
        table = bytearray(image.read(base, 64 * KIB))
        table[at : at + len(value)] = value
        table[4:8] = bytes(4)
        table[4:8] = int(crc32c(bytes(table))).to_bytes(4, "little")
        image = image.patched(base, bytes(table))
    return image


@pytest.mark.parametrize("size", [7 * MIB, 513 * MIB, 127 * GIB])
def test_a_good_image_is_whole(size: int) -> None:
    facts = facts_of(vhdx(size, allocated=1))
    assert (facts.format, facts.subformat, facts.virtual_size) == ("vhdx", "dynamic", size)
    assert facts.findings == ()
    assert facts.wholeness is Wholeness.PROVEN


def test_of_a_long_bat_the_beginning_is_a_sample() -> None:
    facts = facts_of(vhdx(2 * TIB, bat_offset=3 * MIB))
    assert facts.wholeness is Wholeness.SAMPLED
    assert facts.findings == ()


@pytest.mark.parametrize(
    ("metadata_offset", "bat_offset"),
    [(MIB, 2 * MIB), (2 * MIB, MIB), (7 * MIB, 2 * MIB), (2 * MIB, 7 * MIB), (40 * MIB, 30 * MIB)],
)
def test_the_metadata_may_lie_anywhere(metadata_offset: int, bat_offset: int) -> None:
    facts = facts_of(vhdx(GIB, metadata_offset=metadata_offset, bat_offset=bat_offset, allocated=1))
    assert facts.virtual_size == GIB
    assert facts.findings == ()


def test_an_item_far_from_the_metadata_table_is_found() -> None:
    """An item may lie anywhere in its region; here the virtual size lies 512 KiB into it."""
    image = vhdx(GIB)
    guid = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8").bytes_le
    entry = image.read(METADATA, 64 * KIB).index(guid)
    moved = image.patched(METADATA + entry + 16, (512 * KIB).to_bytes(4, "little"))
    facts = facts_of(moved.patched(METADATA + 512 * KIB, (GIB // 2).to_bytes(8, "little")))
    assert facts.virtual_size == GIB // 2


def test_a_differencing_image_needs_its_parent() -> None:
    facts = facts_of(vhdx(GIB, parent="base.vhdx"))
    assert facts.subformat == "differencing"
    assert [finding.check for finding in facts.findings] == ["parent_image"]
    assert "base.vhdx" in str(facts.details["parent_locator"])


def test_a_log_to_replay_is_found() -> None:
    assert checks_of(vhdx(GIB, log_guid=UUID(int=7))) == ["log_replay"]


def test_one_broken_region_table_is_made_up_for_by_the_other() -> None:
    facts = facts_of(vhdx(GIB).patched(192 * KIB + 100, b"broken"))
    assert facts.virtual_size == GIB
    assert facts.findings == ()


def test_two_broken_region_tables_break_the_image() -> None:
    image = vhdx(GIB).patched(192 * KIB + 100, b"broken").patched(256 * KIB + 100, b"broken")
    facts = facts_of(image)
    assert facts.format == "vhdx"
    assert facts.virtual_size is None
    assert [finding.check for finding in facts.findings] == ["structure"]


def test_two_broken_headers_are_found() -> None:
    image = vhdx(GIB).patched(64 * KIB + 100, b"broken").patched(128 * KIB + 100, b"broken")
    assert checks_of(image) == ["checksum_mismatch"]


@pytest.mark.parametrize("count", [2048, 2**32 - 1])
def test_a_region_table_of_too_many_entries_is_refused(count: int) -> None:
    assert checks_of(with_tables(vhdx(GIB), 8, count.to_bytes(4, "little"))) == ["structure"]


@pytest.mark.parametrize("count", [2048, 65535])
def test_a_metadata_table_of_too_many_entries_is_refused(count: int) -> None:
    assert checks_of(vhdx(GIB).patched(METADATA + 10, count.to_bytes(2, "little"))) == ["structure"]


def test_a_metadata_region_without_a_table_is_refused() -> None:
    assert checks_of(vhdx(GIB).patched(METADATA, b"METADATA")) == ["structure"]


def test_an_unknown_region_is_a_finding_only_if_it_is_required() -> None:
    entry = UUID(int=42).bytes_le + (MIB).to_bytes(8, "little") + (4096).to_bytes(4, "little")
    for required, checks in ((1, ["unknown_features"]), (0, [])):
        image = with_tables(vhdx(GIB), 8, (3).to_bytes(4, "little"))
        image = with_tables(image, 16 + 2 * 32, entry + required.to_bytes(4, "little"))
        assert checks_of(image) == checks


def test_a_metadata_region_in_the_header_section_is_a_contradiction() -> None:
    image = vhdx(GIB)
    table = image.read(192 * KIB, 64 * KIB)
    at = table.index(UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E").bytes_le)
    moved = with_tables(image, at + 16, (512 * KIB).to_bytes(8, "little"))
    moved = moved.patched(512 * KIB, image.read(METADATA, 128 * KIB))
    assert "structure" in checks_of(moved)


@pytest.mark.parametrize("block_size", [0, 1, MIB - 1, 3 * MIB, 512 * MIB, 2**32 - 1])
def test_a_block_size_out_of_bounds_is_a_contradiction(block_size: int) -> None:
    image = vhdx(GIB)
    guid = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B").bytes_le
    table = image.read(METADATA, 64 * KIB)
    entry = table.index(guid)
    offset = int.from_bytes(table[entry + 16 : entry + 20], "little")
    assert "structure" in checks_of(image.patched(METADATA + offset, block_size.to_bytes(4, "little")))


def test_every_cut_is_noticed() -> None:
    image = vhdx(64 * MIB, block_size=MIB, allocated=3)
    for size in [*range(9, MIB, 50_000), *range(MIB, image.size, MIB // 2), image.size - 1]:
        assert "truncated" in checks_of(image.truncated(size)), size
