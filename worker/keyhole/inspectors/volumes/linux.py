"""The signatures of Linux's file systems, including file systems that were ported to Linux.

Offsets and lengths are in bytes. A superblock's offset counts from the beginning of the volume, a field's
offset (after `@`) from the beginning of the superblock. The fields of xfs and gfs2 are big-endian, all other
fields are little-endian, except where the table says otherwise. Every checksum is computed as if the field of
the checksum contained zeros.

| name | superblock | magic | conditions |
|---|---|---|---|
| ext2 … jbd | 1024, 1024 bytes | 53 EF @56 | see below |
| xfs | 0, 272 bytes | `XFSB` | see below |
| btrfs | 64 KiB, 4096 bytes | `_BHRfS_M` @64 | the sector size u32@144 is not zero; the checksum, see below |
| f2fs | 1024, 1148 bytes | 10 20 F5 F2 | the checksum, see below |
| nilfs2 | 1024, 1024 bytes; the spare superblock, see below | 34 34 @6 | the checksum, see below |
| jfs | 32 KiB, 184 bytes | `JFS1` | the sizes of blocks u32@16 and sectors u32@24 match their logarithms u16@20 and u16@28; u16@22 is the difference of the logarithms |
| reiserfs | 64 KiB, 116 bytes | `ReIsErFs`, `ReIsEr2Fs`, `ReIsEr3Fs` @52 | the block size u16@44 is at least 512; the journal's first block u32@12, in blocks, is not before the superblock |
| reiserfs 3.5 | 8 KiB | `ReIsErFs` @52 or @20 | as for reiserfs |
| reiser4 | 64 KiB, 60 bytes | `ReIsEr4` | |
| gfs2 | 64 KiB, 272 bytes | 01 16 19 70 | the formats u32@24 and u32@28 are in 1800…1899 and in 1900…1999 |
| ocfs2 | 1, 2, 4 or 8 KiB, 352 bytes | `OCFSV2` | |
| zonefs | 0, 4096 bytes | `SFOZ` | the CRC-32 u32@4 of the superblock matches |

In ext and zonefs, the value of the CRC is stored without the usual inversion at the end.

- **ext2, ext3, ext4, ext4dev and jbd** share a superblock. The field u32@24, log2(block size / 1024), must be
  at most 6, and the number of blocks per group, u32@32, must not be zero. The features are in three fields:
  compatible features u32@92, incompatible features u32@96, read-only compatible features u32@100. With the
  read-only compatible feature metadata_csum (0x400), the CRC-32C u32@1020 must match the preceding bytes.
- jbd has the incompatible feature journal_dev (0x8), and the other four types do not. ext3 has the compatible
  feature has_journal (0x4), and ext2 does not. Of the other incompatible features, ext2 can have only
  filetype (0x2) and meta_bg (0x10), and ext3 also recover (0x4). Of the read-only compatible features, both
  can have only sparse_super (0x1), large_file (0x2) and btree_dir (0x4). ext4 has at least one feature that
  ext3 does not support. ext4dev has the flag test_filesys (u32@352, 0x4), and ext4 does not.
- **xfs** stores three sizes twice, as a number and as a logarithm, which must match: the size of a sector
  (u16@102, u8@121), of a block (u32@4, u8@120) and of an inode (u16@104, u8@122). The logarithm of the number
  of inodes per block, u8@123, must match these sizes. The realtime extent u32@80 and the inode percentage
  u8@127 must be within bounds. The number of blocks u64@8 must match the number of groups u32@88 and the
  number of blocks in a group u32@84; the last group can have fewer blocks, but it must have at least 64. In
  version 5 (u16@100 & 15), the feature flags u32@200 must contain crc (0x100), and the CRC-32C of the sector,
  u32@224 (little-endian), must match.
- **btrfs** stores the type of its checksum in u16@196: 0 is CRC-32C, 1 is xxHash, 2 is SHA-256, and 3 is
  BLAKE2b-256. The checksum at 0 must match the bytes from 32 on. Keyhole does not check an xxHash.
- **f2fs** stores the offset of its CRC-32 (seed F2F52010) in u32@32. The CRC must match the bytes before that
  offset. Version 1.0 has no checksum, and neither has a superblock in which u32@32 is zero.
- **nilfs2** stores the number of bytes that its checksum covers in u16@8. The CRC-32 u32@16, with the seed
  u32@12, must match these first bytes. The offset of the spare superblock is the volume's size, rounded down
  to a multiple of 512, minus 4096. Its field u64@32 must be the volume's size.

Sources: the Linux kernel's headers: fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h (and xfs_validate_sb_common),
include/uapi/linux/btrfs_tree.h, include/linux/f2fs_fs.h, include/uapi/linux/nilfs2_ondisk.h,
fs/jfs/jfs_superblock.h, fs/reiserfs/reiserfs.h (of Linux 6.12), include/uapi/linux/gfs2_ondisk.h,
fs/ocfs2/ocfs2_fs.h, fs/zonefs/zonefs.h; for the meaning of the features, "ext4 Data Structures and
Algorithms"; for reiser4, plugin/disk_format of reiser4progs.

Keyhole checks the same fields as libblkid 2.41. In addition, it checks two fields of ext (u32@24 and u32@32,
above), because the magic number of ext has only two bytes and can occur by chance. If the checksum of an ext,
xfs, btrfs, f2fs or zonefs is wrong, Keyhole recognises it nevertheless, and reports it as damaged. libblkid
up to 2.39 does the same, and later versions do not recognise it.
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Callable
from hashlib import blake2b, sha256

from keyhole.inspectors.volumes.checksums import ALL_ONES, crc32c, inverted_crc32c, raw_crc32
from keyhole.inspectors.volumes.superblock import Place, Signature, Superblock
from keyhole.inspectors.volumes.view import View

KIB, MIB = 1024, 1024**2

# ext2, ext3, ext4

EXT = (Place(KIB, KIB, b"\x53\xef", 56),)
MAX_EXT_BLOCK_LOG = 6
HAS_JOURNAL = 0x4
JOURNAL_DEV = 0x8
METADATA_CSUM = 0x400
TEST_FILESYS = 0x4
EXT2_INCOMPATIBLE = 0x2 | 0x10
EXT3_INCOMPATIBLE = EXT2_INCOMPATIBLE | 0x4
EXT3_READ_ONLY = 0x1 | 0x2 | 0x4


def _ext(name: str, fits: Callable[[Superblock], bool]) -> Signature:
    def sound(superblock: Superblock, _place: Place, _view: View) -> bool:
        return _ext_sizes_sound(superblock) and fits(superblock)

    return Signature(name, EXT, sound, intact=_ext_intact)


def _ext_sizes_sound(superblock: Superblock) -> bool:
    return superblock.le(24, 4) <= MAX_EXT_BLOCK_LOG and bool(superblock.le(32, 4))


def _ext_intact(superblock: Superblock, _place: Place, _view: View) -> bool:
    checksum = superblock.le(1020, 4)
    return not superblock.le(100, 4) & METADATA_CSUM or inverted_crc32c(superblock[:1020]) == checksum


def _is_journal(superblock: Superblock) -> bool:
    return bool(superblock.le(96, 4) & JOURNAL_DEV)


def _is_test(superblock: Superblock) -> bool:
    return bool(superblock.le(352, 4) & TEST_FILESYS)


def _known(superblock: Superblock, incompatible: int) -> bool:
    """Return whether a superblock has no features except those that ext2 or ext3 supports.

    `incompatible` is the set of incompatible features that ext2, or ext3, supports.
    """
    return not superblock.le(96, 4) & ~incompatible and not superblock.le(100, 4) & ~EXT3_READ_ONLY


def _is_ext2(superblock: Superblock) -> bool:
    return not superblock.le(92, 4) & HAS_JOURNAL and _known(superblock, EXT2_INCOMPATIBLE)


def _is_ext3(superblock: Superblock) -> bool:
    return bool(superblock.le(92, 4) & HAS_JOURNAL) and _known(superblock, EXT3_INCOMPATIBLE)


def _is_ext4(superblock: Superblock) -> bool:
    own = not _known(superblock, EXT3_INCOMPATIBLE)
    return own and not _is_journal(superblock) and not _is_test(superblock)


def _is_ext4dev(superblock: Superblock) -> bool:
    return _is_test(superblock) and not _is_journal(superblock)


EXT2 = _ext("ext2", _is_ext2)
EXT3 = _ext("ext3", _is_ext3)
EXT4 = _ext("ext4", _is_ext4)
EXT4DEV = _ext("ext4dev", _is_ext4dev)
JBD = _ext("jbd", _is_journal)

# xfs

XFS_LARGEST_SECTOR = 32 * KIB


def _xfs_sound(superblock: Superblock, _place: Place, _view: View) -> bool:
    return _xfs_sizes_agree(superblock) and _xfs_blocks_fit(superblock)


def _xfs_sizes_agree(superblock: Superblock) -> bool:
    sector, block, inode = superblock.be(102, 2), superblock.be(4, 4), superblock.be(104, 2)
    return (
        512 <= sector <= XFS_LARGEST_SECTOR
        and _is_power(sector, superblock[121])
        and 512 <= block <= 64 * KIB
        and _is_power(block, superblock[120])
        and 256 <= inode <= 2 * KIB
        and _is_power(inode, superblock[122])
        and superblock[120] - superblock[122] == superblock[123]
    )


def _xfs_blocks_fit(superblock: Superblock) -> bool:
    blocks, group, groups = superblock.be(8, 8), superblock.be(84, 4), superblock.be(88, 4)
    return (
        4 * KIB <= superblock.be(80, 4) * superblock.be(4, 4) <= 1024 * MIB
        and superblock[127] <= 100
        and groups > 0
        and max(1, (groups - 1) * group + 64) <= blocks <= groups * group
    )


def _xfs_intact(superblock: Superblock, _place: Place, view: View) -> bool:
    """Return whether a version 5 superblock has the correct checksum. Other versions have no checksum."""
    version = superblock.be(100, 2)
    if version & 0xF != 5:
        return True
    sector = view.read(0, superblock.be(102, 2))
    zeroed = sector[:224] + bytes(4) + sector[228:]
    said = bool(version & 0x8000 and superblock.be(200, 4) & 0x100)
    return said and len(sector) == superblock.be(102, 2) and crc32c(zeroed) == superblock.le(224, 4)


def _is_power(value: int, exponent: int) -> bool:
    """Return whether a value is two to the power of an exponent; false if the exponent is 32 or larger."""
    return exponent < 32 and value == 1 << exponent


XFS = Signature("xfs", (Place(0, 272, b"XFSB"),), _xfs_sound, behind=XFS_LARGEST_SECTOR, intact=_xfs_intact)

# btrfs, f2fs, nilfs2, zonefs


def _btrfs_sound(superblock: Superblock, _place: Place, _view: View) -> bool:
    return superblock.le(144, 4) != 0


def _btrfs_intact(superblock: Superblock, _place: Place, _view: View) -> bool:
    data, kind = superblock[32:], superblock.le(196, 2)
    if kind == 0:
        intact = crc32c(data) == superblock.le(0, 4)
    elif kind == 2:
        intact = sha256(data).digest() == superblock[:32]
    elif kind == 3:
        intact = blake2b(data, digest_size=32).digest() == superblock[:32]
    else:
        intact = True
    return bool(intact)


def _f2fs_intact(superblock: Superblock, place: Place, view: View) -> bool:
    at = superblock.le(32, 4)
    if superblock[4:8] == b"\1\0\0\0" or not at:
        return True
    if at > F2FS_SUPERBLOCK - 4:
        return False
    held = Superblock(view.read(place.offset, at + 4))
    return len(held) == at + 4 and raw_crc32(0xF2F52010, held[:at]) == held.le(at, 4)


def _nilfs2_sound(superblock: Superblock, place: Place, view: View) -> bool:
    length = superblock.le(8, 2)
    if not 20 <= length <= KIB or (place.offset != KIB and superblock.le(32, 8) != view.size):
        return False
    zeroed = superblock[:16] + bytes(4) + superblock[20:length]
    return raw_crc32(superblock.le(12, 4), zeroed) == superblock.le(16, 4)


def _nilfs2_spare(size: int) -> tuple[Place, ...]:
    return (Place(size // 512 * 512 - 4096, KIB, b"\x34\x34", 6),)


def _zonefs_intact(superblock: Superblock, _place: Place, _view: View) -> bool:
    return raw_crc32(ALL_ONES, superblock[:4] + bytes(4) + superblock[8:]) == superblock.le(4, 4)


#: The largest number of bytes from the beginning of an f2fs superblock to the end of its checksum.
F2FS_SUPERBLOCK = 3 * KIB

BTRFS = Signature(
    "btrfs", (Place(64 * KIB, 4096, b"_BHRfS_M", 64),), _btrfs_sound, smallest=MIB, intact=_btrfs_intact
)
F2FS = Signature(
    "f2fs", (Place(KIB, 1148, b"\x10\x20\xf5\xf2"),), behind=F2FS_SUPERBLOCK, intact=_f2fs_intact
)
NILFS2 = Signature(
    "nilfs2", (Place(KIB, KIB, b"\x34\x34", 6),), _nilfs2_sound, tail=_nilfs2_spare, smallest=MIB
)
ZONEFS = Signature("zonefs", (Place(0, 4096, b"SFOZ"),), intact=_zonefs_intact)

# jfs, reiserfs, reiser4, gfs2, ocfs2


def _jfs_sound(superblock: Superblock, _place: Place, _view: View) -> bool:
    block_log, sector_log = superblock.le(20, 2), superblock.le(28, 2)
    return (
        _is_power(superblock.le(16, 4), block_log)
        and _is_power(superblock.le(24, 4), sector_log)
        and block_log - sector_log == superblock.le(22, 2)
    )


def _reiserfs_sound(superblock: Superblock, place: Place, _view: View) -> bool:
    sectors = superblock.le(44, 2) // 512
    return bool(sectors) and place.offset // KIB // sectors <= superblock.le(12, 4) // 2


def _gfs2_sound(superblock: Superblock, _place: Place, _view: View) -> bool:
    return superblock.be(24, 4) // 100 == 18 and superblock.be(28, 4) // 100 == 19


JFS = Signature("jfs", (Place(32 * KIB, 184, b"JFS1"),), _jfs_sound, smallest=16 * MIB)
REISERFS = Signature(
    "reiserfs",
    (
        Place(8 * KIB, 116, b"ReIsErFs", 52),
        Place(8 * KIB, 116, b"ReIsErFs", 20),
        Place(64 * KIB, 116, b"ReIsErFs", 52),
        Place(64 * KIB, 116, b"ReIsEr2Fs", 52),
        Place(64 * KIB, 116, b"ReIsEr3Fs", 52),
    ),
    _reiserfs_sound,
    smallest=128 * KIB,
)
REISER4 = Signature("reiser4", (Place(64 * KIB, 60, b"ReIsEr4"),), smallest=128 * KIB)
GFS2 = Signature("gfs2", (Place(64 * KIB, 272, b"\1\x16\x19\x70"),), _gfs2_sound, smallest=32 * MIB)
OCFS2 = Signature(
    "ocfs2",
    tuple(Place(kib * KIB, 352, b"OCFSV2") for kib in (1, 2, 4, 8)),
    smallest=14_000 * KIB,
)
