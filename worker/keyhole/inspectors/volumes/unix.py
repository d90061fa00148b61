"""The signatures of the file systems of BSD, Minix, BeOS and UnixWare.

Offsets and lengths are in bytes. A superblock's offset counts from the beginning of the volume, a field's
offset (after `@`) from the beginning of the superblock. Numbers have the byte order of the machine that made
the volume, which the magic number shows.

| name | superblock | magic | conditions |
|---|---|---|---|
| ufs | 0, 8, 64 or 256 KiB, 1377 bytes | u32@1372: 0x00011954, 0x19540119 (UFS2), 0x00195612, 0x00095014, 0x00612195 or 0x05231994 | |
| minix 1, 2 | 1024, 32 bytes | u16@16: 0x137F, 0x138F; 0x2468, 0x2478 | the number of inodes u16@0 is 1 to 65534 and fits the inode bitmap, which has u16@4 blocks of 1024 bytes; the number of blocks (u16@2, in version 2 u32@20) minus the first data block u16@8 fits the block bitmap, which has u16@6 blocks; the zone size u16@10 is 0; the state u16@18 is at most 3; @56 is not 53 EF, the magic number of ext2 |
| minix 3 | 1024, 32 bytes | u16@24: 0x4D5A, little-endian | as for minix 1, with inodes u32@0, blocks u32@20, bitmaps u16@6 and u16@8, first data block u16@10, zone size u16@12, and no state |
| bfs | 0, 4 bytes | CE FA AD 1B | |
| befs | 0 or 512, 164 bytes | u32@32: 0x42465331 | u32@36 is 0x42494745, u32@68 is 0xDD121031, u32@112 is 0x15B6830E; the block size u32@40 is 1024 to 8192, matches its logarithm u32@44, and equals the inode size u32@64; the number of used blocks u64@56 is not larger than the number of blocks u64@48 |

Sources: FreeBSD's sys/ufs/ffs/fs.h and Linux's fs/ufs/ufs_fs.h; Linux's include/uapi/linux/minix_fs.h and
bfs_fs.h, fs/befs/befs_fs_types.h; "Practical File System Design with the Be File System", chapter 4.

Keyhole checks the same fields as libblkid 2.41, except for befs. libblkid also reads the inode of the root
directory, at the place that the superblock states. Keyhole does not read this inode. Instead, it checks that
the sizes in the superblock are consistent.
"""  # noqa: E501 - the rows of the table are one line each

from typing import NamedTuple

from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.volumes.superblock import Place, Signature, Superblock
from keyhole.inspectors.volumes.view import View

KIB = 1024

# ufs, bfs

UFS2 = 0x19540119
UFS_MAGICS = (UFS2, 0x00011954, 0x00195612, 0x00095014, 0x00612195, 0x05231994)

UFS = Signature(
    "ufs",
    tuple(
        Place(kib * KIB, 1377, magic.to_bytes(4, order), 1372)
        for kib in (0, 8, 64, 256)
        for magic in UFS_MAGICS
        for order in ("little", "big")
    ),
)
BFS = Signature("bfs", (Place(0, 4, b"\xce\xfa\xad\x1b"),))

# minix

MINIX_OFFSET, MINIX_LENGTH = 1024, 32
MINIX_1 = (0x137F, 0x138F)
MINIX_2 = (0x2468, 0x2478)
MINIX_3 = b"\x5a\x4d"
#: The number of bits in one block of a bitmap.
MINIX_BITS = 1024 * 8
#: The largest valid state, with both flags set: valid (1), with errors (2).
MINIX_STATES = 3
#: The place of ext2's magic number, 53 EF.
EXT_MAGIC_AT = ByteRange(1080, 2)
#: The magic number of EROFS. An EROFS with 4,991 inodes also contains minix's magic number, at the same
#: offset.
EROFS_MAGIC = b"\xe2\xe1\xf5\xe0"


class MinixSizes(NamedTuple):
    """The sizes in a superblock.

    All sizes are in blocks, except `inodes` (a number of inodes) and `zone_size`.
    """

    inodes: int
    blocks: int
    inode_map: int
    block_map: int
    first_block: int
    zone_size: int
    #: The largest value that the field for the number of inodes can have. It is not a valid number of inodes.
    all_ones: int


def _minix_sound(superblock: Superblock, place: Place, view: View) -> bool:
    ext_magic = view.read(*EXT_MAGIC_AT)
    if len(ext_magic) < EXT_MAGIC_AT.length or ext_magic == b"\x53\xef":
        return False
    if superblock.startswith(EROFS_MAGIC):
        return False
    sizes = _minix3_sizes(superblock) if place.magic == MINIX_3 else _minix_sizes(superblock, place.magic)
    return (
        sizes is not None
        and sizes.zone_size == 0
        and 0 < sizes.inodes < sizes.all_ones
        and sizes.inode_map * MINIX_BITS > sizes.inodes
        and sizes.first_block <= sizes.blocks
        and sizes.block_map * MINIX_BITS > sizes.blocks - sizes.first_block
    )


def _minix_sizes(superblock: Superblock, magic: bytes) -> MinixSizes | None:
    number = superblock.le if int.from_bytes(magic, "little") in MINIX_1 + MINIX_2 else superblock.be
    if number(18, 2) > MINIX_STATES:
        return None
    blocks = number(20, 4) if number(16, 2) in MINIX_2 else number(2, 2)
    return MinixSizes(
        number(0, 2), blocks, number(4, 2), number(6, 2), number(8, 2), number(10, 2), all_ones=0xFFFF
    )


def _minix3_sizes(superblock: Superblock) -> MinixSizes:
    number = superblock.le
    return MinixSizes(
        number(0, 4),
        number(20, 4),
        number(6, 2),
        number(8, 2),
        number(10, 2),
        number(12, 2),
        all_ones=0xFFFFFFFF,
    )


MINIX = Signature(
    "minix",
    (
        *(
            Place(MINIX_OFFSET, MINIX_LENGTH, magic.to_bytes(2, order), 16)
            for magic in MINIX_1 + MINIX_2
            for order in ("little", "big")
        ),
        Place(MINIX_OFFSET, MINIX_LENGTH, MINIX_3, 24),
    ),
    _minix_sound,
    reads=(EXT_MAGIC_AT,),
)

# befs

BEFS_MAGICS = {32: 0x42465331, 36: 0x42494745, 68: 0xDD121031, 112: 0x15B6830E}
BEFS_BLOCK_LOGS = range(10, 14)


def _befs_sound(superblock: Superblock, place: Place, _view: View) -> bool:
    number = superblock.le if place.magic == b"1SFB" else superblock.be
    block, block_log = number(40, 4), number(44, 4)
    return (
        all(number(at, 4) == magic for at, magic in BEFS_MAGICS.items())
        and block_log in BEFS_BLOCK_LOGS
        and block == number(64, 4) == 1 << block_log
        and number(56, 8) <= number(48, 8)
    )


BEFS = Signature(
    "befs",
    tuple(Place(offset, 164, magic, 32) for offset in (0, 512) for magic in (b"BFS1", b"1SFB")),
    _befs_sound,
    smallest=1440 * KIB,
)
