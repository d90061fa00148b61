"""VHDX: the chain from the region tables to the virtual size, and the checks of each part."""

from uuid import UUID

import pytest
from google_crc32c import value as crc32c

from keyhole.builders import Image, vhdx
from keyhole.inspectors import Inspection, Wholeness
from tests.inspectors.inspecting import checks_of, facts_of

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4
TABLES = (192 * KIB, 256 * KIB)
METADATA = 2 * MIB


def with_tables(image: Image, at: int, value: bytes, tables: tuple[int, ...] = TABLES) -> Image:
    """Change region tables, and correct their checksums."""
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
    """An item can be anywhere in its region. Here the virtual size is 512 KiB after the region's start."""
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


@pytest.mark.parametrize(("table", "checks"), [(192 * KIB, ["checksum_mismatch"]), (256 * KIB, [])])
def test_one_broken_region_table_is_made_up_for_by_the_other(table: int, checks: list[str]) -> None:
    """Both tables state the size, but QEMU opens no image whose first table is broken."""
    facts = facts_of(vhdx(GIB).patched(table + 100, b"broken"))
    assert facts.virtual_size == GIB
    assert [finding.check for finding in facts.findings] == checks


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
    entry = UUID(int=42).bytes_le + (4 * MIB).to_bytes(8, "little") + (4096).to_bytes(4, "little")
    for required, checks in ((1, ["unknown_features"]), (0, [])):
        image = with_tables(vhdx(GIB).appended(bytes(MIB)), 8, (3).to_bytes(4, "little"))
        image = with_tables(image, 16 + 2 * 32, entry + required.to_bytes(4, "little"))
        assert checks_of(image) == checks


def test_a_metadata_region_in_the_header_section_is_found() -> None:
    image = vhdx(GIB)
    table = image.read(192 * KIB, 64 * KIB)
    at = table.index(UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E").bytes_le)
    moved = with_tables(image, at + 16, (512 * KIB).to_bytes(8, "little"))
    moved = moved.patched(512 * KIB, image.read(METADATA, 128 * KIB))
    assert "metadata_overlap" in checks_of(moved)


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


def with_header(image: Image, at: int, value: bytes, *, header: int) -> Image:
    """Change one of the two headers, and correct its checksum."""
    base = header * 64 * KIB
    data = bytearray(image.read(base, 4 * KIB))
    data[at : at + len(value)] = value
    data[4:8] = bytes(4)
    data[4:8] = int(crc32c(bytes(data))).to_bytes(4, "little")
    return image.patched(base, bytes(data))


def with_item(image: Image, guid: str, at: int, value: bytes) -> Image:
    """Change the entry of an item in the metadata table."""
    entry = image.read(METADATA, 64 * KIB).index(UUID(guid).bytes_le)
    return image.patched(METADATA + entry + at, value)


DISK_SIZE = "2FA54224-CD1B-4876-B211-5DBED83BF4B8"
METADATA_REGION, BAT_REGION = "8B7CA206-4790-4B9A-B8FE-575F050F886E", "2DC27766-F623-4200-9D64-115E9BFD4A08"


def region_at(image: Image, guid: str) -> int:
    return image.read(192 * KIB, 64 * KIB).index(UUID(guid).bytes_le)


def test_two_headers_of_one_sequence_number_contradict_each_other() -> None:
    """One header can name a log, and it is undefined which header is valid."""
    image = with_header(vhdx(GIB, log_guid=UUID(int=7)), 8, (5).to_bytes(8, "little"), header=2)
    image = with_header(image, 48, bytes(16), header=1)
    assert "structure" in checks_of(with_header(image, 8, (5).to_bytes(8, "little"), header=1))


def test_two_headers_that_are_the_same_are_no_contradiction() -> None:
    """Disk2vhd writes two identical headers."""
    image = vhdx(GIB)
    assert checks_of(image.patched(64 * KIB, image.read(128 * KIB, 4 * KIB))) == []


@pytest.mark.parametrize(
    ("at", "value", "check"),
    [
        (64, b"\1", "structure"),
        (72, (MIB // 2).to_bytes(8, "little"), "structure"),
        (72, (MIB + 512).to_bytes(8, "little"), "structure"),
        (72, (2 * MIB).to_bytes(8, "little"), "metadata_overlap"),
        (68, (512).to_bytes(4, "little"), "structure"),
        (72, (GIB).to_bytes(8, "little"), "truncated"),
    ],
)
def test_a_log_that_cannot_be_is_found(at: int, value: bytes, check: str) -> None:
    assert check in checks_of(with_header(vhdx(GIB), at, value, header=2))


def test_two_intact_region_tables_that_differ_contradict_each_other() -> None:
    image = vhdx(8 * MIB, block_size=MIB, allocated=4)
    at = region_at(image, METADATA_REGION) + 16
    assert checks_of(with_tables(image, at, (4 * MIB).to_bytes(8, "little"), TABLES[1:])) == ["structure"]


@pytest.mark.parametrize("guid", [METADATA_REGION, BAT_REGION])
def test_a_region_that_is_stated_twice_is_a_contradiction(guid: str) -> None:
    image = vhdx(8 * MIB, block_size=MIB, allocated=4)
    entry = UUID(guid).bytes_le + (5 * MIB).to_bytes(8, "little") + MIB.to_bytes(4, "little") + b"\1\0\0\0"
    image = with_tables(image, 16 + 2 * 32, entry)
    assert "structure" in checks_of(with_tables(image, 8, (3).to_bytes(4, "little")))


@pytest.mark.parametrize("offset", [MIB, 2 * MIB, 2 * MIB + 512])
def test_regions_that_overlap_are_found(offset: int) -> None:
    """The log is at 1 MiB, and the metadata at 2 MiB."""
    image = vhdx(GIB)
    at = region_at(image, BAT_REGION) + 16
    assert "metadata_overlap" in checks_of(with_tables(image, at, offset.to_bytes(8, "little")))


def test_a_bat_too_short_for_the_disk_is_a_contradiction() -> None:
    image = vhdx(GIB)
    at = region_at(image, BAT_REGION) + 24
    assert "structure" in checks_of(with_tables(image, at, (8 * 31).to_bytes(4, "little")))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (16, (0).to_bytes(4, "little")),
        (16, (64 * KIB - 8).to_bytes(4, "little")),
        (16, (MIB - 4).to_bytes(4, "little")),
        (16, (2**32 - 1).to_bytes(4, "little")),
        (20, (4).to_bytes(4, "little")),
    ],
)
def test_an_item_that_lies_elsewhere_than_among_items_is_a_contradiction(at: int, value: bytes) -> None:
    assert "structure" in checks_of(with_item(vhdx(GIB), DISK_SIZE, at, value))


@pytest.mark.parametrize("guid", ["BECA12AB-B2E6-4523-93EF-C309E000C746", DISK_SIZE])
def test_an_item_that_is_missing_is_a_contradiction(guid: str) -> None:
    image = with_item(vhdx(GIB), guid, 24, bytes(4))
    assert "structure" in checks_of(with_item(image, guid, 0, UUID(int=5).bytes_le))


def test_an_item_that_is_stated_twice_is_a_contradiction() -> None:
    image = vhdx(GIB)
    count = int.from_bytes(image.read(METADATA + 10, 2), "little")
    entry = image.read(METADATA + 32, 32)
    image = image.patched(METADATA + 10, (count + 1).to_bytes(2, "little"))
    assert checks_of(image.patched(METADATA + 32 + 32 * count, entry)) == ["structure"]


@pytest.mark.parametrize("size", [GIB + 1, 65 * TIB])
def test_a_disk_that_the_format_does_not_allow_is_a_contradiction(size: int) -> None:
    image = vhdx(GIB)
    at = METADATA + 64 * KIB + image.read(METADATA + 64 * KIB, 64).index(GIB.to_bytes(8, "little"))
    assert "structure" in checks_of(image.patched(at, size.to_bytes(8, "little")))


def test_a_block_that_is_partly_a_parents_is_a_contradiction() -> None:
    image = vhdx(GIB, block_size=MIB, allocated=1)
    entry = image.read(3 * MIB, 8)
    assert checks_of(image.patched(3 * MIB, b"\7" + entry[1:])) == ["structure"]


def test_a_cut_is_noticed_though_the_last_block_written_is_not_among_the_first() -> None:
    """Blocks are stored in the order in which they were written.

    So Keyhole reads the whole BAT if it is short.
    """
    image = vhdx(30 * GIB - 8 * MIB, block_size=MIB, allocated=[30_000, 5])
    assert facts_of(image).wholeness is Wholeness.PROVEN
    assert checks_of(image.truncated(image.size - 1)) == ["truncated"]


def test_thousands_of_unknown_regions_and_items_are_a_few_findings() -> None:
    entries = b"".join(
        UUID(int=number).bytes_le
        + (number * 2**20).to_bytes(8, "little")
        + MIB.to_bytes(4, "little")
        + b"\1\0\0\0"
        for number in range(1, 2001)
    )
    image = vhdx(GIB)
    image = with_tables(with_tables(image, 16 + 2 * 32, entries), 8, (2002).to_bytes(4, "little"))
    assert len(checks_of(image)) < 50


def test_a_region_table_without_metadata_is_refused_however_often_it_is_asked() -> None:
    image = vhdx(GIB)
    image = with_tables(image, region_at(image, METADATA_REGION), bytes(16))
    inspection = Inspection()
    inspection.feed(0, image.read(0, MIB))
    inspection.finish(image.size)
    inspection.feed(MIB, image.read(MIB, image.size - MIB))
    inspection.finish(image.size)
    assert [finding.check for finding in inspection.facts().findings] == ["structure"]
