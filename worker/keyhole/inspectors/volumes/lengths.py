"""Reads the length of a volume from the volume's superblock, for the types that state a length.

Offsets (after `@`) count from the beginning of the superblock. The module that contains the signature of a
type states where the superblock is. `2^n` is two to the power of n.

| type | length in bytes | source |
|---|---|---|
| `ext2` `ext3` `ext4` `ext4dev` `jbd` | blocks u32@4 x (1024 << u32@24); with the feature 64BIT (0x80 in u32@96), u32@336 is the upper half of the number of blocks | Linux, Documentation/filesystems/ext4/super.rst |
| `xfs` | blocks u64@8 x u32@4 | XFS Algorithms & Data Structures, 13.1 |
| `btrfs` | the device's length u64@209 | Linux, include/uapi/linux/btrfs_tree.h |
| `f2fs` | blocks u64@36 << u32@16 | Linux, include/linux/f2fs_fs.h |
| `nilfs2` | u64@32 | Linux, include/uapi/linux/nilfs2_ondisk.h |
| `jfs` | the highest of three ends: the sectors, u64@8 x u32@24; the log, whose extent is at 72; the working space of fsck, whose extent is at 80. An extent states its blocks u24@0 and its first block (u8@3 << 32) + u32@4, in blocks of u32@16 bytes | Linux, fs/jfs/jfs_superblock.h |
| `reiserfs` | blocks u32@0 x u16@44 | Linux 6.12, fs/reiserfs/reiserfs.h |
| `reiser4` | blocks x block size u16@18; the number of blocks is u64@0 of the next block, which is the superblock of format40 | reiser4progs, plugin/format/format40 |
| `ocfs2` | clusters u32@20 x 2^u32@252 | Linux, fs/ocfs2/ocfs2_fs.h |
| `minix` | blocks u16@2, in versions 2 and 3 u32@20; a block has 1024 bytes, in version 3 u16@28 bytes | Linux, include/uapi/linux/minix_fs.h |
| `erofs` | blocks u32@36 x 2^u8@12 | Linux, fs/erofs/erofs_fs.h |
| `squashfs` `squashfs3` | u64@40; in version 3 u64@63, in earlier versions u32@8 | Linux, fs/squashfs/squashfs_fs.h; squashfs-tools 3 |
| `cramfs` `romfs` | u32@4; u32@8 | Linux, include/uapi/linux/cramfs_fs.h, romfs_fs.h |
| `vfat` | sectors (u16@19, or u32@32 if that is zero) x u16@11 | FAT specification 1.03, 3.1 |
| `exfat` | sectors u64@72 x 2^u8@108 | exFAT specification, 3.1 |
| `ntfs` | (sectors u64@40 + 1 for the backup of the boot sector) x u16@11 | NTFS documentation, boot sector |
| `ReFS` | sectors u64@24 x u32@32 | libfsrefs' documentation, 2.1 |
| `hpfs` | sectors u32@16 of 512 bytes | Linux, fs/hpfs/hpfs.h |
| `hfs`, `hfsplus` in a wrapper | the sectors before the first block (u16@28) + blocks u16@18 x u32@20 + two sectors | Inside Macintosh: Files, 2 |
| `hfsplus` | blocks u32@44 x u32@40 | Apple, Technical Note 1150 |
| `apfs` | blocks u64@40 x u32@36 | Apple File System Reference, nx_superblock_t |
| `ufs` | fragments (u32@36, in UFS2 u64@1080) x u32@52 | FreeBSD, sys/ufs/ffs/fs.h |
| `bfs` | the offset of the last byte u32@8 + 1 | Linux, include/uapi/linux/bfs_fs.h |
| `befs` | blocks u64@48 x u32@40 | Practical File System Design, 4 |
| `swap` `swsuspend` | (last page u32@1028 + 1) x page size; the page size is the offset at which the magic number ends | Linux, include/linux/swap.h |
| `LVM2_member` | the device's length, u64@64 of the label | LVM2, lib/format_text/layout.h |
| `linux_raid_member` | version 0.90: the end of the area for the superblock; version 1: the sectors before the data u64@128 + the sectors of the data u64@136, or the end of the superblock if that is larger | Linux, include/uapi/linux/raid/md_p.h |
| `drbd` | the end of the superblock's block, which is at the end of the volume | drbd-headers, drbd_meta_data.h |
| `bcache` | for a caching device: buckets u64@184 of u16@194 sectors | Linux, drivers/md/bcache/bcache_ondisk.h |
| `ceph_bluestore` | u64@82 | Ceph, src/os/bluestore/bluestore_types.cc |
| `zfs_member` | for a disk or a mirror: the space that can be allocated (`asize` in the label) + 4.5 MiB for the labels and the boot block | ZFS On-Disk Specification, 1.2 |

These types state no length, or state it in a structure that Keyhole does not read: `gfs2` (in its index of
resource groups), `zonefs`, `VMFS`, `VMFS_volume_member`, `BitLocker`, a backing device of `bcache`, and a
device of ZFS's RAID-Z. The inspector of the format `luks` determines the length of `crypto_LUKS`.
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Callable, Iterator

from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.volumes import apple, linux, members, microsoft, packed, swap, unix
from keyhole.inspectors.volumes.superblock import Place, Signature, Superblock
from keyhole.inspectors.volumes.view import View

KIB, MIB = 1024, 1024**2
#: The largest valid binary logarithm of a size in bytes, for sectors, blocks and clusters.
LARGEST_LOG = 32


def stated_length(name: str, view: View) -> int | None:
    """Return the length in bytes that a volume of type `name` states, or `None` if it states no length."""
    for signature, length in _BY_SIGNATURE:
        if signature.name == name:
            for place in _found(signature, view):
                return length(Superblock(view.read(place.offset, place.length)), place, view) or None
    return None


def _found(signature: Signature, view: View) -> Iterator[Place]:
    """Yield the places that contain a sound superblock of a type."""
    for place in (*signature.places, *signature.ends(view.size)):
        marked = view.read(place.offset + place.at, len(place.magic)) == place.magic
        if marked and signature.holds(place, view):
            yield place


def _power(exponent: int) -> int:
    """Return two to the power of an exponent, or zero if the exponent is larger than `LARGEST_LOG`."""
    return 1 << exponent if exponent <= LARGEST_LOG else 0


# Linux


def _ext(superblock: Superblock, _place: Place, _view: View) -> int:
    blocks = superblock.le(4, 4)
    if superblock.le(96, 4) & 0x80:
        blocks |= superblock.le(336, 4) << 32
    return blocks * KIB * _power(superblock.le(24, 4))


def _xfs(superblock: Superblock, _place: Place, _view: View) -> int:
    return superblock.be(4, 4) * superblock.be(8, 8)


def _btrfs(superblock: Superblock, _place: Place, _view: View) -> int:
    return superblock.le(209, 8)


def _f2fs(superblock: Superblock, _place: Place, _view: View) -> int:
    return superblock.le(36, 8) * _power(superblock.le(16, 4))


def _nilfs2(superblock: Superblock, _place: Place, _view: View) -> int:
    return superblock.le(32, 8)


def _jfs(superblock: Superblock, _place: Place, _view: View) -> int:
    ends = [superblock.le(8, 8) * superblock.le(24, 4)]
    for at in (72, 80):
        first = superblock.le(at + 3, 1) << 32 | superblock.le(at + 4, 4)
        ends.append((first + superblock.le(at, 3)) * superblock.le(16, 4))
    return max(ends)


def _reiserfs(superblock: Superblock, _place: Place, _view: View) -> int:
    return superblock.le(0, 4) * superblock.le(44, 2)


def _reiser4(superblock: Superblock, place: Place, view: View) -> int:
    block = superblock.le(18, 2)
    return Superblock(view.read(place.offset + block, 8)).le(0, 8) * block


def _ocfs2(superblock: Superblock, _place: Place, _view: View) -> int:
    return superblock.le(20, 4) * _power(superblock.le(252, 4))


def _minix(superblock: Superblock, place: Place, _view: View) -> int:
    if place.magic == unix.MINIX_3:
        return superblock.le(20, 4) * superblock.le(28, 2)
    little = int.from_bytes(place.magic, "little") in unix.MINIX_1 + unix.MINIX_2
    number = superblock.le if little else superblock.be
    return (number(20, 4) if number(16, 2) in unix.MINIX_2 else number(2, 2)) * KIB


def _swap(_superblock: Superblock, place: Place, view: View) -> int:
    header = Superblock(view.read(KIB, 8))
    number = header.be if header[:4] == b"\0\0\0\1" else header.le
    page = place.offset + place.length
    return (number(4, 4) + 1) * page if number(0, 4) == 1 and page in swap.PAGES else 0


# Packed


def _squashfs(_superblock: Superblock, _place: Place, view: View) -> int:
    return Superblock(view.read(0, 48)).le(40, 8)


def _squashfs3(_superblock: Superblock, place: Place, view: View) -> int:
    held = Superblock(view.read(0, 71))
    number = held.be if place.magic == b"sqsh" else held.le
    return number(63, 8) if number(28, 2) == 3 else number(8, 4)


def _erofs(superblock: Superblock, _place: Place, _view: View) -> int:
    return superblock.le(36, 4) * _power(superblock[12])


def _cramfs(superblock: Superblock, place: Place, _view: View) -> int:
    return superblock.le(4, 4) if place.magic == b"\x45\x3d\xcd\x28" else superblock.be(4, 4)


def _romfs(superblock: Superblock, _place: Place, _view: View) -> int:
    return superblock.be(8, 4)


# Windows and OS/2


def _vfat(superblock: Superblock, _place: Place, _view: View) -> int:
    return (superblock.le(19, 2) or superblock.le(32, 4)) * superblock.le(11, 2)


def _exfat(superblock: Superblock, _place: Place, _view: View) -> int:
    return superblock.le(72, 8) * _power(superblock[108])


def _ntfs(superblock: Superblock, _place: Place, _view: View) -> int:
    return (superblock.le(40, 8) + 1) * superblock.le(11, 2)


def _refs(_superblock: Superblock, _place: Place, view: View) -> int:
    sector = Superblock(view.read(0, 40))
    return sector.le(24, 8) * sector.le(32, 4)


def _hpfs(_superblock: Superblock, place: Place, view: View) -> int:
    return Superblock(view.read(place.offset + 16, 4)).le(0, 4) * SECTOR


# Apple, BSD, BeOS, UnixWare


def _hfs(superblock: Superblock, _place: Place, _view: View) -> int:
    return superblock.be(28, 2) * SECTOR + superblock.be(18, 2) * superblock.be(20, 4) + 2 * SECTOR


def _hfsplus(superblock: Superblock, place: Place, view: View) -> int:
    return (
        _hfs(superblock, place, view) if place.magic == b"BD" else superblock.be(44, 4) * superblock.be(40, 4)
    )


def _apfs(superblock: Superblock, _place: Place, _view: View) -> int:
    return superblock.le(40, 8) * superblock.le(36, 4)


def _ufs(superblock: Superblock, place: Place, _view: View) -> int:
    little = int.from_bytes(place.magic, "little") in unix.UFS_MAGICS
    number = superblock.le if little else superblock.be
    fragments = number(1080, 8) if number(1372, 4) == unix.UFS2 else number(36, 4)
    return fragments * number(52, 4)


def _bfs(_superblock: Superblock, _place: Place, view: View) -> int:
    end = Superblock(view.read(8, 4)).le(0, 4)
    return end + 1 if end else 0


def _befs(superblock: Superblock, place: Place, _view: View) -> int:
    number = superblock.le if place.magic == b"1SFB" else superblock.be
    return number(48, 8) * number(40, 4)


# Members


def _lvm2(superblock: Superblock, _place: Place, _view: View) -> int:
    return superblock.le(64, 8)


def _raid_0(_superblock: Superblock, place: Place, _view: View) -> int:
    return place.offset + members.RAID_RESERVED


def _raid_1(superblock: Superblock, place: Place, _view: View) -> int:
    data = (superblock.le(128, 8) + superblock.le(136, 8)) * SECTOR
    return max(data, place.offset + members.RAID_HEADER)


def _drbd(_superblock: Superblock, place: Place, _view: View) -> int:
    return place.offset + 4096


def _bcache(superblock: Superblock, _place: Place, _view: View) -> int:
    is_cache = superblock.le(16, 8) in members.BCACHE_CACHES
    return superblock.le(184, 8) * superblock.le(194, 2) * SECTOR if is_cache else 0


def _bluestore(_superblock: Superblock, _place: Place, view: View) -> int:
    return Superblock(view.read(82, 8)).le(0, 8)


#: The bytes before the value of `asize` in a ZFS label, which contains a list of names and values: the name's
#: length, the name, the value's type (a 64-bit number), and how many numbers follow (one).
ZFS_ASIZE = b"\0\0\0\5asize\0\0\0\0\0\0\x08\0\0\0\1"
ZFS_LABEL, ZFS_LABEL_BYTES = 16 * KIB, 112 * KIB
ZFS_AROUND = 4 * MIB + 512 * KIB


def _zfs(_superblock: Superblock, _place: Place, view: View) -> int:
    label = view.read(ZFS_LABEL, ZFS_LABEL_BYTES)
    before, asize, behind = label.partition(ZFS_ASIZE)
    spread = any(word in before + behind for word in (b"\0raidz\0", b"\0draid\0"))
    return int.from_bytes(behind[:8], "big") + ZFS_AROUND if asize and len(behind) >= 8 and not spread else 0


_Length = Callable[[Superblock, Place, View], int]
_EXT = (linux.EXT2, linux.EXT3, linux.EXT4, linux.EXT4DEV, linux.JBD)
_BY_SIGNATURE: tuple[tuple[Signature, _Length], ...] = (
    *((signature, _ext) for signature in _EXT),
    (linux.XFS, _xfs),
    (linux.BTRFS, _btrfs),
    (linux.F2FS, _f2fs),
    (linux.NILFS2, _nilfs2),
    (linux.JFS, _jfs),
    (linux.REISERFS, _reiserfs),
    (linux.REISER4, _reiser4),
    (linux.OCFS2, _ocfs2),
    (unix.MINIX, _minix),
    (swap.SWAP, _swap),
    (swap.SWSUSPEND, _swap),
    (packed.SQUASHFS, _squashfs),
    (packed.SQUASHFS3, _squashfs3),
    (packed.EROFS, _erofs),
    (packed.CRAMFS, _cramfs),
    (packed.ROMFS, _romfs),
    (microsoft.VFAT, _vfat),
    (microsoft.EXFAT, _exfat),
    (microsoft.NTFS, _ntfs),
    (microsoft.REFS, _refs),
    (microsoft.HPFS, _hpfs),
    (apple.HFS, _hfs),
    (apple.HFSPLUS, _hfsplus),
    (apple.APFS, _apfs),
    (unix.UFS, _ufs),
    (unix.BFS, _bfs),
    (unix.BEFS, _befs),
    (members.LVM2, _lvm2),
    (members.LINUX_RAID_0, _raid_0),
    (members.LINUX_RAID_1, _raid_1),
    (members.DRBD, _drbd),
    (members.BCACHE, _bcache),
    (members.CEPH_BLUESTORE, _bluestore),
    (members.ZFS, _zfs),
)
#: The types that state their length.
STATED = frozenset(signature.name for signature, _ in _BY_SIGNATURE)
