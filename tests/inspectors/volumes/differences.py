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
    _stricter(24, 28, "ext has no blocks larger than 64 KiB"),
    _stricter(32, 36, "ext has no groups without blocks"),
)
#: The differences by the volume's type.
DIFFERENCES: dict[str, tuple[Difference, ...]] = {
    "ext2": EXT,
    "ext3": EXT,
    "ext4": EXT,
    "ext4dev": EXT,
    "jbd": EXT,
    "xfs": (_stricter(80, 84, "Keyhole multiplies sizes without overflow"),),
    "erofs": (_stricter(12, 13, "erofs has no blocks larger than 64 KiB"),),
    "exfat": (
        _stricter(11, 64, "a FAT has other bytes than zeros here; libblkid checks it since 2.40"),
        _stricter(108, 110, "libblkid checks these sizes since 2.40, as Linux does"),
        _stricter(510, 512, "libblkid checks this mark since 2.40, as Linux does"),
    ),
    "vfat": (
        *(
            _stricter(first, end, "Keyhole calculates sizes without overflow")
            for first, end in ((11, 20), (22, 24), (32, 40))
        ),
        _kept(48, 50, "Linux mounts it without the sector that states the free space"),
    ),
    "ntfs": (
        _stricter(11, 13, "libblkid requires a power of two since 2.40"),
        *(
            _kept(first, end, "Keyhole does not read the MFT, whatever offset these bytes state")
            for first, end in ((11, 14), (40, 65))
        ),
    ),
    "hfs": (_stricter(20, 24, "libblkid checks the block size since 2.40"),),
    "hfsplus": (
        _stricter(1, 4, "the signature has only two bytes, so the version must match it"),
        _stricter(40, 44, "the size of blocks must be a power of two"),
        _stricter(18, 24, "the inner volume must be inside the wrapper"),
        _stricter(126, 130, "the inner volume must be inside the wrapper"),
        *(
            _kept(first, end, "Keyhole does not read the inner volume, whatever offset the wrapper states")
            for first, end in ((20, 24), (28, 30), (126, 128))
        ),
    ),
    "crypto_LUKS": (_stricter(256, 264, "libblkid compares a second header's own offset since 2.41"),),
    "befs": (
        _stricter(40, 68, "the fields of the superblock must agree"),
        *(
            _kept(first, end, "Keyhole does not read the root directory's inode, whatever offset these state")
            for first, end in ((76, 80), (116, 124))
        ),
    ),
    "BitLocker": (
        _stricter(176, 184, "an offset of metadata is required"),
        _stricter(424, 448, "without these bytes, it is the FAT that it contains", instead=("vfat",)),
        _kept(176, 184, "Keyhole does not read the metadata, whatever offset this states"),
        _kept(440, 448, "Keyhole does not read the metadata", instead=("vfat",)),
    ),
}
