"""COWD: the finding of each check, for extents that fail it and for similar good extents."""

from functools import partial
from pathlib import Path

import pytest

from keyhole.builders import cowd, guest_disk
from keyhole.inspectors import Severity, Wholeness
from keyhole.inspectors.formats.vmdk.cowd import COWDInspector
from tests.conftest import QemuImg
from tests.inspectors import one_inspector

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4

#: The finding for every extent, because its descriptor is in another file.
ALWAYS = ["unsupported_subformat"]
DIRECTORY, TABLE = 2048, 2560


inspected = partial(one_inspector.inspected, COWDInspector)


checks_of = partial(one_inspector.checks_of, COWDInspector)


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


@pytest.mark.parametrize("size", [512, 7 * MIB, GIB + 512, 2 * TIB - 512])
@pytest.mark.parametrize("grain_sectors", [1, 128])
def test_a_good_extent_is_whole_and_told_to_be_an_extent(size: int, grain_sectors: int) -> None:
    inspector = inspected(cowd(size, grain_sectors=grain_sectors, allocated=1))
    assert (str(inspector), inspector.subformat, inspector.virtual_size) == ("vmdk", "vmfsSparse", size)
    assert [finding.check for finding in inspector.checks()] == ALWAYS
    held = size <= 32 * GIB * grain_sectors
    assert inspector.wholeness is (Wholeness.PROVEN if held else Wholeness.SAMPLED)
    assert inspector.details() == {"version": 1, "grain_size": grain_sectors * 512, "root": True}


def test_wholeness_is_sampled_where_there_is_more_than_one_table() -> None:
    assert inspected(cowd(64 * MIB, allocated=(0, 5000))).wholeness is Wholeness.SAMPLED


def test_an_extent_without_grains_is_whole() -> None:
    assert inspected(cowd(GIB)).wholeness is Wholeness.PROVEN


def test_a_parent_is_found_and_named() -> None:
    inspector = inspected(cowd(GIB, parent="/etc/shadow"))
    parent, *others = inspector.checks()
    assert (parent.check, parent.severity) == ("parent_image", Severity.CRITICAL)
    assert "'/etc/shadow'" in parent.message
    assert [finding.check for finding in others] == ALWAYS
    assert inspector.details()["parent_file_name"] == "/etc/shadow"
    assert inspector.details()["root"] is False


def test_what_is_no_root_has_a_parent_even_if_it_does_not_name_it() -> None:
    assert checks_of(cowd(GIB, parent="")) == ["parent_image", *ALWAYS]


def test_a_roots_geometry_is_no_name() -> None:
    assert checks_of(cowd(GIB).patched(32, b"/etc/passwd!")) == ALWAYS


def test_a_name_in_a_root_is_a_parent_to_whoever_does_not_look_at_the_flag() -> None:
    assert checks_of(cowd(GIB).patched(32, b"/etc/shadow, longer than a geometry")) == [
        "parent_image",
        *ALWAYS,
    ]


MENTION = b'CID=1\nparentCID=ffffffff\nparentFileNameHint="/etc/shadow"\n'


@pytest.mark.parametrize("at", [512, 1124, 1700, 10752 - len(MENTION)])
def test_a_parent_is_found_where_qemu_looks_for_it(at: int) -> None:
    image = cowd(GIB, allocated=1).patched(at, MENTION)
    assert "'/etc/shadow'" in "".join(
        f.message for f in inspected(image).checks() if f.check == "parent_image"
    )


def test_a_mention_where_qemu_does_not_look_is_no_parent() -> None:
    image = cowd(GIB, allocated=1)
    assert checks_of(image.patched(image.size - 512, MENTION)) == ALWAYS


@pytest.mark.qemu
def test_qemu_opens_the_parent_that_an_extent_mentions(qemu_img: QemuImg, tmp_path: Path) -> None:
    """Keyhole reports the parent because bytes that no specification defines refer to another file."""
    padding = b"x" * 512
    image = cowd(GIB).patched(512, padding + MENTION)
    assert qemu_img(image.write_to(tmp_path / "image"))["backing-filename"] == "/etc/shadow"
    assert "parent_image" in checks_of(image)


@pytest.mark.parametrize(
    ("at", "value", "check"),
    [
        (4, 0, "unknown_features"),
        (4, 2, "unknown_features"),
        (8, 1 | 8, "unknown_features"),
        (8, 1 | 4, "dirty"),
        (1648, 1, "dirty"),
        (1648, 1 << 31, "dirty"),
        (16, 0, "structure"),
        (16, 3, "structure"),
        (16, 0x400000, "structure"),
        (24, 1, "structure"),
        (24, 2**32 - 1, "structure"),
        (20, 3, "metadata_overlap"),
        (20, 0, "metadata_overlap"),
        (20, 2**31, "truncated"),
        (28, 2**32 - 1, "truncated"),
        (DIRECTORY, 3, "metadata_overlap"),
        (DIRECTORY, 4, "metadata_overlap"),
        (DIRECTORY + 4, 5, "metadata_overlap"),
        (DIRECTORY + 8, 2**32 - 1, "truncated"),
        (TABLE + 4, 1, "metadata_overlap"),
        (TABLE + 4, 4, "metadata_overlap"),
        (TABLE + 4, 2**32 - 1, "truncated"),
    ],
)
def test_fields_have_their_checks(at: int, value: int, check: str) -> None:
    image = cowd(64 * MIB, allocated=1)
    assert checks_of(image) == ALWAYS
    assert check in checks_of(image.patched(at, u32(value)))


def test_an_extent_that_was_not_closed_is_not_proven_to_be_whole() -> None:
    assert inspected(cowd(GIB, allocated=3).patched(1648, u32(1))).wholeness is Wholeness.UNCHECKED


def test_flags_that_are_known_and_more_entries_than_needed_are_no_finding() -> None:
    assert checks_of(cowd(64 * MIB, allocated=1).patched(8, u32(1)).patched(24, u32(100))) == ALWAYS


def test_an_object_may_be_longer_than_what_is_in_use() -> None:
    assert checks_of(cowd(GIB, allocated=3).appended(bytes(16 * MIB))) == ALWAYS


@pytest.mark.qemu
@pytest.mark.parametrize("grain_sectors", [1, 8, 128])
def test_qemu_reads_what_the_guest_wrote(grain_sectors: int, qemu_img: QemuImg, tmp_path: Path) -> None:
    """QEMU opens an extent only through a descriptor."""
    blocks = (500, 0, 40)
    cowd(64 * MIB, grain_sectors=grain_sectors, allocated=blocks).write_to(tmp_path / "x-delta.vmdk")
    raw = guest_disk(64 * MIB, block_size=512 * grain_sectors, allocated=blocks).write_to(tmp_path / "raw")
    descriptor = tmp_path / "x.vmdk"
    lines = ["# Disk DescriptorFile", "version=1", "CID=1", "parentCID=ffffffff", 'createType="vmfsSparse"']
    descriptor.write_text("\n".join([*lines, 'RW 131072 VMFSSPARSE "x-delta.vmdk"', ""]))
    qemu_img.run("compare", "-f", "vmdk", "-F", "raw", descriptor, raw)
