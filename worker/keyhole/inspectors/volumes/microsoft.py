"""The signatures of the file systems of Microsoft and OS/2, and of BitLocker.

Offsets are in bytes and count from the beginning of the volume. All fields are little-endian.

| name | magic | conditions |
|---|---|---|
| vfat (FAT12, 16, 32) | one of: `MSWIN`, `FAT32   ` @82; `MSDOS`, `FAT16   `, `FAT12   `, `FAT     ` @54; EB or E9 @0; 55 AA @510 | the sector size u16@11 is a power of two from 512 to 4096; sectors per cluster u8@13 is a power of two; neither the number of reserved sectors u16@14 nor the number of FATs u8@16 is zero; the media type u8@21 is F0 or F8…FF; the number of clusters is not larger than the FAT's width allows. The clusters occupy all sectors (u16@19, or u32@32 if that is zero), except the reserved sectors, the FATs (each u16@22 sectors, or u32@36 if that is zero), and the root directory (u16@17 entries of 32 bytes). If only EB, E9 or 55 AA matched, also: 55 AA @510, and @54 is neither `HPFS    ` nor `JFS     ` |
| exfat | `EXFAT   ` @3 | EB 76 90 @0, zeros @11…63, 55 AA @510; log2(sector size) u8@108 is 9 to 12; the sum of this logarithm and log2(sectors per cluster) u8@109 is at most 25; every u32 of the 12th sector is the checksum of the first 11 sectors, without the bytes 106, 107 and 112 |
| ntfs | `NTFS    ` @3 | the sector size u16@11 is a power of two from 256 to 4096; sectors per cluster u8@13 is a power of two, or F0…F9, which means two to the power of 256 minus the field; a cluster has at most 2 MiB; these fields are zero: u16@14, u8@16, u16@17, u16@19, u16@22, u32@32; the record size u8@64 is a power of two up to 64 clusters, or E1…F7; the clusters of the MFT u64@48 and of its mirror u64@56 lie within the sectors u64@40 |
| hpfs | 49 E8 95 F9 @8192 | 49 18 91 F9 @8704 |
| ReFS | 00 00 00 `ReFS` 00 @0 | |
| BitLocker | EB 52 90 `-FVE-FS-` @0 (Windows Vista) | |
| BitLocker | EB 58 90 `-FVE-FS-` @0 (Windows 7 and later) | the metadata's offset u64@176 is not zero |
| BitLocker | EB 58 90 `MSWIN4.1` @0 (To Go) | BitLocker's GUID @424; the metadata's offset u64@440 is not zero |

The boot sector of a BitLocker volume looks like that of a vfat, so Keyhole recognises a vfat only if the boot
sector is not BitLocker's.

Sources: "FAT: General Overview of On-Disk Format" 1.03 (fatgen103); "exFAT file system specification",
sections 3.1 and 3.4; for NTFS and HPFS, Linux's fs/ntfs3/ntfs.h and fs/hpfs/hpfs.h; libbde's "BitLocker Drive
Encryption (BDE) format", sections 2.1 to 2.3.

Keyhole checks the same fields as libblkid 2.41, but it does not read the structures that the boot sector
points to: the MFT (which Windows places 3 GiB after the beginning of the volume), BitLocker's metadata, and
the sector that states the free space of a FAT32. Linux also mounts a FAT32 without that sector. Keyhole
recognises an exFAT even if the bytes @0 or the checksum of the boot region are wrong, and reports it as
damaged.
"""  # noqa: E501 - the rows of the table are one line each

from struct import unpack_from

from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.volumes.checksums import rotated_sum
from keyhole.inspectors.volumes.superblock import Place, Signature, Superblock
from keyhole.inspectors.volumes.view import View

LARGEST_SECTOR = 4096
BOOT_MARK = b"\x55\xaa"

# FAT

FAT16_CLUSTERS, FAT32_CLUSTERS = 0xFFF4, 0x0FFFFFF6


def _vfat_sound(superblock: Superblock, place: Place, _view: View) -> bool:
    if len(place.magic) <= 2 and (
        superblock[510:] != BOOT_MARK or superblock[54:62] in {b"JFS     ", b"HPFS    "}
    ):
        return False
    return _fat_sizes_agree(superblock) and not _is_bitlocker(superblock)


def _fat_sizes_agree(superblock: Superblock) -> bool:
    sector, cluster, reserved = superblock.le(11, 2), superblock[13], superblock.le(14, 2)
    fats, media = superblock[16], superblock[21]
    if not (
        SECTOR <= sector <= LARGEST_SECTOR
        and sector.bit_count() == cluster.bit_count() == 1
        and reserved
        and fats
        and (media == 0xF0 or media >= 0xF8)
    ):
        return False
    sectors = superblock.le(19, 2) or superblock.le(32, 4)
    fat_sectors = (superblock.le(22, 2) or superblock.le(36, 4)) * fats
    directory = -(-superblock.le(17, 2) * 32 // sector)
    clusters = (sectors - reserved - fat_sectors - directory) // cluster
    return 0 <= clusters <= (FAT32_CLUSTERS if _is_fat32(superblock) else FAT16_CLUSTERS)


def _is_fat32(superblock: Superblock) -> bool:
    return not superblock.le(22, 2) and superblock.le(36, 4) != 0


VFAT = Signature(
    "vfat",
    (
        Place(0, SECTOR, b"MSWIN", 82),
        Place(0, SECTOR, b"FAT32   ", 82),
        Place(0, SECTOR, b"MSDOS", 54),
        Place(0, SECTOR, b"FAT16   ", 54),
        Place(0, SECTOR, b"FAT12   ", 54),
        Place(0, SECTOR, b"FAT     ", 54),
        Place(0, SECTOR, b"\xeb"),
        Place(0, SECTOR, b"\xe9"),
        Place(0, SECTOR, BOOT_MARK, 510),
    ),
    _vfat_sound,
)

# exFAT

#: The sectors of the boot region: eleven sectors, and one sector with their checksum.
EXFAT_SECTORS = 12
#: The offsets of bytes that the checksum does not cover, because they change while the volume is in use.
EXFAT_NOT_SUMMED = (106, 107, 112)


def _exfat_sound(superblock: Superblock, _place: Place, _view: View) -> bool:
    sector_log, cluster_log = superblock[108], superblock[109]
    return (
        not any(superblock[11:64])
        and superblock.endswith(BOOT_MARK)
        and 9 <= sector_log <= 12
        and sector_log + cluster_log <= 25
    )


def _exfat_intact(superblock: Superblock, _place: Place, view: View) -> bool:
    return _exfat_sum_holds(1 << superblock[108], view)


def _exfat_sum_holds(sector: int, view: View) -> bool:
    region = view.read(0, EXFAT_SECTORS * sector)
    if len(region) < EXFAT_SECTORS * sector:
        return False
    summed = bytearray(region[: (EXFAT_SECTORS - 1) * sector])
    for at in reversed(EXFAT_NOT_SUMMED):
        del summed[at]
    total = rotated_sum(bytes(summed))
    return all(
        word == total for word in unpack_from(f"<{sector // 4}I", region, (EXFAT_SECTORS - 1) * sector)
    )


EXFAT = Signature(
    "exfat",
    (Place(0, SECTOR, b"EXFAT   ", 3),),
    _exfat_sound,
    behind=EXFAT_SECTORS * LARGEST_SECTOR,
    intact=_exfat_intact,
    first=b"\xeb\x76\x90",
)

# NTFS

NTFS_LARGEST_CLUSTER = 2 * 1024 * 1024
NTFS_ZEROS = ((14, 3), (17, 4), (22, 2), (32, 4))


def _ntfs_sound(superblock: Superblock, _place: Place, _view: View) -> bool:
    sector, cluster_field, record = superblock.le(11, 2), superblock[13], superblock[64]
    cluster = 1 << 256 - cluster_field if 0xF0 <= cluster_field <= 0xF9 else cluster_field
    if not (256 <= sector <= LARGEST_SECTOR and sector.bit_count() == 1 and cluster.bit_count() == 1):
        return False
    clusters = superblock.le(40, 8) // cluster
    return (
        sector * cluster <= NTFS_LARGEST_CLUSTER
        and not any(any(superblock[at : at + length]) for at, length in NTFS_ZEROS)
        and (0xE1 <= record <= 0xF7 or (record <= 64 and record.bit_count() == 1))
        and superblock.le(48, 8) <= clusters
        and superblock.le(56, 8) <= clusters
    )


NTFS = Signature("ntfs", (Place(0, SECTOR, b"NTFS    ", 3),), _ntfs_sound)

# HPFS, ReFS, BitLocker

HPFS_SPARE = ByteRange(8704, 4)
BITLOCKER_NAME = b"-FVE-FS-"
BITLOCKER_VISTA = b"\xeb\x52\x90-FVE-FS-"
#: Maps the first bytes of a BitLocker volume to the offset of its GUID. The metadata's offset follows the
#: GUID.
BITLOCKER_GUIDS_AT = {b"\xeb\x58\x90-FVE-FS-": 160, b"\xeb\x58\x90MSWIN4.1": 424}
#: The GUID is 4967D63B-2E29-4AD8-8399-F6A339E3D001, or 92A84D3B-DD80-4D0E-9E4E-B1E3284EAED8 if BitLocker
#: encrypts only the used space.
BITLOCKER_GUIDS = {
    bytes.fromhex("3bd66749292ed84a8399f6a339e3d001"),
    bytes.fromhex("3b4da89280dd0e4d9e4eb1e3284eaed8"),
}


def _hpfs_sound(_superblock: Superblock, _place: Place, view: View) -> bool:
    return view.read(*HPFS_SPARE) == b"\x49\x18\x91\xf9"


def _is_bitlocker(superblock: Superblock) -> bool:
    begins = superblock[:11]
    at = BITLOCKER_GUIDS_AT.get(begins)
    if at is None:
        return begins == BITLOCKER_VISTA
    named = begins.endswith(BITLOCKER_NAME) or superblock[at : at + 16] in BITLOCKER_GUIDS
    return named and superblock.le(at + 16, 8) != 0


def _bitlocker_sound(superblock: Superblock, _place: Place, _view: View) -> bool:
    return _is_bitlocker(superblock)


HPFS = Signature("hpfs", (Place(8192, 9, b"\x49\xe8\x95\xf9"),), _hpfs_sound, reads=(HPFS_SPARE,))
REFS = Signature("ReFS", (Place(0, 8, b"\0\0\0ReFS\0"),))
BITLOCKER = Signature(
    "BitLocker",
    tuple(Place(0, SECTOR, begins) for begins in (BITLOCKER_VISTA, *BITLOCKER_GUIDS_AT)),
    _bitlocker_sound,
)
