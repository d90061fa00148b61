"""Volumes of all kinds: what they are is what blkid says they are."""

import sys
from pathlib import Path

import pytest

from tests.inspectors.content.conftest import Volume, Volumes
from tests.inspectors.content.libblkid import LibBlkid, printed_by_blkid
from worker.inspectors.content.volumes import names


def test_a_volume_is_what_blkid_says(volume: Volume, libblkid: LibBlkid) -> None:
    assert names(volume.view) == (volume.kind,)
    assert printed_by_blkid(volume.path) == volume.kind
    assert libblkid.names(volume.descriptor) == (volume.kind,)


def test_a_volume_whose_tool_is_missing_is_skipped_every_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor is one that is made of it there, and nothing half-made is left that would be taken for it."""
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
