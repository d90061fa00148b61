"""Parallels: the finding of each check, for images that fail it and for similar good images."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from keyhole.builders import Image, guest_disk, parallels
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.parallels import ParallelsInspector
from tests.conftest import QemuImg
from tests.examples import images_of
from tests.inspectors import one_inspector

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4

IMAGES = images_of(ParallelsInspector)


inspected = partial(one_inspector.inspected, ParallelsInspector)


checks_of = partial(one_inspector.checks_of, ParallelsInspector)


BOTH = pytest.mark.parametrize("extended", [True, False])


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


@BOTH
@pytest.mark.parametrize("size", [0, 512, 7 * MIB, 2057 * MIB, 32 * GIB])
def test_a_good_image_is_whole_and_without_findings(size: int, extended: bool) -> None:
    inspector = inspected(parallels(size, allocated=min(3, size // MIB), extended=extended))
    assert (str(inspector), inspector.virtual_size) == ("parallels", size)
    assert inspector.subformat == ("WithouFreSpacExt" if extended else "WithoutFreeSpace")
    assert inspector.checks() == []
    assert inspector.wholeness is Wholeness.PROVEN


def test_details() -> None:
    inspector = inspected(parallels(7 * MIB, cluster_size=64 * KIB))
    assert inspector.details() == {
        "version": 2,
        "cluster_size": 64 * KIB,
        "clusters": 112,
        "data_offset": 64 * KIB,
    }


@BOTH
def test_wholeness_is_sampled_where_the_bat_is_longer_than_what_is_held(extended: bool) -> None:
    assert inspected(parallels(32 * GIB, allocated=1, extended=extended)).wholeness is Wholeness.PROVEN
    assert inspected(parallels(33 * GIB, allocated=1, extended=extended)).wholeness is Wholeness.SAMPLED


def test_of_a_long_bat_the_end_is_looked_at() -> None:
    last = TIB // MIB - 1
    image = parallels(TIB, allocated=(0, last))
    assert checks_of(image) == []
    assert checks_of(image.truncated(image.size - 1)) == ["truncated"]


@BOTH
def test_an_image_in_use_was_not_closed_cleanly(extended: bool) -> None:
    inspector = inspected(parallels(GIB, allocated=2, in_use=0x746F6E59, extended=extended))
    assert [finding.check for finding in inspector.checks()] == ["dirty"]
    assert inspector.wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize("in_use", [0, 0x312E3276])
def test_old_and_new_software_close_an_image_differently(in_use: int) -> None:
    assert checks_of(parallels(GIB, allocated=2, in_use=in_use)) == []


@pytest.mark.parametrize(("at", "value"), [(16, 1), (16, 3), (52, 2), (52, 1 << 31)])
def test_unknown_versions_and_flags_are_found(at: int, value: int) -> None:
    assert checks_of(parallels(GIB).patched(at, u32(value))) == ["unknown_features"]


def test_an_empty_image_may_say_so() -> None:
    assert checks_of(parallels(GIB).patched(52, u32(1))) == []
    assert checks_of(parallels(GIB, allocated=1).patched(52, u32(1))) == ["structure"]


@pytest.mark.parametrize(
    ("at", "value"), [(28, 0), (28, 2**31 // 513 + 1), (28, 2**32 - 1), (32, 2**29), (32, 2**32 - 1)]
)
def test_a_header_out_of_bounds_is_a_contradiction(at: int, value: int) -> None:
    inspector = inspected(parallels(GIB, allocated=2).patched(at, u32(value)))
    assert [finding.check for finding in inspector.checks()] == ["structure"]
    assert inspector.wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize(
    ("at", "value"),
    [(32, 1023), (40, 1), (44, 1), (48, 0), (48, 2047), (48, 4096), (64, 2)],
    ids=[
        "too few clusters",
        "too large a disk",
        "neither in use nor closed",
        "no data area",
        "data within a cluster",
        "a cluster in front of the data",
        "two at one place",
    ],
)
def test_what_cannot_be_is_a_contradiction(at: int, value: int) -> None:
    image = parallels(GIB, allocated=2)
    assert checks_of(image) == []
    assert not {"structure", "metadata_overlap"}.isdisjoint(checks_of(image.patched(at, u32(value))))


@pytest.mark.parametrize(
    ("at", "value"),
    [(40, 1), (48, 1), (64, 1)],
    ids=["a size of 64 bits", "data over the BAT", "a cluster over the BAT"],
)
def test_what_cannot_be_in_the_older_format_is_a_contradiction(at: int, value: int) -> None:
    image = parallels(GIB, allocated=2, extended=False)
    assert checks_of(image) == []
    assert not {"structure", "metadata_overlap"}.isdisjoint(checks_of(image.patched(at, u32(value))))


def test_the_older_format_has_a_size_of_32_bits() -> None:
    """qemu-img prints the same size."""
    assert inspected(parallels(GIB, extended=False).patched(40, u32(1))).virtual_size == GIB


def test_entries_count_sectors_in_the_older_format_and_clusters_in_the_newer() -> None:
    """Adding 1 to an entry moves a cluster by 1 MiB in the newer format, and by 512 bytes in the older."""
    older, newer = (parallels(GIB, allocated=1, extended=extended) for extended in (False, True))
    assert older.read(64, 4) == u32(9)
    assert newer.read(64, 4) == u32(1)
    assert checks_of(older.patched(64, u32(10))) == ["truncated"]
    assert checks_of(older.patched(64, u32(10)).appended(bytes(512))) == []
    assert checks_of(newer.patched(64, u32(2)).appended(bytes(512))) == ["truncated"]


def with_extension(magic: int) -> Image:
    """An image whose last cluster is the format extension instead of the guest's data."""
    image = parallels(GIB, allocated=1)
    extended = image.appended(u64(magic) + bytes(MIB - 8))
    return extended.patched(56, u64(image.size // 512))


def test_a_format_extension_is_told() -> None:
    inspector = inspected(with_extension(0xAB234CEF23DCEA87))
    assert inspector.checks() == []
    assert inspector.details()["extension_offset"] == 2 * MIB


def test_a_format_extension_that_is_none_is_a_contradiction() -> None:
    assert checks_of(with_extension(1)) == ["structure"]
    assert "metadata_overlap" in checks_of(with_extension(0xAB234CEF23DCEA87).patched(56, u64(1)))


def test_a_format_extension_beyond_the_end_is_missing() -> None:
    image = with_extension(0xAB234CEF23DCEA87)
    assert checks_of(image.truncated(image.size - 1)) == ["truncated"]
    assert checks_of(image.patched(56, u64(2**64 - 1))) == ["truncated"]


@pytest.mark.qemu
@pytest.mark.parametrize(
    "options",
    [{}, {"extended": False}, {"cluster_size": 64 * KIB}, {"cluster_size": 63 * 512, "extended": False}],
    ids=str,
)
def test_qemu_reads_what_the_guest_wrote(options: dict[str, Any], qemu_img: QemuImg, tmp_path: Path) -> None:
    blocks = (63, 0, 40)
    image = parallels(64 * MIB, allocated=blocks, **options).write_to(tmp_path / "image")
    raw = guest_disk(64 * MIB, block_size=options.get("cluster_size", MIB), allocated=blocks).write_to(
        tmp_path / "raw"
    )
    qemu_img.run("compare", "-f", "parallels", "-F", "raw", image, raw)
