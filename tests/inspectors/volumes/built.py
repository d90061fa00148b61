"""Volumes built from the specifications, because Debian has no tool that makes them in a file.

Each contains the structures that identify it, according to its specification, and otherwise zeros. The tables
in worker/keyhole/inspectors/volumes/ name the sources. The checksums are computed independently of Keyhole.
"""

from binascii import crc32
from collections.abc import Iterator
from struct import pack, pack_into
from uuid import UUID

from keyhole.builders import Image

KIB, MIB, GIB = 1024, 1024**2, 1024**3
SECTOR = 512
AN_ID = UUID("0f4e1f6c-6c0f-4b6d-9d0e-6a1f6a0c7d21").bytes

# Linux RAID: include/uapi/linux/raid/md_p.h


def raid_0(size: int, order: str = "<") -> Image:
    """A member with metadata 0.90 (mdp_super_t), in either byte order."""
    offset = size // (64 * KIB) * (64 * KIB) - 64 * KIB
    generic = pack(
        f"{order}16I",
        *(0xA92B4EFC, 0, 90, 0, 0, 0x11223344, 1_700_000_000, 1, offset // KIB, 2, 2, 0, 0, 1, 2, 3),
    )
    return Image.of(size, [(offset, generic.ljust(4096, b"\0"))])


def raid_1(size: int, minor: int, roles: int = 384) -> Image:
    """A member with metadata 1.0 (8 KiB before the end), 1.1 (at the front) or 1.2 (at 4 KiB)."""
    offset = {0: size // 4096 * 4096 - 8192, 1: 0, 2: 4096}[minor]
    superblock = bytearray(256 + 2 * roles)
    pack_into("<4I16s32s", superblock, 0, 0xA92B4EFC, 1, 0, 0, AN_ID, b"host:0")
    pack_into("<QIIQII", superblock, 64, 1_700_000_000, 1, 0, size // SECTOR - 32, 0, 2)
    pack_into("<QQQQ", superblock, 128, 16, size // SECTOR - 32, offset // SECTOR, 0)
    pack_into("<II16s", superblock, 160, 0, 0, AN_ID)
    pack_into("<QQQII", superblock, 192, 1_700_000_000, 17, 2**64 - 1, 0, roles)
    superblock[256:] = b"\0\0\1\0" + b"\xff\xff" * (roles - 2)
    total = sum(int.from_bytes(superblock[at : at + 4], "little") for at in range(0, len(superblock), 4))
    pack_into("<I", superblock, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    return Image.of(size, [(offset, bytes(superblock))])


# LVM2: lib/format_text/layout.h (pv_header), lib/label/label.c (label_header, calc_crc)


def lvm2(size: int, sector: int = 1) -> Image:
    """A physical volume whose label is in one of the first four sectors."""
    behind_crc = pack("<I8s32sQQQ", 32, b"LVM2 001", b"Jh3QtW1jmtCVNkpkrZ4dAGTcBzXZTvY2", size, MIB, 0).ljust(
        SECTOR - 20, b"\0"
    )
    label = pack("<8sQI", b"LABELONE", sector, _lvm2_crc(behind_crc)) + behind_crc
    return Image.of(size, [(sector * SECTOR, label)])


def _lvm2_crc(data: bytes) -> int:
    crc = 0xF597A6CF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc


# VMFS: vmfs-tools' libvmfs/vmfs_lvm.h (struct vmfs_volinfo_raw) and vmfs_fs.h (struct vmfs_fsinfo_raw)


def vmfs_volume(size: int) -> Image:
    """An extent of a VMFS and its file system, which VMware stores in one partition."""
    volume = bytearray(1024)
    pack_into("<II", volume, 0, 0xC001D00D, 4)
    volume[130:146] = AN_ID
    return Image.of(size, [(MIB, bytes(volume)), *vmfs(size).pieces])


def vmfs(size: int) -> Image:
    """Only the file system, as vmfs-tools reads it from an extent."""
    header = pack("<IIB16sI128s", 0x2FABF15E, 14, 61, AN_ID, 1, b"datastore1")
    return Image.of(size, [(2 * MIB, header.ljust(512, b"\0"))])


# Windows: libbde's "BitLocker Drive Encryption (BDE) format"; ReFS by libfsrefs' documentation


def bitlocker(begins: bytes, guid_at: int, guid: str = "4967D63B-2E29-4AD8-8399-F6A339E3D001") -> Image:
    """A volume that Windows encrypts. The first metadata block is at 1 MiB."""
    sector = bytearray(SECTOR)
    pack_into("<HBH", sector, 11, 512, 8, 0)
    sector[21], sector[510:] = 0xF8, b"\x55\xaa"
    sector[: len(begins)] = begins
    if guid_at:
        sector[guid_at : guid_at + 16] = UUID(guid).bytes_le
        pack_into("<QQQ", sector, guid_at + 16, MIB, 2 * MIB, 3 * MIB)
    metadata = b"-FVE-FS-" + pack("<HH", 100, 2)
    return Image.of(64 * MIB, [(0, bytes(sector)), (MIB, metadata.ljust(64, b"\0"))])


def bitlocker_to_go() -> Image:
    """A removable disk: a FAT32 boot sector for the reading program, which contains BitLocker's GUID."""
    image = bitlocker(b"\xeb\x58\x90MSWIN4.1", 424)
    fields = pack(
        "<HBHBHHBHHHIIIHHIHH", 512, 8, 32, 2, 0, 0, 0xF8, 0, 63, 255, 0, 131072, 1024, 0, 0, 2, 0, 6
    )
    return image.patched(11, fields).patched(82, b"FAT32   ")


def refs(size: int) -> Image:
    """The boot record of a ReFS volume."""
    return Image.of(size, [(0, b"\0\0\0ReFS\0\0\0\0\0FSRS".ljust(SECTOR, b"\0"))])


def hpfs(size: int) -> Image:
    """An OS/2 volume: boot sector, superblock and spare block (Linux's fs/hpfs/hpfs.h)."""
    boot = bytearray(SECTOR)
    boot[:11] = b"\xeb\x3c\x90OS2 20.0"
    pack_into("<HBHBHHBHHHI", boot, 11, 512, 1, 1, 0, 0, 0, 0xF8, 0, 63, 255, 63)
    boot[38], boot[54:62], boot[510:] = 0x28, b"HPFS    ", b"\x55\xaa"
    superblock = pack("<IIBB", 0xF995E849, 0xFA53E9C5, 2, 2)
    spare = pack("<II", 0xF9911849, 0xFA5229C5)
    return Image.of(
        size,
        [(0, bytes(boot)), (8192, superblock.ljust(SECTOR, b"\0")), (8704, spare.ljust(SECTOR, b"\0"))],
    )


# Apple: Technical Note TN1150; Inside Macintosh: Files


def hfsplus(size: int, signature: bytes = b"H+", version: int = 4) -> Image:
    """A volume header, and its copy 1024 bytes before the end."""
    header = _hfsplus_header(size, signature, version)
    return Image.of(size, [(KIB, header), (size - KIB, header)])


def _hfsplus_header(size: int, signature: bytes, version: int) -> bytes:
    header = bytearray(SECTOR)
    pack_into(">2sHI4sI", header, 0, signature, version, 0x100, b"10.0", 0)
    pack_into(">IIIIIIIII", header, 16, *(0xE0000000,) * 4, 0, 0, 4096, size // 4096, size // 4096 - 10)
    pack_into(">QIIII", header, 272, 4096, 4096, 1, 2, 1)
    return bytes(header)


def hfsplus_wrapped(size: int) -> Image:
    """An HFS+ volume in an HFS wrapper: the master directory block, and the volume header within."""
    first_sector, block_size, embedded = 16, 4096, 32
    mdb = bytearray(SECTOR)
    pack_into(">2sII", mdb, 0, b"BD", 0xE0000000, 0xE0000000)
    pack_into(">HHIIH", mdb, 16, 0, size // block_size - 8, block_size, block_size, first_sector)
    mdb[36:43] = b"\6Volume"
    pack_into(">2sHH", mdb, 124, b"H+", embedded, size // block_size - 64)
    at = first_sector * SECTOR + embedded * block_size + KIB
    return Image.of(size, [(KIB, bytes(mdb)), (at, _hfsplus_header(size, b"H+", 4))])


# BFS of BeOS and Haiku: "Practical File System Design with the Be File System"; Linux's fs/befs


def befs(size: int, order: str = "<", offset: int = SECTOR) -> Image:
    """A superblock (on Intel, after the boot sector) and the inode of the root directory."""
    block, block_log, group_log, root_group = 2048, 11, 13, 1
    superblock = bytearray(164)
    pack_into(f"{order}32sIIIIQQIIIIII", superblock, 0, b"Haiku", 0x42465331, 0x42494745, block, block_log,
              size // block, 100, block, 0xDD121031, 1, group_log, 4, 0x434C454E)  # fmt: skip
    pack_into(f"{order}IHHQQIIHHIHH", superblock, 88, 0, 5, 64, 0, 0, 0x15B6830E, root_group, 0, 1, 1, 8, 1)
    inode = pack(f"{order}IIHHIII", 0x3BBE0AD9, root_group, 0, 1, 0, 0, 0o40755).ljust(232, b"\0")
    return Image.of(size, [(offset, bytes(superblock)), (root_group << group_log << block_log, inode)])


# Other systems


def zonefs(size: int) -> Image:
    """The superblock in the first zone (Linux's fs/zonefs/zonefs.h)."""
    superblock = bytearray(4096)
    pack_into("<4sI64s16sQIIIB", superblock, 0, b"SFOZ", 0, b"zoned", AN_ID, 1, 0, 0, 0o640, 0)
    pack_into("<I", superblock, 4, crc32(superblock) ^ 0xFFFFFFFF)
    return Image.of(size, [(0, bytes(superblock))])


def squashfs3(order: str = "<") -> Image:
    """A squashfs of Linux before 2.6.29, in either byte order."""
    superblock = pack(f"{order}IIIIIIIHH", 0x73717368, 3, 0, 0, 0, 0, 0, 3, 1)
    return Image.of(64 * KIB, [(0, superblock.ljust(119, b"\0"))])


def minix_big_endian(magic: int) -> Image:
    """A Minix file system of version 1 or 2 in Motorola's byte order, 1000 blocks long."""
    superblock = pack(">10HI", 352, 1000, 1, 1, 16, 0, 0x1008, 0x1C00, magic, 1, 1000)
    return Image.of(1000 * KIB, [(KIB, superblock)])


def zfs_big_endian() -> Image:
    """A label of a pool made on SPARC, with five uberblocks ("ZFS On-Disk Specification", section 1.3)."""
    slots = [
        (128 * KIB + slot * KIB, pack(">QQQQQ", 0xBAB10C, 15, slot, 7, 1_200_000_000)) for slot in range(5)
    ]
    return Image.of(64 * MIB, slots)


def ufs(offset: int, magic: bytes) -> Image:
    """A superblock, found by offset and magic (FreeBSD's sys/ufs/ffs/fs.h, Linux's fs/ufs/ufs_fs.h)."""
    return Image.of(2 * MIB, [(offset + 1372, magic)])


def built() -> Iterator[tuple[str, str, Image]]:
    """Return each volume with its name in tests and its type."""
    for order in "<>":
        yield f"raid 0.90 {order}", "linux_raid_member", raid_0(64 * MIB + 5 * KIB, order)
        yield f"befs {order}", "befs", befs(64 * MIB, order)
        yield f"squashfs3 {order}", "squashfs3", squashfs3(order)
    for minor in range(3):
        yield f"raid 1.{minor}", "linux_raid_member", raid_1(64 * MIB + 5 * KIB, minor)
    yield "raid 1.2, an odd number of roles", "linux_raid_member", raid_1(64 * MIB, 2, roles=5)
    yield "befs without a boot sector", "befs", befs(64 * MIB, ">", 0)
    for sector in range(4):
        yield f"lvm2 in sector {sector}", "LVM2_member", lvm2(64 * MIB, sector)
    yield "vmfs", "VMFS", vmfs(GIB)
    yield "bitlocker of Windows Vista", "BitLocker", bitlocker(b"\xeb\x52\x90-FVE-FS-", 0)
    yield "bitlocker of Windows 7", "BitLocker", bitlocker(b"\xeb\x58\x90-FVE-FS-", 160)
    only_used = "92A84D3B-DD80-4D0E-9E4E-B1E3284EAED8"
    yield "bitlocker of used space", "BitLocker", bitlocker(b"\xeb\x58\x90-FVE-FS-", 160, only_used)
    yield "bitlocker to go", "BitLocker", bitlocker_to_go()
    yield "refs", "ReFS", refs(GIB)
    yield "hpfs", "hpfs", hpfs(64 * MIB)
    yield "hfsplus", "hfsplus", hfsplus(64 * MIB)
    yield "hfsx", "hfsplus", hfsplus(64 * MIB, b"HX", 5)
    yield "hfsplus in a wrapper", "hfsplus", hfsplus_wrapped(64 * MIB)
    yield "zonefs", "zonefs", zonefs(256 * MIB)
    yield "minix 1, big-endian", "minix", minix_big_endian(0x137F)
    yield "minix 2, big-endian", "minix", minix_big_endian(0x2478)
    yield "zfs, big-endian", "zfs_member", zfs_big_endian()
    for offset in (0, 8 * KIB, 64 * KIB, 256 * KIB):
        yield f"ufs at {offset}", "ufs", ufs(offset, b"\x54\x19\x01\x00")
    for magic in (0x00195612, 0x00095014, 0x00612195, 0x05231994):
        yield f"ufs with {magic:08X}", "ufs", ufs(8 * KIB, magic.to_bytes(4, "big"))
