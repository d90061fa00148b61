"""Keyhole and blkid report the same type for all kinds of volumes."""

import sys
from pathlib import Path

import pytest

from keyhole.api import scan_path
from keyhole.inspectors.volumes.volumes import names
from keyhole.scan.settings import ScanSettings
from tests.inspectors.volumes.conftest import Volume, Volumes
from tests.inspectors.volumes.libblkid import LibBlkid, printed_by_blkid
from tests.tools import need, run


def test_a_volume_is_what_blkid_says(volume: Volume, libblkid: LibBlkid) -> None:
    assert names(volume.view) == (volume.kind,)
    assert printed_by_blkid(volume.path) == volume.kind
    assert libblkid.names(volume.descriptor) == (volume.kind,)


def test_a_volume_whose_tool_is_missing_is_skipped_every_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Volumes that are made from it are skipped too. No unfinished file remains that could be used later."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    volumes = Volumes(tmp_path)
    before = sorted(tmp_path.iterdir())
    for name in ("nilfs2", "nilfs2, its first superblock lost", "squashfs") * 2:
        with pytest.raises(pytest.skip.Exception, match="is not there: install"):
            volumes.path(name)
    assert sorted(tmp_path.iterdir()) == before


def test_a_volume_whose_tool_fails_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "mkfs.nilfs2"
    tool.parent.mkdir()
    tool.write_text(f"#!{sys.executable}\nraise SystemExit(1)\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))
    volumes = Volumes(tmp_path)
    for _ in range(2):
        with pytest.raises(AssertionError, match=r"mkfs\.nilfs2"):
            volumes.path("nilfs2")


@pytest.mark.parametrize("name", ["luks 1", "luks 2"])
def test_so_is_what_has_an_inspector_of_its_own(volumes: Volumes, name: str) -> None:
    need("blkid")
    report = scan_path(volumes.path(name), ScanSettings())
    assert report.content == (printed_by_blkid(volumes.path(name)),) == ("crypto_LUKS",)


def test_a_volume_with_boot_code_in_its_free_sector_is_one(
    volumes: Volumes, libblkid: LibBlkid, tmp_path: Path
) -> None:
    """GRUB and extlinux write such boot code. libblkid also reports an MBR without partitions."""
    path = tmp_path / "volume.img"
    run(f"cp --sparse=always {volumes.path('ext4')} {path}", tmp_path)
    with path.open("r+b") as file:
        file.write(b"\xeb\x58\x90EXTLINUX".ljust(440, b"\x90"))
        file.seek(510)
        file.write(b"\x55\xaa")
        file.flush()
        assert libblkid.table(file.fileno()) == "dos"

    report = scan_path(path, ScanSettings())

    assert (report.content, report.status) == (("ext4", "dos"), "safe")


@pytest.mark.parametrize("options", ["--mbr=y", "-F 32 --mbr=y"])
def test_a_fat_that_has_a_partition_of_itself_is_a_volume(tmp_path: Path, options: str) -> None:
    path = tmp_path / "volume.img"
    run(f"mkfs.fat {options} -C {path} 65536", tmp_path)

    report = scan_path(path, ScanSettings())

    assert (report.content, report.status) == (("vfat",), "safe")
    need("blkid")
    assert printed_by_blkid(path) == "vfat"
