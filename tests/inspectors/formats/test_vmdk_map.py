"""VMDK: entries that lead to headers or tables, tables at unusual offsets, extents of split disks."""

import struct

import pytest

from keyhole.builders import Image, vmdk_sparse, vmdk_stream_optimized
from keyhole.inspectors import Wholeness
from keyhole.reasons import Status
from keyhole.scan.policy import judge
from tests.conftest import QemuImg
from tests.inspectors.formats.maps import PROVEN, assert_good, overlaps_of, thorough_facts_of
from tests.inspectors.inspecting import checks_of, facts_of
from tests.inspectors.one_inspector import image_of

KIB, MIB, GIB = 1024, 1024**2, 1024**3
REDUNDANT, PRIMARY = 48, 56
#: The header's flags: line ends and redundant tables, and zeroed grains.
FLAGS, ZERO_GRAINS = 3, 4


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def directory_of(image: Image, at: int = PRIMARY) -> int:
    """The offset of a grain directory, in bytes."""
    return int.from_bytes(image.read(at, 8), "little") * 512


def table_of(image: Image, at: int = PRIMARY, number: int = 0) -> int:
    """The offset of a grain table, in bytes."""
    return int.from_bytes(image.read(directory_of(image, at) + 4 * number, 4), "little") * 512


IMAGE = vmdk_sparse(GIB, allocated=3)
TARGETS = {
    "the descriptor": 1,
    "the end of the descriptor": 20,
    "the redundant grain directory": directory_of(IMAGE, REDUNDANT) // 512,
    "a redundant grain table": table_of(IMAGE, REDUNDANT, 7) // 512 + 3,
    "the grain directory": directory_of(IMAGE) // 512,
    "a grain table": table_of(IMAGE, PRIMARY, 31) // 512,
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("entry", [0, 3, 511, 512 * 31 + 5])
@pytest.mark.parametrize("at", [REDUNDANT, PRIMARY])
def test_a_grain_over_metadata_is_found(target: str, entry: int, at: int) -> None:
    found = overlaps_of(IMAGE.patched(table_of(IMAGE, at) + 4 * entry, u32(TARGETS[target])))
    assert any(message.startswith("a grain at byte") for message in found)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("at", [REDUNDANT, PRIMARY])
def test_a_grain_table_over_metadata_is_found(target: str, at: int) -> None:
    assert overlaps_of(IMAGE.patched(directory_of(IMAGE, at) + 4 * 5, u32(TARGETS[target])))


@pytest.mark.parametrize("at", [REDUNDANT, PRIMARY])
def test_two_grains_in_one_place_are_found(at: int) -> None:
    table = table_of(IMAGE, at)
    first = struct.unpack("<I", IMAGE.read(table, 4))[0]
    for sector in (first, first + 1, first + 127):
        assert overlaps_of(IMAGE.patched(table + 4 * 77, u32(sector)))


def test_two_tables_in_one_place_are_found() -> None:
    directory = directory_of(IMAGE)
    second = IMAGE.read(directory + 4, 4)
    assert "a grain table" in overlaps_of(IMAGE.patched(directory, second))[0]


def test_a_directory_over_the_descriptor_is_found() -> None:
    assert overlaps_of(IMAGE.patched(PRIMARY, (3).to_bytes(8, "little")))


def test_an_entry_of_one_is_zeros_only_where_the_header_says_so() -> None:
    """QEMU uses the flag. Without it, the grain is the descriptor."""
    patched = IMAGE.patched(table_of(IMAGE) + 40, u32(1)).patched(table_of(IMAGE, REDUNDANT) + 40, u32(1))
    assert "a grain at byte 512 overlaps the descriptor" in overlaps_of(patched)
    assert_good(patched.patched(8, u32(FLAGS | ZERO_GRAINS)))


def test_a_grain_where_qemu_searches_a_parent_is_found() -> None:
    """A shorter descriptor leaves a place for a grain in the bytes that QEMU reads as a descriptor."""
    short = IMAGE.patched(36, (2).to_bytes(8, "little"))
    assert checks_of(short) == []
    assert overlaps_of(short.patched(table_of(IMAGE), u32(5)))


@pytest.mark.parametrize("size", [7 * MIB, GIB, 10 * GIB, 15 * GIB, 21 * GIB, 128 * GIB])
def test_good_disks_of_any_size_are_safe(size: int) -> None:
    last = size // 65536 - 1
    assert_good(vmdk_sparse(size, allocated=[0, 5, last // 2, last]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "at"), [(7 * MIB, REDUNDANT), (9 * GIB, REDUNDANT), (15 * GIB, PRIMARY), (64 * GIB, REDUNDANT)]
)
@pytest.mark.parametrize("number", [0, -1])
def test_the_first_and_the_last_table_are_read_of_disks_of_any_size(size: int, at: int, number: int) -> None:
    image = vmdk_sparse(size, allocated=3)
    table = table_of(image, at, number % -(-size // (32 * MIB)))
    assert overlaps_of(image.patched(table, u32(2)))


def test_all_tables_of_a_large_disk_are_read_where_that_is_wanted() -> None:
    image = vmdk_sparse(64 * GIB, allocated=3)
    hidden = image.patched(table_of(image, PRIMARY, 1024) + 44, u32(2))
    assert checks_of(hidden) == []
    assert facts_of(hidden).wholeness is Wholeness.SAMPLED
    assert judge(thorough_facts_of(hidden), rule=PROVEN)[0] is Status.UNSAFE
    assert thorough_facts_of(image).wholeness is Wholeness.PROVEN


def test_maps_that_are_too_large_to_be_held_are_no_proof() -> None:
    image = vmdk_sparse(200 * GIB)
    assert judge(thorough_facts_of(image), rule=PROVEN) == (Status.INCONCLUSIVE, ("wholeness_unchecked",))


def apart(image: Image) -> Image:
    """An image whose second grain table is at another offset, followed by a grain."""
    directory, at = directory_of(image), image.size
    table = u32((at + 2048) // 512) + bytes(2044)
    return (
        image.appended(table + bytes(65536))
        .patched(directory + 4, u32(at // 512))
        .patched(table_of(image, REDUNDANT, 1), table)
    )


def test_tables_anywhere_are_read() -> None:
    image = apart(IMAGE)
    assert_good(image)
    assert overlaps_of(image.patched(IMAGE.size + 8, u32(1)))
    assert "truncated" in checks_of(image.truncated(image.size - 1))


def test_tables_that_are_not_there_are_no_fault() -> None:
    """A grain directory can omit tables without data."""
    for at in (REDUNDANT, PRIMARY):
        directory = directory_of(IMAGE, at)
        missing = IMAGE.patched(directory + 4 * 9, bytes(4))
        if at == PRIMARY:
            missing = missing.patched(directory_of(IMAGE, REDUNDANT) + 4 * 9, bytes(4))
            assert_good(missing)


STREAM = vmdk_stream_optimized(GIB, allocated=3)


def footer_directory(image: Image) -> int:
    """The offset of the grain directory according to the footer, in bytes."""
    return int.from_bytes(image.read(image.size - 1024 + 56, 8), "little") * 512


@pytest.mark.parametrize("sector", [1, 20, STREAM.size // 512 - 3, STREAM.size // 512 - 2])
def test_tables_and_grains_of_a_stream_over_metadata_are_found(sector: int) -> None:
    directory = footer_directory(STREAM)
    table = int.from_bytes(STREAM.read(directory, 4), "little") * 512
    assert overlaps_of(STREAM.patched(directory, u32(sector)))
    assert overlaps_of(STREAM.patched(table, u32(sector)))


def test_a_stream_is_read_whole_where_that_is_wanted() -> None:
    image = vmdk_stream_optimized(4 * GIB, allocated=range(0, 65536, 64))
    assert_good(image)
    directory = footer_directory(image)
    table = int.from_bytes(image.read(directory, 4), "little") * 512
    hidden = image.patched(table, u32(1))
    assert checks_of(hidden) == []
    assert judge(thorough_facts_of(hidden), rule=PROVEN)[0] is Status.UNSAFE


def split(size: int) -> Image:
    """An extent of a split disk as VMware writes it, without a descriptor."""
    image = vmdk_sparse(size, allocated=3, descriptor=b"")
    return image.patched(28, bytes(16))


def test_an_extent_of_a_split_disk_is_told_and_not_judged() -> None:
    facts = facts_of(split(2 * GIB))
    assert (facts.format, facts.subformat, facts.virtual_size) == ("vmdk", "twoGbMaxExtentSparse", 2 * GIB)
    assert judge(facts) == (Status.REJECTED, ("unsupported_subformat",))


def test_an_extent_of_a_split_disk_leads_nowhere_all_the_same() -> None:
    """QEMU looks for a parent after every header."""
    parent = split(GIB).patched(512, b'# Disk DescriptorFile\nparentFileNameHint="/etc/shadow"\n')
    assert judge(facts_of(parent)) == (Status.UNSAFE, ("parent_image", "unsupported_subformat"))
    table = table_of(parent)
    assert overlaps_of(split(GIB).patched(table, u32(7)))


def test_a_cut_extent_of_a_split_disk_is_damaged() -> None:
    image = split(GIB)
    assert judge(facts_of(image.truncated(image.size - 1)))[0] is Status.DAMAGED


@pytest.mark.parametrize(
    "name",
    ["/etc/shadow", "../a.vmdk", "a/b.vmdk", r"C:\\a.vmdk", r"..\\a", "C:a.vmdk", "nbd:host:1", "..", ""],
)
def test_an_extent_with_a_path_is_another_file(name: str) -> None:
    assert checks_of(vmdk_sparse(GIB, extent_line=f'RW 2097152 SPARSE "{name}"')) == ["extent_path"]


def test_a_header_without_capacity_makes_the_descriptor_count() -> None:
    """QEMU then reads the object again, as a text."""
    assert "extent_path" in checks_of(IMAGE.patched(12, bytes(8)))


@pytest.mark.qemu
@pytest.mark.parametrize(
    "options", ["subformat=monolithicSparse", "subformat=streamOptimized", "zeroed_grain=on"]
)
@pytest.mark.parametrize("size", ["7M", "3G", "40G"])
def test_what_qemu_makes_is_whole_by_all_its_maps(qemu_img: QemuImg, options: str, size: str) -> None:
    path = qemu_img.folder / "image"
    qemu_img.run("create", "-q", "-f", "raw", "disk", size)
    with (qemu_img.folder / "disk").open("r+b") as disk:
        for at in (0, 3 * MIB, 6 * MIB):
            disk.seek(at)
            disk.write(b"data" * 999)
    qemu_img.run("convert", "-O", "vmdk", "-o", options, "disk", path)
    assert_good(image_of(path))


@pytest.mark.qemu
def test_qemu_writes_to_the_descriptor_that_a_grain_lies_over(qemu_img: QemuImg) -> None:
    """The guest can name a parent, which the next reader opens."""
    path = IMAGE.patched(table_of(IMAGE), u32(1)).write_to(qemu_img.folder / "image")
    assert overlaps_of(image_of(path))
    text = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=2\ncreateType="monolithicSparse"\n'
    (qemu_img.folder / "disk").write_bytes(text + b'parentFileNameHint="base.vmdk"\n' + bytes(400))
    qemu_img.run("create", "-q", "-f", "vmdk", "base.vmdk", "1G")
    qemu_img.run("convert", "-n", "-f", "raw", "-O", "vmdk", "disk", path)
    assert qemu_img(path)["backing-filename"].endswith("base.vmdk")
