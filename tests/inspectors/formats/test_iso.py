"""ISO 9660 and UDF: the finding of each check, for bad discs and similar good discs, also by tools."""

import random
from binascii import crc_hqx
from pathlib import Path

import pytest

from keyhole.builders import Image, iso, mbr_disk, udf
from keyhole.builders.iso import MAIN_BLOCK, PARTITION_BLOCK, RESERVE_BLOCK
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.iso import ISOInspector
from tests.inspectors.one_inspector import KIB, MIB, checks_of, image_of, inspected, run_tool

SECTOR = 2048
PRIMARY = 16 * SECTOR
ANCHOR = 256 * SECTOR
BRIDGE = iso(400, udf=True, joliet=True)


def both(value: int, length: int) -> bytes:
    return value.to_bytes(length, "little") + value.to_bytes(length, "big")


def with_udf(image: Image, at: int, within: int, change: bytes) -> Image:
    """A disc with another UDF descriptor at `at`, and with the right CRC and checksum."""
    data = bytearray(image.read(at, 512))
    data[within : within + len(change)] = change
    length = int.from_bytes(data[10:12], "little")
    data[8:10] = crc_hqx(bytes(data[16 : 16 + length]), 0).to_bytes(2, "little")
    data[4] = 0
    data[4] = sum(data[:16]) & 0xFF
    return image.patched(at, bytes(data))


# Good discs


@pytest.mark.parametrize("blocks", [28, 200, 400_000])
def test_a_good_disc_is_whole_and_without_findings(blocks: int) -> None:
    inspector = inspected(ISOInspector, iso(blocks))
    assert (str(inspector), inspector.content) == ("iso", ("iso9660",))
    assert inspector.virtual_size == blocks * SECTOR
    assert inspector.details()["volume_size"] == blocks * SECTOR
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN


@pytest.mark.parametrize("block_size", [512, 2048, 4096])
def test_a_good_udf_is_whole_and_without_findings(block_size: int) -> None:
    inspector = inspected(ISOInspector, udf(5000, block_size=block_size))
    assert inspector.content == ("udf",)
    assert inspector.details()["udf_block_size"] == block_size
    assert inspector.details()["udf_volume_size"] == 5000 * block_size
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN


def test_a_bridge_disc_has_both() -> None:
    inspector = inspected(ISOInspector, BRIDGE)
    assert inspector.content == ("iso9660", "udf")
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN


@pytest.mark.parametrize("extension", ["joliet", "rock_ridge", "el_torito"])
def test_each_extension_is_seen_alone(extension: str) -> None:
    details = inspected(ISOInspector, iso(**{extension: True})).details()  # type: ignore[arg-type]
    assert {name for name in ("joliet", "rock_ridge", "el_torito") if details[name]} == {extension}


@pytest.mark.parametrize("behind", [1, 511, 300 * KIB])
def test_what_stands_behind_the_volume_belongs_to_the_disk(behind: int) -> None:
    """A reader of the object sees the bytes after the volume: padding, a further session, or a backup GPT."""
    inspector = inspected(ISOInspector, iso().appended(bytes(behind)))
    assert inspector.virtual_size == 200 * SECTOR + behind
    assert inspector.details()["volume_size"] == 200 * SECTOR
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN


def test_nothing_at_the_front_matters() -> None:
    front = mbr_disk(MIB, [(0x17, 0, 800)]).read(0, 512)
    assert not ISOInspector.matches_prefix(front)
    assert checks_of(ISOInspector, iso().patched(0, front)) == []


# Discs made by tools


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with files to put on a disc."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "some noise").write_bytes(random.Random(0).randbytes(300_000))  # noqa: S311 - arbitrary bytes
    (folder / "boot").write_bytes(bytes(2048))
    return folder


@pytest.mark.parametrize(
    ("options", "extensions"),
    [
        ((), {"rock_ridge"}),
        (("-J",), {"joliet", "rock_ridge"}),
        (("-b", "boot", "-no-emul-boot", "-c", "catalog"), {"el_torito", "rock_ridge"}),
        (("-partition_offset", "16"), {"rock_ridge"}),
        (("-append_partition", "2", "0xef", "FILE"), {"rock_ridge"}),
    ],
)
def test_what_xorriso_makes_is_whole_and_every_cut_of_it_noticed(
    options: tuple[str, ...], extensions: set[str], files: Path, tmp_path: Path
) -> None:
    disc = tmp_path / "disc.iso"
    chosen = [str(files / "boot") if option == "FILE" else option for option in options]
    run_tool("xorriso", "xorriso", "-as", "mkisofs", "-quiet", "-R", *chosen, "-o", disc, files)
    image = image_of(disc)
    inspector = inspected(ISOInspector, image)
    details = inspector.details()
    assert {name for name in ("joliet", "rock_ridge", "el_torito") if details[name]} == extensions
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN
    every_cut_is_noticed(image, inspector.details()["volume_size"])


@pytest.mark.parametrize("options", [(), ("-R", "-J"), ("-udf",), ("-udf", "-J", "-R")])
def test_what_genisoimage_makes_is_whole_and_every_cut_of_it_noticed(
    options: tuple[str, ...], files: Path, tmp_path: Path
) -> None:
    disc = tmp_path / "disc.iso"
    run_tool("genisoimage", "genisoimage", "-quiet", *options, "-o", disc, files)
    image = image_of(disc)
    inspector = inspected(ISOInspector, image)
    assert inspector.content == (("iso9660", "udf") if "-udf" in options else ("iso9660",))
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN
    every_cut_is_noticed(image, inspector.details()["volume_size"])


@pytest.mark.parametrize("block_size", [512, 2048, 4096])
def test_what_mkudffs_makes_is_whole_and_every_cut_of_it_noticed(block_size: int, tmp_path: Path) -> None:
    disc = tmp_path / "disc.udf"
    Image.of(20 * MIB, []).write_to(disc)
    run_tool("udftools", "mkudffs", "-b", str(block_size), "-l", "Größe", disc)
    image = image_of(disc)
    inspector = inspected(ISOInspector, image)
    assert inspector.content == ("udf",)
    assert inspector.details()["udf_volume_name"] == "Größe"
    assert inspector.details()["udf_block_size"] == block_size
    assert inspector.virtual_size == 20 * MIB
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN
    # The last needed structure is the reserve sequence of descriptors, 160 blocks before the end.
    every_cut_is_noticed(image, 20 * MIB - 144 * block_size)


def every_cut_is_noticed(image: Image, needed: object) -> None:
    """Assert that Keyhole finds every cut in the first `needed` bytes of a disc."""
    assert isinstance(needed, int)
    choose = random.Random(needed)  # noqa: S311 - to choose cuts, the same in every run
    for size in [needed - 1, *(choose.randrange(34 * KIB, needed) for _ in range(20))]:
        inspector = inspected(ISOInspector, image.truncated(size))
        assert {finding.check for finding in inspector.checks()} == {"truncated"}, size
        assert inspector.wholeness is Wholeness.UNCHECKED


# ISO 9660


def test_every_cut_is_noticed() -> None:
    for size in [PRIMARY + 6, PRIMARY + 2047, PRIMARY + 2048, PRIMARY + 4096, 200 * SECTOR - 1]:
        inspector = inspected(ISOInspector, iso().truncated(size))
        assert "truncated" in [finding.check for finding in inspector.checks()], size
        assert inspector.wholeness is Wholeness.UNCHECKED
    assert not inspected(ISOInspector, iso().truncated(PRIMARY)).format_match


@pytest.mark.parametrize("at", [80, 84, 120, 122, 124, 126, 128, 130, 132, 136])
def test_numbers_that_differ_between_byte_orders_are_found(at: int) -> None:
    image = iso()
    changed = image.patched(PRIMARY + at, bytes([image.read(PRIMARY + at, 1)[0] ^ 0x80]))
    assert "structure" in checks_of(ISOInspector, changed)


@pytest.mark.parametrize(
    ("at", "change", "found"),
    [
        (80, both(0, 4), "structure"),
        (80, both(17, 4), "structure"),
        (80, both(201, 4), "truncated"),
        (80, both(2**32 - 1, 4), "truncated"),
        (128, both(0, 2), "structure"),
        (128, both(2049, 2), "structure"),
        (0, b"\3", "structure"),
        (SECTOR + 1, b"CD002", "structure"),
    ],
)
def test_a_volume_that_cannot_be_is_found(at: int, change: bytes, found: str) -> None:
    assert checks_of(ISOInspector, iso().patched(PRIMARY + at, change)) == [found]


@pytest.mark.parametrize(("blocks", "block_size"), [(800, 512), (400, 1024)])
def test_blocks_may_be_smaller(blocks: int, block_size: int) -> None:
    image = iso().patched(PRIMARY + 80, both(blocks, 4)).patched(PRIMARY + 128, both(block_size, 2))
    assert checks_of(ISOInspector, image) == []


def test_descriptors_without_an_end_are_found() -> None:
    image = iso()
    for number in range(1, 20):
        image = image.patched(PRIMARY + number * SECTOR, image.read(PRIMARY, SECTOR))
    assert checks_of(ISOInspector, image) == ["structure"]


def test_the_signature_elsewhere_makes_no_disc() -> None:
    for at in (0, 1, PRIMARY, PRIMARY - SECTOR + 1):
        assert not inspected(ISOInspector, Image.of(MIB, [(at, b"CD001")])).format_match
    assert not inspected(ISOInspector, Image.of(MIB, [(PRIMARY + 1, b"BEA01")])).format_match


def test_a_root_directory_far_away_is_not_fetched() -> None:
    image = iso(400_000).patched(PRIMARY + 158, both(300_000, 4))
    assert set(inspected(ISOInspector, image).context_info) == {"set"}


# UDF


@pytest.mark.parametrize("block_size", [512, 2048, 4096])
def test_every_cut_of_a_udf_is_noticed(block_size: int) -> None:
    image = udf(500, block_size=block_size)
    for size in [39 * KIB, 45 * KIB, *range(50_000, image.size, image.size // 53), image.size - 1]:
        inspector = inspected(ISOInspector, image.truncated(size))
        assert [finding.check for finding in inspector.checks()] == ["truncated"], size
        assert inspector.wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize("at", [0, 4, 8, 12, 20])
def test_an_anchor_that_is_none_leaves_the_size_undecided(at: int) -> None:
    image = BRIDGE.patched(ANCHOR + at, b"\x55\xaa")
    inspector = inspected(ISOInspector, image)
    assert [finding.check for finding in inspector.checks()] == ["unsupported_subformat"]
    assert inspector.wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize(("within", "block"), [(20, 390), (28, 390), (20, 2**32 - 1), (28, 2**32 - 1)])
def test_a_sequence_beyond_the_end_is_found(within: int, block: int) -> None:
    image = with_udf(udf(), ANCHOR, within, block.to_bytes(4, "little"))
    assert checks_of(ISOInspector, image) == ["truncated"]


def test_a_disc_without_a_reserve_sequence_is_whole() -> None:
    image = with_udf(udf(), ANCHOR, 24, bytes(4) + b"\xff" * 4)
    assert checks_of(ISOInspector, image) == []


@pytest.mark.parametrize(
    ("first", "blocks", "found"),
    [
        (PARTITION_BLOCK, 400 - PARTITION_BLOCK, []),
        (PARTITION_BLOCK, 401 - PARTITION_BLOCK, ["truncated"]),
        (2**32 - 1, 2**32 - 1, ["truncated"]),
        (0, 0, ["structure"]),
    ],
)
def test_the_partition_lies_inside_the_object(first: int, blocks: int, found: list[str]) -> None:
    where = first.to_bytes(4, "little") + blocks.to_bytes(4, "little")
    assert checks_of(ISOInspector, with_udf(udf(), MAIN_BLOCK * SECTOR, 188, where)) == found


@pytest.mark.parametrize("at", [0, 8, 12, 188, 300])
def test_a_changed_byte_of_a_descriptor_does_not_have_its_checksum(at: int) -> None:
    image = udf()
    at += MAIN_BLOCK * SECTOR
    changed = image.patched(at, bytes([image.read(at, 1)[0] ^ 1]))
    assert checks_of(ISOInspector, changed) == ["checksum_mismatch"]


def test_the_reserve_sequence_is_not_read() -> None:
    assert checks_of(ISOInspector, udf().patched(RESERVE_BLOCK * SECTOR, b"\xff" * 64)) == []


def test_a_sequence_without_a_partition_is_found() -> None:
    image = with_udf(udf(), MAIN_BLOCK * SECTOR, 0, b"\7")
    assert checks_of(ISOInspector, image) == ["structure"]


@pytest.mark.parametrize("name", ["", "a name", "\N{SNOWMAN}"])
def test_a_name_is_read_in_8_and_16_bits(name: str) -> None:
    text = b"\x08" + name.encode("latin-1") if name.isascii() else b"\x10" + name.encode("utf-16-be")
    field = text.ljust(127, b"\0") + bytes([len(text)])
    image = with_udf(udf(), (MAIN_BLOCK + 1) * SECTOR, 84, field)
    assert inspected(ISOInspector, image).details()["udf_volume_name"] == name
