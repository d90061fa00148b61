"""The signatures of members of arrays, volume groups and pools, and of encrypted volumes.

Offsets and lengths are in bytes. A superblock's offset counts from the beginning or the end of the volume, a
field's offset (after `@`) from the beginning of the superblock.

| name | superblock | magic | conditions |
|---|---|---|---|
| linux_raid_member 0.90 | 64 KiB before the end, which is first rounded down to 64 KiB; 64 bytes, in either byte order | u32@0 0xA92B4EFC | the member's size u32@32, in KiB, is not larger than the superblock's offset |
| linux_raid_member 1.0, 1.1, 1.2 | version 1.0: 8 KiB before the end, which is first rounded down to 4 KiB; 1.1: at 0; 1.2: at 4096; 256 bytes | FC 4E 2B A9 | the version u32@4 is 1; u64@144 is the superblock's own sector; the sum u32@216 matches. The sum covers all words, with this field zero, up to the end of the roles. There are u32@220 roles of 2 bytes each, at most 1,920 |
| bcache | 4096, 2258 bytes | C68573F6-4E1A-45CA-8265-F57F48BA6D81 @24 | the superblock's own sector u64@8 is 8; the CRC-64 u64@0 matches. The CRC covers the bytes after this field, up to the end of the keys. The keys begin at 208; there are u16@206 keys of 8 bytes each, at most 256 |
| ceph_bluestore | 0, 26 bytes | `bluestore block device` | |
| drbd | 4096 before the end, 104 bytes (version 9: 1392); big-endian | 8374026B, 8374026C (unclean), 8374026D (version 9) @60 | |
| LVM2_member | 0, 512, 1024 or 1536, 512 bytes | `LABELONE` | u64@8 is the superblock's own sector; the CRC-32 u32@16 (seed F597A6CF) matches the bytes after it; `LVM2 001` @24 |
| crypto_LUKS | 0, 512 bytes; big-endian | `LUKS` BA BE | in version 2 (u16@6), u64@256 is the header's own offset |
| crypto_LUKS, first header lost | 16, 32, 64 or 128 KiB | `SKUL` BA BE | as for crypto_LUKS |
| VMFS_volume_member | 1 MiB, 146 bytes | 0D D0 01 C0 | |
| VMFS | 2 MiB, 157 bytes | 5E F1 AB 2F | |
| zfs_member | 128 KiB, 128 slots of 1024 bytes; either byte order | none | u64@0 of at least four slots is 0x00BAB10C |

Sources: the Linux kernel's include/uapi/linux/raid/md_p.h (and super_1_load in drivers/md/md.c),
drivers/md/bcache/bcache_ondisk.h; Ceph's src/os/bluestore/bluestore_types.cc; drbd-headers' drbd_meta_data.h;
LVM2's lib/format_text/layout.h and lib/label/label.c; for LUKS, the sources of the package `luks`;
vmfs-tools' libvmfs/vmfs_lvm.h and vmfs_fs.h; "ZFS On-Disk Specification", section 1.3.

Keyhole checks the same fields as libblkid 2.41, but it searches fewer places. libblkid searches all four
labels of a ZFS member for uberblocks, and searches up to 4 MiB for LUKS's second header. Keyhole searches
only the first 256 KiB for uberblocks and for LUKS's second header.
"""  # noqa: E501 - the rows of the table are one line each

from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.volumes.checksums import crc64, folded_sum, raw_crc32
from keyhole.inspectors.volumes.superblock import FLOPPY, Place, Signature, Superblock
from keyhole.inspectors.volumes.view import View

KIB, MIB = 1024, 1024**2

# linux_raid_member

RAID_MAGIC = b"\xfc\x4e\x2b\xa9"
#: The length in bytes of the area that version 0.90 reserves for its superblock near the end of the volume.
#: The area's offset is a multiple of this length.
RAID_RESERVED = 64 * KIB
#: The largest length in bytes of a version 1 superblock and its roles.
RAID_LONGEST = 4096
RAID_HEADER = 256


def _raid_0_sound(superblock: Superblock, place: Place, _view: View) -> bool:
    number = superblock.le if place.magic == RAID_MAGIC else superblock.be
    return number(32, 4) * KIB <= place.offset


def _raid_1_sound(superblock: Superblock, place: Place, _view: View) -> bool:
    return superblock.le(4, 4) == 1 and superblock.le(144, 8) == place.offset // SECTOR


def _raid_1_intact(superblock: Superblock, place: Place, view: View) -> bool:
    length = RAID_HEADER + 2 * superblock.le(220, 4)
    if length > RAID_LONGEST:
        return False
    held = view.read(place.offset, length)
    zeroed = held[:216] + bytes(4) + held[220:]
    return len(held) == length and folded_sum(zeroed) == superblock.le(216, 4)


def _raid_0_at_end(size: int) -> tuple[Place, ...]:
    offset = size // RAID_RESERVED * RAID_RESERVED - RAID_RESERVED
    return tuple(Place(offset, 64, magic) for magic in (RAID_MAGIC, RAID_MAGIC[::-1]))


def _raid_1_at_end(size: int) -> tuple[Place, ...]:
    return (Place(size // 4096 * 4096 - 8192, RAID_HEADER, RAID_MAGIC),)


LINUX_RAID_0 = Signature("linux_raid_member", (), _raid_0_sound, tail=_raid_0_at_end, smallest=FLOPPY + 1)
LINUX_RAID_1 = Signature(
    "linux_raid_member",
    (Place(0, RAID_HEADER, RAID_MAGIC), Place(4096, RAID_HEADER, RAID_MAGIC)),
    _raid_1_sound,
    tail=_raid_1_at_end,
    smallest=FLOPPY + 1,
    behind=RAID_LONGEST,
    intact=_raid_1_intact,
)

# bcache, ceph_bluestore, drbd

BCACHE_OFFSET = 4096
#: The superblock versions of caching devices. The other versions belong to backing devices.
BCACHE_CACHES = (0, 3, 5)
BCACHE_KEYS_AT, BCACHE_MOST_KEYS = 208, 256


def _bcache_sound(superblock: Superblock, place: Place, _view: View) -> bool:
    return superblock.le(8, 8) == place.offset // SECTOR


def _bcache_intact(superblock: Superblock, _place: Place, _view: View) -> bool:
    keys = superblock.le(206, 2)
    return keys <= BCACHE_MOST_KEYS and crc64(superblock[8 : BCACHE_KEYS_AT + 8 * keys]) == superblock.le(
        0, 8
    )


def _drbd_at_end(size: int) -> tuple[Place, ...]:
    return (
        Place(size - 4096, 104, b"\x83\x74\x02\x6b", 60),
        Place(size - 4096, 104, b"\x83\x74\x02\x6c", 60),
        Place(size - 4096, 1392, b"\x83\x74\x02\x6d", 60),
    )


BCACHE = Signature(
    "bcache",
    (Place(BCACHE_OFFSET, 2258, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81"), 24),),
    _bcache_sound,
    smallest=8192,
    intact=_bcache_intact,
)
CEPH_BLUESTORE = Signature("ceph_bluestore", (Place(0, 26, b"bluestore block device"),))
DRBD = Signature("drbd", (), tail=_drbd_at_end, smallest=FLOPPY + 1)

# LVM2_member, crypto_LUKS


def _lvm2_sound(superblock: Superblock, place: Place, _view: View) -> bool:
    return (
        superblock[24:32] == b"LVM2 001"
        and superblock.le(8, 8) == place.offset // SECTOR
        and raw_crc32(0xF597A6CF, superblock[20:]) == superblock.le(16, 4)
    )


def _luks_sound(superblock: Superblock, place: Place, _view: View) -> bool:
    return superblock.be(6, 2) != 2 or superblock.be(256, 8) == place.offset


LVM2 = Signature(
    "LVM2_member",
    tuple(Place(sector * SECTOR, SECTOR, b"LABELONE") for sector in range(4)),
    _lvm2_sound,
    smallest=FLOPPY + 1,
)
LUKS = Signature(
    "crypto_LUKS",
    (
        Place(0, SECTOR, b"LUKS\xba\xbe"),
        *(Place(kib * KIB, SECTOR, b"SKUL\xba\xbe") for kib in (16, 32, 64, 128)),
    ),
    _luks_sound,
)

# VMFS, ZFS

UBERBLOCK_MAGICS = (0x00BAB10C.to_bytes(8, "little"), 0x00BAB10C.to_bytes(8, "big"))
UBERBLOCKS = 128
UBERBLOCK_BYTES = 1024
ZFS_AT, ZFS_END = 128 * KIB, 128 * KIB + UBERBLOCKS * UBERBLOCK_BYTES
#: libblkid requires this many uberblocks, because fewer could be left over from an earlier use of the disk.
UBERBLOCKS_WANTED = 4


def _zfs_possible(view: View) -> bool:
    """Return whether enough slots contain 0xB1, a byte of the magic number, at the correct offset.

    The slots' other bytes are not read, so this takes 1 microsecond instead of 40.
    """
    front = view.front
    if len(front) < ZFS_END:
        return True
    places = (ZFS_AT + UBERBLOCK_MAGICS[order].index(0xB1) for order in (0, 1))
    return sum(front[at:ZFS_END:UBERBLOCK_BYTES].count(0xB1) for at in places) >= UBERBLOCKS_WANTED


def _zfs_sound(slots: Superblock, _place: Place, _view: View) -> bool:
    begins = range(0, len(slots), UBERBLOCK_BYTES)
    return sum(slots.startswith(UBERBLOCK_MAGICS, at) for at in begins) >= UBERBLOCKS_WANTED


VMFS_VOLUME = Signature("VMFS_volume_member", (Place(MIB, 146, b"\x0d\xd0\x01\xc0"),), smallest=FLOPPY + 1)
VMFS = Signature("VMFS", (Place(2 * MIB, 157, b"\x5e\xf1\xab\x2f"),))
ZFS = Signature(
    "zfs_member",
    (Place(ZFS_AT, ZFS_END - ZFS_AT, b""),),
    _zfs_sound,
    smallest=64 * MIB,
    possible=_zfs_possible,
)
