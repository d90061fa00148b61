"""The superblocks of file systems that are packed once and then only read.

Offsets are in bytes, from the volume's beginning and within the superblock. All are little-endian except romfs.

| name | superblock | magic | what must hold |
|---|---|---|---|
| squashfs | 0, 32 bytes | `hsqs` | version u16@28 at least 4 |
| squashfs3 | 0, 32 bytes | `sqsh` (big-endian), `hsqs` | version u16@28 at most 3 |
| erofs | 1024, 128 bytes | E2 E1 F5 E0 | log2(block size) u8@12 at most 16; with feature sb_csum (u32@8, 0x1) the CRC-32C u32@4, not inverted at the end, of the block from here on with itself zero |
| cramfs | 0, 76 bytes | 45 3D CD 28 or 28 CD 3D 45 (big-endian) | `Compressed ROMFS` @16, or the root's mode u16@64 is a directory's |
| romfs | 0, 32 bytes | `-rom1fs-` | the first 512 bytes (u32@8 if that is less, but 32 at least) as words add up to zero |

Sources: the Linux kernel's headers: fs/squashfs/squashfs_fs.h, fs/erofs/erofs_fs.h (and
erofs_superblock_csum_verify), include/uapi/linux/cramfs_fs.h, include/uapi/linux/romfs_fs.h; "The squashfs
format" for version 3.

The checks are those of libblkid 2.41, except for cramfs. libblkid also checks the CRC of a whole cramfs of up to
64 KiB, and recognises no larger one; Keyhole checks for the text that mkfs writes, or for the root directory that
Linux wants. An erofs or romfs with a wrong checksum is recognised, as by libblkid up to 2.39, and counts as
damaged.
"""  # noqa: E501 - the rows of the table are one line each

from keyhole.inspectors.volumes.checksums import big_endian_sum, inverted_crc32c
from keyhole.inspectors.volumes.superblock import Place, Signature, Superblock
from keyhole.inspectors.volumes.view import View

EROFS_OFFSET = 1024
EROFS_LARGEST_BLOCK_LOG = 16
ROMFS_SUMMED = 512
CRAMFS_LITTLE = b"\x45\x3d\xcd\x28"
#: The four upper bits of a directory's mode.
DIRECTORY = 0o4


def _squashfs_sound(superblock: Superblock, _place: Place, _view: View) -> bool:
    return superblock.le(28, 2) >= 4


def _squashfs3_sound(superblock: Superblock, place: Place, _view: View) -> bool:
    version = superblock.be(28, 2) if place.magic == b"sqsh" else superblock.le(28, 2)
    return version <= 3


def _erofs_sound(superblock: Superblock, _place: Place, _view: View) -> bool:
    return superblock[12] <= EROFS_LARGEST_BLOCK_LOG


def _erofs_intact(superblock: Superblock, place: Place, view: View) -> bool:
    block_log = superblock[12]
    if not superblock.le(8, 4) & 1:
        return True
    block = 1 << block_log
    summed = block - EROFS_OFFSET if block > EROFS_OFFSET else block
    held = view.read(place.offset, summed)
    zeroed = held[:4] + bytes(4) + held[8:]
    return len(held) == summed and inverted_crc32c(zeroed) == superblock.le(4, 4)


def _cramfs_sound(superblock: Superblock, place: Place, _view: View) -> bool:
    number = superblock.le if place.magic == CRAMFS_LITTLE else superblock.be
    root_is_directory = number(64, 2) >> 12 == DIRECTORY
    return superblock[16:32] == b"Compressed ROMFS" or root_is_directory


def _romfs_intact(superblock: Superblock, _place: Place, view: View) -> bool:
    summed = min(ROMFS_SUMMED, superblock.be(8, 4))
    held = view.read(0, summed)
    complete = len(superblock) <= summed == len(held) and summed % 4 == 0
    return complete and big_endian_sum(held) == 0


SQUASHFS = Signature("squashfs", (Place(0, 32, b"hsqs"),), _squashfs_sound)
SQUASHFS3 = Signature("squashfs3", (Place(0, 32, b"sqsh"), Place(0, 32, b"hsqs")), _squashfs3_sound)
EROFS = Signature(
    "erofs",
    (Place(EROFS_OFFSET, 128, b"\xe2\xe1\xf5\xe0"),),
    _erofs_sound,
    behind=(1 << EROFS_LARGEST_BLOCK_LOG) - EROFS_OFFSET,
    intact=_erofs_intact,
)
CRAMFS = Signature("cramfs", (Place(0, 76, CRAMFS_LITTLE), Place(0, 76, b"\x28\xcd\x3d\x45")), _cramfs_sound)
ROMFS = Signature("romfs", (Place(0, 32, b"-rom1fs-"),), behind=ROMFS_SUMMED, intact=_romfs_intact)
