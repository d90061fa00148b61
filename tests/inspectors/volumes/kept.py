"""Volumes that real tools made and that are stored here, because the tools need a daemon or take seconds.

- `zfs_member`: zfs-fuse 0.7.0, `zpool create -m none pool /tmp/pool.img` on a file of 100 MiB, then
  `zpool export pool`. The four labels are stored: the first and the last 512 KiB.
- `ceph_bluestore`: Ceph 16.2, `ceph-osd -i 0 --mkfs --osd-objectstore bluestore --bluestore-block-size
  1073741824`. The label is stored: the first 4 KiB of the file `block`.
"""

import lzma
from pathlib import Path

from keyhole.builders import Image

FOLDER = Path(__file__).parents[2] / "fixtures" / "volumes"
MIB, GIB = 1024**2, 1024**3
ZFS_LABELS = 512 * 1024


def zfs_member() -> Image:
    """The only member of a ZFS pool."""
    kept = _unpacked("zfs_member")
    size = 100 * MIB
    return Image.of(size, [(0, kept[:ZFS_LABELS]), (size - ZFS_LABELS, kept[ZFS_LABELS:])])


def ceph_bluestore() -> Image:
    """The block device of a Ceph OSD."""
    return Image.of(GIB, [(0, _unpacked("ceph_bluestore"))])


def _unpacked(name: str) -> bytes:
    return lzma.decompress((FOLDER / f"{name}.xz").read_bytes())
