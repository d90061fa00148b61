"""The signatures of read-only file systems, which are written once and not changed later.

Offsets and lengths are in bytes. A superblock's offset counts from the beginning of the volume, a field's
offset (after `@`) from the beginning of the superblock. All fields are little-endian, except those of romfs
and where the table says otherwise.

| name | superblock | magic | conditions |
|---|---|---|---|
| squashfs | 0, 32 bytes | `hsqs` | the version u16@28 is at least 4 |
| squashfs3 | 0, 32 bytes | `sqsh` (big-endian), `hsqs` | the version u16@28 is at most 3 |
| erofs | 1024, 128 bytes | E2 E1 F5 E0 | log2(block size) u8@12 is at most 16; if the feature sb_csum is set (u32@8, 0x1), the CRC-32C u32@4 matches. The CRC covers the bytes from the superblock to the end of its block, with zeros in this field. Its value is stored without the usual inversion |
| cramfs | 0, 76 bytes | 45 3D CD 28 or 28 CD 3D 45 (big-endian) | `Compressed ROMFS` @16, or the mode u16@64 of the root is that of a directory |
| romfs | 0, 32 bytes | `-rom1fs-` | the sum of 32-bit words is zero. The sum covers the first 512 bytes, or fewer if the size u32@8 is smaller, but at least 32 bytes |

Sources: the Linux kernel's headers: fs/squashfs/squashfs_fs.h, fs/erofs/erofs_fs.h (and
erofs_superblock_csum_verify), include/uapi/linux/cramfs_fs.h, include/uapi/linux/romfs_fs.h; "The squashfs
format" for version 3.

Keyhole checks the same fields as libblkid 2.41, except for cramfs. libblkid checks the CRC of the whole
cramfs, and does not recognise a cramfs that is larger than 64 KiB. Keyhole checks instead that the superblock
contains the text that mkfs writes, or that the root of the file system is a directory, which Linux requires.
If the checksum of an erofs or a romfs is wrong, Keyhole recognises it nevertheless, and reports it as
damaged. libblkid up to 2.39 does the same, and later versions do not recognise it.
"""  # noqa: E501 - the rows of the table are one line each

from keyhole.inspectors.volumes.checksums import big_endian_sum, inverted_crc32c
from keyhole.inspectors.volumes.superblock import Place, Signature, Superblock
from keyhole.inspectors.volumes.view import View

EROFS_OFFSET = 1024
EROFS_LARGEST_BLOCK_LOG = 16
ROMFS_SUMMED = 512
CRAMFS_LITTLE = b"\x45\x3d\xcd\x28"
#: The value that the upper four bits of the mode have for a directory.
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
