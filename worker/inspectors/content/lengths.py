"""How long a volume is by its own superblock: its high-water mark, for the types that state it plainly.

| type | bytes | source |
|---|---|---|
| `ext2` `ext3` `ext4` `ext4dev` | blocks u32@4 (with 64BIT, 0x80 in u32@96, and u32@336) x (1024 << u32@24), superblock at 1024; little-endian | Linux, Documentation/filesystems/ext4/super.rst |
| `xfs` | blocks u64@8 x block size u32@4; big-endian | XFS Algorithms & Data Structures, 13.1 |
| `btrfs` | that of the device: u64@209 of the superblock at 64 KiB; little-endian | Linux, include/uapi/linux/btrfs_tree.h |
| `f2fs` | blocks u64@36 << u32@16, superblock at 1024; little-endian | Linux, include/linux/f2fs_fs.h |
| `vfat` | sectors u16@19, or u32@32 where that is zero x u16@11; little-endian | FAT specification 1.03, 3.1 |
| `exfat` | sectors u64@72 << u8@108; little-endian | exFAT specification, 3.1 |
| `ntfs` | (sectors u64@40 + 1, the copy of the boot sector) x u16@11; little-endian | NTFS documentation, boot sector |
| `squashfs` | u64@40; little-endian | Linux, fs/squashfs/squashfs_fs.h |
| `erofs` | blocks u32@36 << u8@12, superblock at 1024; little-endian | Linux, fs/erofs/erofs_fs.h |
| `hfsplus` | blocks u32@44 x u32@40, header at 1024; big-endian | Apple, Technical Note 1150 |
| `nilfs2` | u64@32 of the superblock at 1024; little-endian | Linux, include/uapi/linux/nilfs2_ondisk.h |
| `swap` | (last page u32@1028 + 1) x page size, which is where the magic number ends; either byte order | Linux, include/linux/swap.h |
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Callable

from worker.inspectors.content.view import View

#: Where `SWAPSPACE2` ends in a page of each size.
_PAGES = (4096, 8192, 16384, 32768, 65536)


def stated_length(name: str, view: View) -> int | None:
    """The bytes that a volume of a type, which was recognised, says it has; `None` if not looked at."""
    length = _LENGTHS[name](view) if name in _LENGTHS else None
    return length or None


def _ext(view: View) -> int:
    superblock = view.read(1024, 1024)
    blocks = _little(superblock, 4, 4)
    if _little(superblock, 96, 4) & 0x80:
        blocks |= _little(superblock, 336, 4) << 32
    shift = _little(superblock, 24, 4)
    return blocks * 1024 << shift if shift <= 6 else 0


def _xfs(view: View) -> int:
    superblock = view.read(0, 512)
    return _big(superblock, 4, 4) * _big(superblock, 8, 8)


def _btrfs(view: View) -> int:
    return _little(view.read(64 * 1024, 4096), 209, 8)


def _f2fs(view: View) -> int:
    superblock = view.read(1024, 512)
    shift = _little(superblock, 16, 4)
    return _little(superblock, 36, 8) << shift if shift <= 16 else 0


def _vfat(view: View) -> int:
    sector = view.read(0, 512)
    return (_little(sector, 19, 2) or _little(sector, 32, 4)) * _little(sector, 11, 2)


def _exfat(view: View) -> int:
    sector = view.read(0, 512)
    shift = _little(sector, 108, 1)
    return _little(sector, 72, 8) << shift if shift <= 12 else 0


def _ntfs(view: View) -> int:
    sector = view.read(0, 512)
    return (_little(sector, 40, 8) + 1) * _little(sector, 11, 2)


def _squashfs(view: View) -> int:
    superblock = view.read(0, 96)
    return _little(superblock, 40, 8) if superblock.startswith(b"hsqs") else 0


def _erofs(view: View) -> int:
    superblock = view.read(1024, 128)
    shift = _little(superblock, 12, 1)
    return _little(superblock, 36, 4) << shift if shift <= 16 else 0


def _hfsplus(view: View) -> int:
    header = view.read(1024, 512)
    return _big(header, 44, 4) * _big(header, 40, 4) if header[:2] in {b"H+", b"HX"} else 0


def _nilfs2(view: View) -> int:
    return _little(view.read(1024, 1024), 32, 8)


def _swap(view: View) -> int:
    header = view.read(1024, 8)
    version, last = (header[:4], header[4:8])
    order = "little" if version == b"\1\0\0\0" else "big" if version == b"\0\0\0\1" else None
    page = next((page for page in _PAGES if view.read(page - 10, 10) == b"SWAPSPACE2"), None)
    if order == "little" and page is not None:
        return (_little(last, 0, 4) + 1) * page
    return (_big(last, 0, 4) + 1) * page if order and page else 0


def _little(data: bytes, offset: int, length: int) -> int:
    return int.from_bytes(data[offset : offset + length], "little")


def _big(data: bytes, offset: int, length: int) -> int:
    return int.from_bytes(data[offset : offset + length], "big")


_LENGTHS: dict[str, Callable[[View], int]] = {
    "ext2": _ext,
    "ext3": _ext,
    "ext4": _ext,
    "ext4dev": _ext,
    "xfs": _xfs,
    "btrfs": _btrfs,
    "f2fs": _f2fs,
    "vfat": _vfat,
    "exfat": _exfat,
    "ntfs": _ntfs,
    "squashfs": _squashfs,
    "erofs": _erofs,
    "hfsplus": _hfsplus,
    "nilfs2": _nilfs2,
    "swap": _swap,
}
