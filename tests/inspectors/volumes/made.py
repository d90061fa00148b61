"""Volumes in files, made by the tools of their own systems with all relevant options.

Some volumes are copies with a few bytes changed: another magic that is valid for the structure, or a lost
first superblock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.tools import run

KIB, MIB = 1024, 1024**2


@dataclass(frozen=True)
class Made:
    """A volume that a tool makes.

    Attributes:
        name: Its name in tests.
        kind: Its type.
        size: Its length in bytes before the tool runs; zero if the tool creates the file.
        command: `{image}` is the file, `{tree}` a folder with two files, `{key}` a file with a passphrase.
    """

    name: str
    kind: str
    size: int
    command: str


@dataclass(frozen=True)
class Changed:
    """A copy of another volume, by name, with changed bytes at offsets. Negative offsets are from the end."""

    name: str
    kind: str
    of: str
    bytes_at: Mapping[int, bytes] = field(hash=False)


MADE = (
    Made("ext2", "ext2", 8 * MIB, "mke2fs -q -t ext2 {image}"),
    Made("ext2, blocks of 4 KiB", "ext2", 8 * MIB, "mke2fs -q -t ext2 -b 4096 -I 128 {image}"),
    Made("ext3", "ext3", 8 * MIB, "mke2fs -q -t ext3 {image}"),
    Made("ext4", "ext4", 8 * MIB, "mke2fs -q -t ext4 {image}"),
    Made("ext4 without a journal", "ext4", 8 * MIB, "mke2fs -q -t ext4 -O ^has_journal {image}"),
    Made("ext4 without checksums", "ext4", 8 * MIB, "mke2fs -q -t ext4 -O ^metadata_csum,^64bit {image}"),
    Made("ext4, old inodes", "ext4", 8 * MIB, "mke2fs -q -t ext4 -O bigalloc,casefold -I 1024 {image}"),
    Made("ext4dev", "ext4dev", 8 * MIB, "mke2fs -q -t ext4 -E test_fs {image}"),
    Made("journal of ext4", "jbd", 8 * MIB, "mke2fs -q -O journal_dev {image}"),
    Made("xfs", "xfs", 300 * MIB, "mkfs.xfs -q {image}"),
    Made("xfs, sectors of 4 KiB", "xfs", 300 * MIB, "mkfs.xfs -q -s size=4096 {image}"),
    Made("xfs without checksums", "xfs", 300 * MIB, "mkfs.xfs -q -m crc=0 {image}"),
    Made("btrfs", "btrfs", 110 * MIB, "mkfs.btrfs -q {image}"),
    Made("btrfs with xxHash", "btrfs", 110 * MIB, "mkfs.btrfs -q --csum xxhash {image}"),
    Made("btrfs with SHA-256", "btrfs", 110 * MIB, "mkfs.btrfs -q --csum sha256 {image}"),
    Made("btrfs with BLAKE2", "btrfs", 110 * MIB, "mkfs.btrfs -q --csum blake2 {image}"),
    Made("f2fs", "f2fs", 64 * MIB, "mkfs.f2fs -q {image}"),
    Made("f2fs with checksum", "f2fs", 64 * MIB, "mkfs.f2fs -q -O extra_attr,sb_checksum {image}"),
    Made("nilfs2", "nilfs2", 140 * MIB, "mkfs.nilfs2 -q {image}"),
    Made("jfs", "jfs", 17 * MIB, "mkfs.jfs -q {image}"),
    Made("reiserfs", "reiserfs", 40 * MIB, "mkfs.reiserfs -q -f -f {image}"),
    Made("reiserfs 3.5", "reiserfs", 40 * MIB, "mkfs.reiserfs -q -f -f --format 3.5 {image}"),
    Made("reiser4", "reiser4", 40 * MIB, "mkfs.reiser4 -f -y {image}"),
    Made("gfs2", "gfs2", 64 * MIB, "mkfs.gfs2 -q -O -p lock_nolock -j 1 -J 8 {image}"),
    Made("ocfs2", "ocfs2", 64 * MIB, "mkfs.ocfs2 -q -F -x -M local --fs-features=local -J size=4M {image}"),
    Made(
        "ocfs2, blocks of 512 bytes",
        "ocfs2",
        64 * MIB,
        "mkfs.ocfs2 -q -F -x -M local --fs-features=local -b 512 -J size=4M {image}",
    ),
    Made("erofs", "erofs", 0, "mkfs.erofs {image} {tree}"),
    Made("erofs without checksum", "erofs", 0, "mkfs.erofs -E nosbcrc {image} {tree}"),
    Made("squashfs", "squashfs", 0, "mksquashfs {tree} {image} -quiet -no-progress -processors 1"),
    Made("cramfs", "cramfs", 0, "mkfs.cramfs {tree} {image}"),
    Made("cramfs, big-endian", "cramfs", 0, "mkfs.cramfs -N big {tree} {image}"),
    Made("romfs", "romfs", 0, "genromfs -d {tree} -f {image}"),
    Made("minix 1", "minix", 4 * MIB, "mkfs.minix -1 {image}"),
    Made("minix 1, short names", "minix", 4 * MIB, "mkfs.minix -1 -n 14 {image}"),
    Made("minix 2", "minix", 4 * MIB, "mkfs.minix -2 {image}"),
    Made("minix 3", "minix", 4 * MIB, "mkfs.minix -3 {image}"),
    Made("bfs", "bfs", MIB, "mkfs.bfs {image}"),
    *(
        Made(f"swap, pages of {page} bytes", "swap", MIB, f"mkswap -p {page} {{image}}")
        for page in (4096, 8192, 16384, 32768, 65536)
    ),
    Made("FAT12", "vfat", 2 * MIB, "mkfs.fat -F 12 {image}"),
    Made("FAT12, a floppy", "vfat", 1440 * KIB, "mkfs.fat {image}"),
    Made("FAT16", "vfat", 20 * MIB, "mkfs.fat -F 16 {image}"),
    Made("FAT32", "vfat", 40 * MIB, "mkfs.fat -F 32 {image}"),
    Made("FAT32, sectors of 4 KiB", "vfat", 300 * MIB, "mkfs.fat -F 32 -S 4096 {image}"),
    Made("exfat", "exfat", 8 * MIB, "mkfs.exfat {image}"),
    Made("ntfs", "ntfs", 8 * MIB, "mkfs.ntfs -F -Q -q {image}"),
    Made("ntfs, clusters of 64 KiB", "ntfs", 40 * MIB, "mkfs.ntfs -F -Q -q -c 65536 {image}"),
    Made("ntfs, sectors of 4 KiB", "ntfs", 40 * MIB, "mkfs.ntfs -F -Q -q -s 4096 {image}"),
    Made("hfs", "hfs", 4 * MIB, "hformat -l volume {image}"),
    Made("apfs", "apfs", 600 * MIB, "mkapfs {image}"),
    Made("ufs 1", "ufs", 0, "makefs -t ffs -s 2m {image} {tree}"),
    Made("ufs 1, big-endian", "ufs", 0, "makefs -t ffs -s 2m -B be {image} {tree}"),
    Made("ufs 2", "ufs", 0, "makefs -t ffs -s 2m -o version=2 {image} {tree}"),
    Made("ufs 2, big-endian", "ufs", 0, "makefs -t ffs -s 2m -o version=2 -B be {image} {tree}"),
    Made(
        "luks 1",
        "crypto_LUKS",
        20 * MIB,
        "cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 {image} {key}",
    ),
    Made(
        "luks 2",
        "crypto_LUKS",
        20 * MIB,
        "cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {image} {key}",
    ),
    Made("bcache's backing device", "bcache", 8 * MIB, "make-bcache -B {image}"),
    Made("bcache's cache", "bcache", 80 * MIB, "make-bcache -C {image}"),
    Made("drbd 8", "drbd", 8 * MIB, "drbdmeta --force 0 v08 {image} internal create-md"),
    Made("drbd 9", "drbd", 8 * MIB, "drbdmeta --force 0 v09 {image} internal create-md 1"),
)

CHANGED = (
    Changed("FAT16 without a name", "vfat", "FAT16", {54: bytes(8)}),
    Changed("FAT16 with a near jump", "vfat", "FAT16", {0: b"\xe9\0\0", 54: bytes(8)}),
    Changed("FAT16 without a jump", "vfat", "FAT16", {0: bytes(3), 54: bytes(8)}),
    Changed("FAT32 without free space's sector", "vfat", "FAT32", {48: bytes(2), 512: b"\xff" * 512}),
    Changed("nilfs2, its first superblock lost", "nilfs2", "nilfs2", {KIB: bytes(KIB)}),
    Changed("luks 2, its first header lost", "crypto_LUKS", "luks 2", {0: bytes(4096)}),
    Changed("drbd 8, unclean", "drbd", "drbd 8", {-4096 + 60: b"\x83\x74\x02\x6c"}),
    Changed(
        "swap, big-endian",
        "swap",
        "swap, pages of 4096 bytes",
        {KIB: b"\0\0\0\1", KIB + 4: b"\0\0\0\xff"},
    ),
    Changed("swap of version 0", "swap", "swap, pages of 4096 bytes", {4086: b"SWAP-SPACE", KIB: bytes(8)}),
    *(
        Changed(f"swap with {magic[:9].decode()}", "swsuspend", "swap, pages of 8192 bytes", {8182: magic})
        for magic in (b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001")
    ),
    Changed(
        "swap with TuxOnIce",
        "swsuspend",
        "swap, pages of 4096 bytes",
        {0: b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c"},
    ),
)


def make(made: Made, path: Path, tree: Path, key: Path) -> None:
    """Make a volume as a new file."""
    if made.size:
        with path.open("wb") as file:
            file.truncate(made.size)
    run(made.command.format(image=path, tree=tree, key=key), path.parent)


def change(changed: Changed, original: Path, path: Path) -> None:
    """Make a volume from another one, as a new file that keeps the holes."""
    run(f"cp --sparse=always {original} {path}", path.parent)
    size = path.stat().st_size
    with path.open("r+b") as file:
        for offset, data in changed.bytes_at.items():
            file.seek(offset if offset >= 0 else size + offset)
            file.write(data)
