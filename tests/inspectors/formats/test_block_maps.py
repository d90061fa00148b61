"""VHD, VHDX and VDI: maps with entries that lead to headers, to tables, or to one place twice."""

import struct
from collections.abc import Callable

import pytest

from keyhole.builders import Image, vdi, vhd_dynamic, vhdx
from keyhole.reasons import Status
from keyhole.scan.policy import judge
from tests.conftest import QemuImg
from tests.inspectors.formats.maps import PROVEN, assert_good, overlaps_of, thorough_facts_of
from tests.inspectors.inspecting import checks_of
from tests.inspectors.one_inspector import image_of

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4

VHD = vhd_dynamic(GIB, allocated=3)
#: The offsets of the builder's block table, and of the first block after it.
VHD_TABLE, VHD_FIRST = 1536, 1536 + 2048
VHDX = vhdx(GIB, block_size=MIB, allocated=3)
VHDX_BAT = 3 * MIB
VDI = vdi(GIB, allocated=3)
VDI_MAP = 512


def vhd_entry(image: Image, number: int, sector: int) -> Image:
    """A VHD with a changed entry in its block table."""
    return image.patched(VHD_TABLE + 4 * number, struct.pack(">I", sector))


def vhdx_entry(image: Image, number: int, place: int, state: int = 6) -> Image:
    """A VHDX with a changed entry in its BAT. The offset is in MiB."""
    return image.patched(VHDX_BAT + 8 * number, struct.pack("<Q", place << 20 | state))


@pytest.mark.parametrize("number", [0, 1, 7, 511])
@pytest.mark.parametrize(
    "sector",
    [0, 1, 2, 3, 6, VHD_FIRST // 512 + 1, VHD_FIRST // 512 + 4098, (VHD.size - 512) // 512 - 4096],
    ids=["footer copy", "header", "header's end", "table", "table's end", "block", "next block", "footer"],
)
def test_a_vhd_block_over_something_else_is_found(number: int, sector: int) -> None:
    assert overlaps_of(vhd_entry(VHD, number, sector))


def test_two_vhd_blocks_in_one_place_are_found() -> None:
    assert overlaps_of(vhd_entry(VHD, 9, VHD_FIRST // 512))


def test_a_vhd_whose_structures_overlap_is_found() -> None:
    header = bytearray(VHD.read(512, 1024))
    header[16:24] = (1024).to_bytes(8, "big")
    header[36:40] = bytes(4)
    header[36:40] = (~sum(header) & 0xFFFFFFFF).to_bytes(4, "big")
    assert "overlaps the dynamic header" in overlaps_of(VHD.patched(512, bytes(header)))[0]


@pytest.mark.parametrize("block_size", [512 * KIB, MIB, 2 * MIB, 4 * MIB, 16 * MIB])
def test_vhds_of_any_block_size_are_good(block_size: int) -> None:
    assert_good(vhd_dynamic(GIB, block_size=block_size, allocated=5))


def moved_table(image: Image) -> Image:
    """A VHD whose block table follows its blocks. Tools move the table there if it must grow."""
    end = image.size - 512
    header = bytearray(image.read(512, 1024))
    header[16:24] = end.to_bytes(8, "big")
    header[36:40] = bytes(4)
    header[36:40] = (~sum(header) & 0xFFFFFFFF).to_bytes(4, "big")
    table, footer = image.read(VHD_TABLE, 2048), image.read(end, 512)
    return image.truncated(end).appended(table + footer).patched(512, bytes(header))


def test_a_block_table_may_lie_anywhere() -> None:
    image = moved_table(VHD)
    assert_good(image)
    assert overlaps_of(image.patched(VHD.size - 512, struct.pack(">I", (VHD.size - 512) // 512)))


def test_all_of_a_large_vhds_table_is_read_where_that_is_wanted() -> None:
    image = vhd_dynamic(2040 * GIB, allocated=3)
    hidden = vhd_entry(image, 900_000, 0)
    assert checks_of(hidden) == []
    assert judge(thorough_facts_of(hidden), rule=PROVEN)[0] is Status.UNSAFE
    assert judge(thorough_facts_of(image), rule=PROVEN)[0] is Status.SAFE


@pytest.mark.parametrize("place", [0, 1, 2, 3, 5], ids=["headers", "log", "metadata", "BAT", "block"])
@pytest.mark.parametrize("state", [6, 7])
def test_a_vhdx_block_over_something_else_is_found(place: int, state: int) -> None:
    assert overlaps_of(vhdx_entry(VHDX, 77, place, state))


def test_a_large_vhdx_block_that_reaches_into_something_else_is_found() -> None:
    image = vhdx(GIB, allocated=1, metadata_offset=40 * MIB, bat_offset=41 * MIB)
    assert overlaps_of(image.patched(41 * MIB, struct.pack("<Q", 9 << 20 | 6)))


@pytest.mark.parametrize("place", [0, 1, 2, 3, 5])
def test_a_sector_bitmap_over_something_else_is_found(place: int) -> None:
    image = vhdx(16 * GIB, block_size=MIB, allocated=3, parent="base.vhdx")
    found = [
        finding.message
        for finding in thorough_facts_of(vhdx_entry(image, 4096, place)).findings
        if finding.check == "metadata_overlap"
    ]
    assert len(found) == 1


@pytest.mark.parametrize("state", [0, 1, 2, 3, 4, 5])
def test_a_vhdx_entry_that_is_not_present_leads_nowhere(state: int) -> None:
    assert_good(vhdx_entry(VHDX, 77, 0, state))


def test_all_of_a_large_bat_is_read_where_that_is_wanted() -> None:
    image = vhdx(TIB, block_size=MIB, allocated=3)
    hidden = vhdx_entry(image, 1_000_000, 2)
    assert checks_of(hidden) == []
    assert judge(thorough_facts_of(hidden), rule=PROVEN)[0] is Status.UNSAFE
    assert judge(thorough_facts_of(image), rule=PROVEN)[0] is Status.SAFE
    # Keyhole does not store a map of 64 MiB.
    too_large = thorough_facts_of(vhdx(8 * TIB, block_size=MIB, allocated=3, bat_offset=3 * MIB))
    assert judge(too_large, rule=PROVEN) == (Status.INCONCLUSIVE, ("wholeness_unchecked",))


@pytest.mark.parametrize(
    ("at", "value", "part"),
    [
        (0x154, 0, "header"),
        (0x154, 256, "header"),
        (0x158, 0, "header"),
        (0x158, 512, "block map"),
        (0x158, 4096, "block map"),
    ],
)
@pytest.mark.parametrize("allocated", [0, 3])
def test_a_vdi_whose_parts_overlap_is_found(at: int, value: int, part: str, allocated: int) -> None:
    """If no block is allocated yet, the first allocated block will overlap."""
    image = vdi(GIB, allocated=allocated).patched(at, value.to_bytes(4, "little"))
    assert any(part in message for message in overlaps_of(image))


def test_two_vdi_blocks_in_one_place_are_found() -> None:
    assert overlaps_of(VDI.patched(VDI_MAP + 4 * 77, struct.pack("<I", 1)))


def test_all_of_a_large_vdis_map_is_read_where_that_is_wanted() -> None:
    image = vdi(3 * TIB, allocated=3)
    hidden = image.patched(VDI_MAP + 4 * 3_000_000, struct.pack("<I", 1))
    assert checks_of(hidden) == []
    assert judge(thorough_facts_of(hidden), rule=PROVEN)[0] is Status.UNSAFE
    assert judge(thorough_facts_of(image), rule=PROVEN)[0] is Status.SAFE


QEMU = {
    "vpc": ["subformat=dynamic", "subformat=dynamic,force_size=on"],
    "vhdx": ["block_size=1M", "block_size=8M,log_size=4M", "subformat=fixed", "block_state_zero=off"],
    "vdi": ["static=off", "static=on"],
}


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize(("kind", "options"), [(kind, one) for kind, some in QEMU.items() for one in some])
def test_what_qemu_makes_is_whole_by_all_its_maps(qemu_img: QemuImg, kind: str, options: str) -> None:
    path = qemu_img.folder / "image"
    with (qemu_img.folder / "disk").open("wb") as disk:
        disk.truncate(80 * MIB)
        for at in (0, 7 * MIB, 70 * MIB):
            disk.seek(at)
            disk.write(b"data" * 999)
    qemu_img.run("convert", "-f", "raw", "-O", kind, "-o", options, "disk", path)
    assert_good(image_of(path))


#: The errors that `qemu-img check` finds in images of these formats.
REFUSED: dict[str, Callable[[], Image]] = {
    "vdi": lambda: VDI.patched(VDI_MAP + 4 * 77, struct.pack("<I", 1)),
    "vhdx": lambda: vhdx_entry(VHDX, 77, 2),
}


@pytest.mark.qemu
@pytest.mark.parametrize("kind", REFUSED)
def test_qemu_finds_it_too_where_it_looks(qemu_img: QemuImg, kind: str) -> None:
    path = REFUSED[kind]().write_to(qemu_img.folder / "image")
    with pytest.raises(AssertionError, match=r"errors|overlap|Invalid|corrupt"):
        qemu_img.run("check", "-f", kind, path)


@pytest.mark.qemu
def test_qemu_overwrites_a_vhds_header_by_its_block_table(qemu_img: QemuImg) -> None:
    path = vhd_entry(VHD, 0, 0).write_to(qemu_img.folder / "image")
    (qemu_img.folder / "disk").write_bytes(b"guest" * 400)
    qemu_img.run("convert", "-n", "-f", "raw", "-O", "vpc", "disk", path)
    assert b"guest" in path.read_bytes()[512:1536]
