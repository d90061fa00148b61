"""The cases in which Keyhole and libblkid 2.38 differ about a damaged volume, and why.

Debian 12 has version 2.38. Keyhole also reports damage that only later versions check.
"""

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True)
class Difference:
    """Bytes of a superblock about which Keyhole and libblkid differ.

    Attributes:
        bytes: Their offsets in the superblock.
        reason: Why the two differ.
        keeps: If true, Keyhole still detects the volume when these bytes are wrong, and libblkid does not. If
            false, libblkid does and Keyhole does not.
        instead: The types that the other of the two then detects.
    """

    bytes: range
    reason: str
    keeps: bool = False
    instead: tuple[str, ...] = ()

    def explains(self, at: int, kind: str, ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
        """Whether this difference explains why the two detect different types after a change of a byte."""
        if self.keeps:
            return at in self.bytes and ours == (kind,) and theirs == self.instead
        return at in self.bytes and ours == self.instead


def _stricter(first: int, end: int, reason: str, instead: tuple[str, ...] = ()) -> Difference:
    return Difference(range(first, end), reason, instead=instead)


def _kept(first: int, end: int, reason: str, instead: tuple[str, ...] = ()) -> Difference:
    return Difference(range(first, end), reason, keeps=True, instead=instead)


EXT = (
    _stricter(24, 28, "no ext has blocks larger than 64 KiB"),
    _stricter(32, 36, "nor groups without blocks"),
)
#: The differences by the volume's type.
DIFFERENCES: dict[str, tuple[Difference, ...]] = {
    "ext2": EXT,
    "ext3": EXT,
    "ext4": EXT,
    "ext4dev": EXT,
    "jbd": EXT,
    "xfs": (_stricter(80, 84, "sizes are multiplied without the carry being lost"),),
    "erofs": (_stricter(12, 13, "no erofs has blocks larger than 64 KiB"),),
    "exfat": (
        _stricter(11, 64, "zeros, so that it is no FAT; libblkid looks at them from 2.40 on, as Linux does"),
        _stricter(108, 110, "the same of its sizes"),
        _stricter(510, 512, "the same of its mark"),
    ),
    "vfat": (
        *(
            _stricter(first, end, "sizes are calculated without the carry being lost")
            for first, end in ((11, 20), (22, 24), (32, 40))
        ),
        _kept(48, 50, "Linux mounts it without the sector that tells of free space"),
    ),
    "ntfs": (
        _stricter(11, 13, "libblkid wants a power of two from 2.40 on"),
        *(
            _kept(first, end, "the MFT is not looked at, wherever these say it is")
            for first, end in ((11, 14), (40, 65))
        ),
    ),
    "hfs": (_stricter(20, 24, "libblkid looks at the size of blocks from 2.40 on"),),
    "hfsplus": (
        _stricter(1, 4, "two bytes are little to go by: the version must fit the signature"),
        _stricter(40, 44, "the same: a power of two"),
        _stricter(18, 24, "the volume within must lie in the wrapper"),
        _stricter(126, 130, "the same"),
        *(
            _kept(first, end, "the volume within is not looked at, wherever the wrapper says it is")
            for first, end in ((20, 24), (28, 30), (126, 128))
        ),
    ),
    "crypto_LUKS": (_stricter(256, 264, "libblkid compares a second header's own offset from 2.41 on"),),
    "befs": (
        _stricter(40, 68, "the superblock must agree with itself"),
        *(
            _kept(first, end, "the root directory's inode is not looked at, wherever these say it is")
            for first, end in ((76, 80), (116, 124))
        ),
    ),
    "BitLocker": (
        _stricter(176, 184, "an offset of metadata is wanted instead of these"),
        _stricter(424, 448, "without it, it is the FAT that it looks like", instead=("vfat",)),
        _kept(176, 184, "its metadata are not looked at, wherever this says they are"),
        _kept(440, 448, "the same", instead=("vfat",)),
    ),
}
