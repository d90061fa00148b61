"""Volumes that are just complete enough, and volumes that are not: Keyhole and libblkid agree."""

from collections.abc import Callable
from pathlib import Path

import pytest

from keyhole.builders import Image
from keyhole.inspectors.volumes.superblock import FLOPPY
from keyhole.inspectors.volumes.volumes import FRONT, TOO_SMALL, names
from tests.inspectors.volumes.built import KIB, MIB, lvm2, raid_0, raid_1, vmfs_volume, zfs_big_endian
from tests.inspectors.volumes.conftest import Volume
from tests.inspectors.volumes.libblkid import LibBlkid
from tests.inspectors.volumes.views import BytesView, FileView, ImageView

#: The smallest size in bytes at which a volume is recognised.
SMALLEST = {
    "bcache's backing device": 8192,
    "swap, pages of 4096 bytes": 10 * 4096,
    "swap with S1SUSPEND": 10 * 4096,
    "reiserfs": 128 * KIB,
    "reiser4": 128 * KIB,
    "btrfs": MIB,
    "nilfs2": MIB,
    "befs <": FLOPPY,
    "lvm2 in sector 1": FLOPPY + 1,
    "ocfs2": 14_000 * KIB,
    "jfs": 16 * MIB,
    "gfs2": 32 * MIB,
    "zfs": 64 * MIB,
}


def seen(image: Image, path: Path, libblkid: LibBlkid) -> tuple[str, ...]:
    """The types that libblkid and Keyhole report for an image."""
    with image.write_to(path).open("rb") as file:
        found = names(FileView(file.fileno()))
        assert found == libblkid.names(file.fileno())
    return found


@pytest.mark.parametrize("name", SMALLEST)
def test_a_volume_is_none_if_it_is_too_small(
    open_volume: Callable[[str], Volume], name: str, libblkid: LibBlkid, tmp_path: Path
) -> None:
    volume, smallest = open_volume(name), SMALLEST[name]
    # The inode of a BFS's root directory is at a later offset, and libblkid reads it.
    front = volume.read(0, min(FRONT, smallest))
    enough = Image.of(smallest, [(0, front)])
    assert names(ImageView(enough)) == (volume.kind,)
    if volume.kind != "befs":
        assert seen(enough, tmp_path / "enough", libblkid) == (volume.kind,)
    assert seen(enough.truncated(smallest - 1), tmp_path / "too small", libblkid) == ()


@pytest.mark.parametrize("minor", [None, 0, 1, 2])
def test_a_floppy_is_no_array_s_member(minor: int | None, libblkid: LibBlkid, tmp_path: Path) -> None:
    for size, expected in ((FLOPPY, ()), (FLOPPY + 512, ("linux_raid_member",))):
        image = raid_0(size) if minor is None else raid_1(size, minor)
        assert seen(image, tmp_path / "image", libblkid) == expected


def test_a_volume_is_larger_than_a_kilobyte(libblkid: LibBlkid, tmp_path: Path) -> None:
    superblock = b"hsqs".ljust(28, b"\0") + b"\4\0\0\0"
    image = Image.of(TOO_SMALL + 1, [(0, superblock)])
    assert seen(image, tmp_path / "larger", libblkid) == ("squashfs",)
    assert seen(image.truncated(TOO_SMALL), tmp_path / "not larger", libblkid) == ()
    assert names(BytesView(superblock.ljust(TOO_SMALL + 1, b"\0"), None)) == ("squashfs",)
    assert names(BytesView(superblock.ljust(TOO_SMALL, b"\0"), None)) == ()


def test_it_takes_four_uberblocks_for_a_pool(libblkid: LibBlkid, tmp_path: Path) -> None:
    five = zfs_big_endian()
    four = Image.of(five.size, five.pieces[1:])
    assert seen(four, tmp_path / "four", libblkid) == ("zfs_member",)
    assert seen(Image.of(five.size, five.pieces[2:]), tmp_path / "three", libblkid) == ()
    moved = Image.of(five.size, [(offset + 8, data) for offset, data in five.pieces])
    assert seen(moved, tmp_path / "moved", libblkid) == ()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_minix_with_the_magic_number_of_ext_is_none(
    open_volume: Callable[[str], Volume], version: int, libblkid: LibBlkid, tmp_path: Path
) -> None:
    image = Image.of(4 * MIB, [(0, open_volume(f"minix {version}").read(0, FRONT))])
    assert seen(image, tmp_path / "image", libblkid) == ("minix",)
    marked = image.patched(KIB + 56, b"\x53\xef")
    assert names(ImageView(marked)) == ()
    with marked.write_to(tmp_path / "marked").open("rb") as file:
        assert "minix" not in libblkid.names(file.fileno())


@pytest.mark.parametrize("inodes", [0x137F, 0x138F, 0x2468, 0x2478])
def test_an_erofs_with_as_many_inodes_as_a_minix_has_for_a_mark_is_no_minix(
    open_volume: Callable[[str], Volume], inodes: int
) -> None:
    """libblkid recognises both types, and therefore reports none."""
    erofs = Image.of(128 * KIB, [(0, open_volume("erofs without checksum").read(0, 80 * KIB))])
    image = erofs.patched(KIB + 4, (0x00100010).to_bytes(4, "little")).patched(
        KIB + 16, inodes.to_bytes(8, "little")
    )
    assert names(ImageView(image)) == ("erofs",)


def test_a_reiserfs_superblock_within_the_journal_is_none(
    open_volume: Callable[[str], Volume], libblkid: LibBlkid, tmp_path: Path
) -> None:
    volume = open_volume("reiserfs")
    image = Image.of(40 * MIB, [(0, volume.read(0, FRONT))])
    assert seen(image, tmp_path / "image", libblkid) == ("reiserfs",)
    assert seen(image.patched(64 * KIB + 12, bytes(4)), tmp_path / "patched", libblkid) == ()


def test_a_spare_superblock_of_nilfs2_is_of_a_volume_of_its_own_size(
    open_volume: Callable[[str], Volume],
) -> None:
    lost = open_volume("nilfs2, its first superblock lost")
    size = lost.view.size
    assert size is not None
    spare = lost.read(size - 4096, 4096)
    grown = size + 8 * MIB
    assert names(ImageView(Image.of(size, [(size - 4096, spare)]))) == ("nilfs2",)
    assert names(ImageView(Image.of(grown, [(grown - 4096, spare)]))) == ()


def test_a_label_of_a_group_is_none_in_another_sector(libblkid: LibBlkid, tmp_path: Path) -> None:
    ((_, label),) = lvm2(8 * MIB, 1).pieces
    assert seen(Image.of(8 * MIB, [(512, label)]), tmp_path / "own", libblkid) == ("LVM2_member",)
    assert seen(Image.of(8 * MIB, [(1024, label)]), tmp_path / "other", libblkid) == ()


def test_vmfs_reaches_as_far_as_its_second_header(libblkid: LibBlkid, tmp_path: Path) -> None:
    image = vmfs_volume(4 * MIB)
    assert seen(image.truncated(2 * MIB), tmp_path / "first", libblkid) == ("VMFS_volume_member",)
