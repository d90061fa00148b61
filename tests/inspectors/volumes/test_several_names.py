"""Volumes with several signatures: Keyhole reports all types, and whether they contradict each other."""

from collections.abc import Callable
from pathlib import Path

import pytest

from keyhole.builders import Image
from keyhole.inspectors.volumes.volumes import ambivalent, names
from tests.inspectors.volumes.built import GIB, MIB, lvm2, raid_0, raid_1, vmfs_volume
from tests.inspectors.volumes.conftest import Volume
from tests.inspectors.volumes.libblkid import LibBlkid, printed_by_blkid
from tests.inspectors.volumes.views import FileView
from tests.tools import run


def over(volume: Volume, pieces: Image, path: Path) -> Path:
    """A new file: a volume over which the pieces of another volume are written. Holes stay holes."""
    run(f"cp --sparse=always {volume.path} {path}", path.parent)
    with path.open("r+b") as file:
        for offset, data in pieces.pieces:
            file.seek(offset)
            file.write(data)
    return path


def check(path: Path, expected: tuple[str, ...], libblkid: LibBlkid, *, contradict: bool) -> None:
    """Assert that libblkid and Keyhole report the same types."""
    with path.open("rb") as file:
        assert names(FileView(file.fileno())) == expected == libblkid.names(file.fileno())
        assert ambivalent(expected) == contradict == libblkid.is_ambivalent(file.fileno())
    if not contradict:
        assert printed_by_blkid(path) == expected[0]


@pytest.mark.parametrize("member", [raid_0, lambda size: raid_1(size, 0)], ids=["0.90", "1.0"])
def test_a_file_system_in_a_mirror_is_told_after_the_mirror(
    open_volume: Callable[[str], Volume],
    libblkid: LibBlkid,
    tmp_path: Path,
    member: Callable[[int], Image],
) -> None:
    path = over(open_volume("ext4"), member(8 * MIB), tmp_path / "mirror.img")
    check(path, ("linux_raid_member", "ext4"), libblkid, contradict=False)


def test_vmfs_is_told_with_its_volume(libblkid: LibBlkid, tmp_path: Path) -> None:
    path = vmfs_volume(GIB).write_to(tmp_path / "vmfs.img")
    check(path, ("VMFS_volume_member", "VMFS"), libblkid, contradict=False)


def test_two_file_systems_contradict_each_other(
    open_volume: Callable[[str], Volume], libblkid: LibBlkid, tmp_path: Path
) -> None:
    swap = open_volume("swap, pages of 4096 bytes")
    both = Image.of(MIB, [(1024, swap.read(1024, 512)), (4086, swap.read(4086, 10))])
    path = over(open_volume("btrfs"), both, tmp_path / "both.img")
    check(path, ("swap", "btrfs"), libblkid, contradict=True)


def test_a_file_system_that_was_a_group_s_member_is_foremost_that(
    open_volume: Callable[[str], Volume], libblkid: LibBlkid, tmp_path: Path
) -> None:
    path = over(open_volume("ext4"), lvm2(8 * MIB), tmp_path / "was.img")
    check(path, ("LVM2_member", "ext4"), libblkid, contradict=False)


def test_one_name_or_none_does_not_contradict_itself() -> None:
    assert not ambivalent(())
    assert not ambivalent(("ext4",))
