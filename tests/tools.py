"""Run external tools: where they are searched, and what happens if a tool is not installed."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

#: The Debian package of each tool, if the package's name is not the tool's name.
PACKAGES = {
    "7zz": "7zip",
    "aws": "awscli, from PyPI",
    "blkid": "util-linux",
    "bsdtar": "libarchive-tools",
    "cp": "coreutils",
    "cryptsetup": "cryptsetup-bin",
    "drbdmeta": "drbd-utils",
    "e2image": "e2fsprogs",
    "ewfacquire": "ewf-tools",
    "grub-mkrescue": "grub-common",
    "hformat": "hfsutils",
    "isohybrid": "syslinux-utils isolinux",
    "lrzip": "lrzip",
    "lzma": "xz-utils",
    "lzop": "lzop",
    "make-bcache": "bcache-tools",
    "man": "man-db",
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
    "partx": "util-linux",
    "promtool": "prometheus",
    "pycdlib-genisoimage": "pycdlib, from PyPI",
    "python": "python3",
    "pzstd": "zstd",
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "redis-cli": "redis-tools",
    "sfdisk": "fdisk",
    "sgdisk": "gdisk",
    "udfinfo": "udftools",
    "xz": "xz-utils",
}

#: What qemu writes if a key derivation took so little CPU time that the kernel counted none.
NOT_MEASURED = "Unable to get accurate CPU usage"
#: How often a command is tried that fails with this.
ATTEMPTS = 10


def environment() -> Mapping[str, str]:
    """The environment with more folders on the PATH: Python's scripts, and `sbin` next to each `bin`.

    Debian installs some tools in `sbin`, which not all users have on their PATH.
    """
    folders = [Path(sys.executable).parent, *map(Path, os.environ.get("PATH", os.defpath).split(os.pathsep))]
    beside = [folder.with_name("sbin") for folder in folders if folder.name == "bin"]
    return os.environ | {"PATH": os.pathsep.join(map(str, (*folders, *beside)))}


def need(tool: str, package: str = "") -> None:
    """Skip the test if a tool is not installed; in CI, fail."""
    if shutil.which(tool, path=environment()["PATH"]) is None:
        give_up(f"{tool} is not there: install {package or PACKAGES.get(tool, tool)}")


def give_up(reason: str) -> NoReturn:
    """Skip the test because something is not installed; in CI, fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def run(command: str, folder: Path) -> None:
    """Run a command line in a folder, and wait until it ends. If it fails, so does the test."""
    words = shlex.split(command)
    need(words[0])
    done = completed(words, folder)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def completed(
    words: Sequence[str | Path], folder: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, and wait until it ends.

    Repeats a command that failed only because qemu could not measure the CPU time of a key derivation, which
    happens on a busy machine.
    """
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            words,
            cwd=folder,
            env={**environment(), **(variables or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0 or NOT_MEASURED not in done.stderr:
            break
    return done
