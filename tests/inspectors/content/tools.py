"""The tools that make volumes: where they are looked for, and what is done where one is not installed."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

#: Where Debian has them, which is not on everybody's PATH.
SBIN = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))
#: The package of each.
PACKAGES = {
    "7zz": "7zip",
    "blkid": "util-linux",
    "bsdtar": "libarchive-tools",
    "busybox": "busybox",
    "bzip2": "bzip2",
    "cgpt": "cgpt",
    "cp": "coreutils",
    "cpio": "cpio",
    "cryptsetup": "cryptsetup-bin",
    "drbdmeta": "drbd-utils",
    "e2image": "e2fsprogs",
    "ewfacquire": "ewf-tools",
    "genext2fs": "genext2fs",
    "genimage": "genimage",
    "genisoimage": "genisoimage",
    "genromfs": "genromfs",
    "grub-mkrescue": "grub-common",
    "gzip": "gzip",
    "hformat": "hfsutils",
    "isohybrid": "syslinux-utils isolinux",
    "lz4": "lz4",
    "make-bcache": "bcache-tools",
    "makefs": "makefs",
    "mcopy": "mtools",
    "mformat": "mtools",
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
    "mkudffs": "udftools",
    "nbdcopy": "libnbd-bin",
    "nbdkit": "nbdkit",
    "parted": "parted",
    "partx": "util-linux",
    "pigz": "pigz",
    "pycdlib-genisoimage": "pycdlib, from PyPI",
    "python": "python3",
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "sfdisk": "fdisk",
    "sgdisk": "gdisk",
    "tar": "tar",
    "unzip": "unzip",
    "xorriso": "xorriso",
    "xz": "xz-utils",
    "zip": "zip",
    "zstd": "zstd",
}


def environment() -> Mapping[str, str]:
    """The environment with the tools' folders on the PATH, and those of this Python's packages first."""
    path = (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), SBIN)
    return os.environ | {"PATH": os.pathsep.join(path)}


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
