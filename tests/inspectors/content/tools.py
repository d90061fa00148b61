"""The tools that make volumes: where they are looked for, and what is done where one is not installed."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

#: Where Debian has them, which is not on everybody's PATH.
SBIN = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))
#: The package of each.
PACKAGES = {
    "blkid": "util-linux",
    "cp": "coreutils",
    "cryptsetup": "cryptsetup-bin",
    "drbdmeta": "drbd-utils",
    "genromfs": "genromfs",
    "hformat": "hfsutils",
    "make-bcache": "bcache-tools",
    "makefs": "makefs",
    "mkapfs": "apfsprogs",
    "mke2fs": "e2fsprogs",
    "mkfs.bfs": "util-linux",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.cramfs": "util-linux",
    "mkfs.erofs": "erofs-utils",
    "mkfs.exfat": "exfatprogs",
    "mkfs.f2fs": "f2fs-tools",
    "mkfs.fat": "dosfstools",
    "mkfs.gfs2": "gfs2-utils",
    "mkfs.jfs": "jfsutils",
    "mkfs.minix": "util-linux",
    "mkfs.nilfs2": "nilfs-tools",
    "mkfs.ntfs": "ntfs-3g",
    "mkfs.ocfs2": "ocfs2-tools",
    "mkfs.reiser4": "reiser4progs",
    "mkfs.reiserfs": "reiserfsprogs",
    "mkfs.xfs": "xfsprogs",
    "mksquashfs": "squashfs-tools",
    "mkswap": "util-linux",
    "parted": "parted",
    "partx": "util-linux",
    "sfdisk": "fdisk",
    "sgdisk": "gdisk",
}


def environment() -> Mapping[str, str]:
    """The environment with the tools' folders on the PATH."""
    return os.environ | {"PATH": os.pathsep.join((os.environ.get("PATH", os.defpath), SBIN))}


def need(tool: str) -> None:
    """Skip the test where a tool is not installed; in CI it fails."""
    if shutil.which(tool, path=environment()["PATH"]) is None:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"{tool} is not there: install {PACKAGES[tool]}")


def run(command: str, folder: Path) -> None:
    """Run a command line to its end in a folder."""
    words = shlex.split(command)
    need(words[0])
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
