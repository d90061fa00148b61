"""DMG: the finding of each check, for images that fail it and for similar good images."""

from pathlib import Path

import pytest

from keyhole.builders import Image, dmg, guest_disk
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.dmg import DMGInspector
from tests.conftest import QemuImg
from tests.inspectors.one_inspector import KIB, MIB, TIB, checks_of, image_of, inspected, run_tool

TRAILER = 512


def patched(image: Image, at: int, value: int, length: int = 8) -> Image:
    """An image with a changed number in its trailer."""
    return image.patched(image.size - TRAILER + at, value.to_bytes(length, "big"))


@pytest.mark.parametrize("size", [MIB, 7 * MIB, 2057 * MIB])
def test_a_good_image_is_whole_and_without_findings(size: int) -> None:
    inspector = inspected(DMGInspector, dmg(size, allocated=(0,)))
    assert (str(inspector), inspector.virtual_size) == ("dmg", size)
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN


@pytest.mark.qemu
def test_qemu_reads_what_the_builder_stored(tmp_path: Path, qemu_img: QemuImg) -> None:
    image = dmg(7 * MIB, allocated=(5, 0))
    assert qemu_img(image.write_to(tmp_path / "a.dmg"), "dmg")["virtual-size"] == 7 * MIB
    qemu_img.run("convert", "-f", "dmg", "-O", "raw", "a.dmg", "raw")
    assert (tmp_path / "raw").read_bytes() == guest_disk(7 * MIB, block_size=MIB, allocated=(5, 0)).to_bytes()


def test_dmg2img_lists_what_the_builder_stored(tmp_path: Path) -> None:
    path = dmg(7 * MIB, allocated=2).write_to(tmp_path / "a.dmg")
    assert "partition 0: whole disk" in run_tool("dmg2img", "dmg2img", "-l", path)


@pytest.mark.parametrize("padding", [0, 1, 300, 510, 511])
def test_a_trailer_is_found_where_qemu_finds_it(padding: int) -> None:
    inspector = inspected(DMGInspector, dmg(7 * MIB, allocated=2).appended(bytes(padding)))
    assert inspector.virtual_size == 7 * MIB
    assert inspector.wholeness is Wholeness.PROVEN
    assert inspector.checks() == []


def test_a_trailer_further_in_makes_no_dmg() -> None:
    assert not inspected(DMGInspector, dmg(7 * MIB).appended(bytes(512))).format_match


def test_the_letters_alone_in_the_last_bytes_make_no_dmg() -> None:
    assert not inspected(DMGInspector, Image.of(4 * KIB, [(4 * KIB - 100, b"koly")])).format_match
    assert not DMGInspector.matches_prefix(b"koly" + bytes(508))


@pytest.mark.parametrize("left", [12, 100, 511])
def test_a_cut_within_the_trailer_is_noticed(left: int) -> None:
    image = dmg(7 * MIB, allocated=1)
    assert checks_of(DMGInspector, image.truncated(image.size - TRAILER + left)) == ["truncated"]


def test_without_its_trailer_it_is_no_dmg_at_all() -> None:
    image = dmg(7 * MIB, allocated=1)
    for cut in (TRAILER - 11, TRAILER, 5000, image.size - 1):
        assert not inspected(DMGInspector, image.truncated(image.size - cut)).format_match


@pytest.mark.parametrize("lost", [1, 512, 4096, MIB])
def test_bytes_lost_before_the_trailer_are_noticed(lost: int) -> None:
    """The trailer then refers to bytes that are after it or that do not exist.

    The bytes were lost in the middle or at the front.
    """
    image = dmg(7 * MIB, allocated=2)
    shorter = Image.of(image.size - lost, [(0, image.read(lost, image.size))])
    inspector = inspected(DMGInspector, shorter)
    assert "truncated" in [finding.check for finding in inspector.checks()]
    assert inspector.wholeness is Wholeness.UNCHECKED


def test_bytes_put_in_before_the_trailer_are_noticed() -> None:
    image = dmg(7 * MIB, allocated=2)
    longer = Image.of(image.size + 512, [(512, image.to_bytes())])
    assert checks_of(DMGInspector, longer) == ["structure"]


@pytest.mark.parametrize(
    ("at", "length", "value", "found"),
    [
        (4, 4, 5, "unknown_features"),
        (8, 4, 256, "structure"),
        (32, 8, 2**63, "truncated"),
        (48, 8, 2**40, "truncated"),
        (60, 4, 3, "data_file"),
        (216, 8, 3 * MIB + 1, "truncated"),
        (224, 8, 2**63, "truncated"),
        (224, 8, 0, "structure"),
        (492, 8, 2**63, "structure"),
        (492, 8, 0, "structure"),
        (492, 8, TIB, "size_mismatch"),
    ],
)
def test_what_cannot_be_is_found(at: int, length: int, value: int, found: str) -> None:
    assert found in checks_of(DMGInspector, patched(dmg(7 * MIB, allocated=3), at, value, length))


@pytest.mark.parametrize(("at", "length", "value"), [(4, 4, 4), (60, 4, 1), (60, 4, 0), (488, 4, 7)])
def test_what_can_be_is_not_found(at: int, length: int, value: int) -> None:
    assert checks_of(DMGInspector, patched(dmg(7 * MIB, allocated=3), at, value, length)) == []


def test_a_disk_of_more_sectors_than_can_be_has_no_size() -> None:
    assert inspected(DMGInspector, patched(dmg(MIB), 492, 2**64 - 1)).virtual_size == 0


def test_two_trailers_are_a_contradiction() -> None:
    """QEMU uses the first trailer in the last 1023 bytes, and macOS the trailer at the file's end."""
    image = dmg(7 * MIB, allocated=1)
    assert "structure" in checks_of(DMGInspector, image.patched(image.size - 700, b"koly"))


def test_a_dmg_of_segments_names_which_it_is() -> None:
    inspector = inspected(DMGInspector, dmg(7 * MIB, segments=3))
    assert [finding.message for finding in inspector.checks()] == [
        "this is segment 1 of 3; the other segments are separate files"
    ]


def test_the_front_and_the_tail_are_all_it_reads(tmp_path: Path) -> None:
    image = image_of(dmg(2057 * MIB, allocated=(1, 2)).write_to(tmp_path / "a.dmg"))
    held = inspected(DMGInspector, image).context_info
    assert held["tail"] == 1023
    assert held.keys() == {"tail", "plist"}
    assert held["plist"] < 120 * KIB
