"""Recognises the volumes on a raw disk or in a partition: the types that libblkid knows, by its names.

First it looks for the magic numbers, each in its places, which is quick. A superblock with a magic number
must also agree with itself: sizes, versions, checksums (see `superblock` and the modules of the families).
No pointer in a superblock is followed, so the ranges to read are known beforehand: those near the front
(`wanted`), and those far from it (`far`).

The inspector of discs recognises `iso9660` and `udf`. Keyhole does not recognise libblkid's other types:
members of RAID controllers, LVM 1, device-mapper's own volumes, bcachefs, and rare file systems.

Source for names and order: `blkid -k` of util-linux 2.38, `libblkid/src/superblocks/superblocks.c` of 2.41.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.volumes import apple, linux, members, microsoft, packed, swap, unix
from keyhole.inspectors.volumes.superblock import Place, Signature
from keyhole.inspectors.volumes.view import View

#: How many bytes of a volume's front the first read brings.
FRONT = 256 * 1024
#: libblkid does not look at a volume of this size or smaller.
TOO_SMALL = 1024

#: In libblkid's order.
SIGNATURES: tuple[Signature, ...] = (
    members.LINUX_RAID_0,
    members.LINUX_RAID_1,
    members.BCACHE,
    members.CEPH_BLUESTORE,
    members.DRBD,
    members.LVM2,
    members.LUKS,
    members.VMFS_VOLUME,
    microsoft.BITLOCKER,
    microsoft.VFAT,
    swap.SWSUSPEND,
    swap.SWAP,
    linux.XFS,
    linux.EXT4DEV,
    linux.EXT4,
    linux.EXT3,
    linux.EXT2,
    linux.JBD,
    linux.REISERFS,
    linux.REISER4,
    linux.JFS,
    members.ZFS,
    apple.HFSPLUS,
    apple.HFS,
    unix.UFS,
    microsoft.HPFS,
    microsoft.NTFS,
    microsoft.REFS,
    packed.CRAMFS,
    packed.ROMFS,
    unix.MINIX,
    linux.GFS2,
    linux.OCFS2,
    packed.SQUASHFS,
    packed.SQUASHFS3,
    linux.BTRFS,
    unix.BFS,
    members.VMFS,
    unix.BEFS,
    linux.NILFS2,
    microsoft.EXFAT,
    linux.F2FS,
    apple.APFS,
    linux.ZONEFS,
    packed.EROFS,
)
#: Types that override all others: a volume that is part of an array or a group, or that is encrypted, may
#: also hold the superblock of another volume.
FOREMOST = frozenset(
    {"linux_raid_member", "drbd", "LVM2_member", "crypto_LUKS", "VMFS_volume_member", "BitLocker"}
)

#: A magic number, the number of its signature, and the place of the superblock.
Candidate = tuple[bytes, int, Place]


def _by_offset(places: Iterable[tuple[int, Place]]) -> dict[int, list[Candidate]]:
    """Places, each with its signature's number, by the offset of the magic number."""
    candidates = defaultdict(list)
    for number, place in places:
        candidates[place.offset + place.at].append((place.magic, number, place))
    return dict(candidates)


_FIXED = _by_offset((number, place) for number, one in enumerate(SIGNATURES) for place in one.places)
#: The magic numbers that may stand at an offset, and the length of the longest.
_MAGICS = {at: tuple({magic for magic, _, _ in some}) for at, some in _FIXED.items()}
_LONGEST = {at: max(map(len, magics)) for at, magics in _MAGICS.items()}
_ENDS = tuple((number, one) for number, one in enumerate(SIGNATURES) if one.ends(1 << 62))


def names(view: View) -> tuple[str, ...]:
    """The types of all signatures that a volume has, in libblkid's order; usually there is one, or none.

    The result depends only on the known bytes. If more bytes become known, types may be added, but none is
    removed.
    """
    if not (view.read(TOO_SMALL, 1) if view.size is None else view.size > TOO_SMALL):
        return ()
    return tuple(dict.fromkeys(SIGNATURES[number].name for number, _ in _found(view)))


def damaged(view: View) -> tuple[str, ...]:
    """The types of a volume that have no superblock with a correct checksum."""
    intact = {
        SIGNATURES[number].name for number, place in _found(view) if SIGNATURES[number].is_intact(place, view)
    }
    return tuple(name for name in names(view) if name not in intact)


def _found(view: View) -> list[tuple[int, Place]]:
    """The places of all superblocks, with the numbers of their signatures, in the order of these numbers."""
    return sorted(found for found in _marked(view) if SIGNATURES[found[0]].holds(found[1], view))


def ambivalent(found: tuple[str, ...]) -> bool:
    """Whether names contradict each other for libblkid, which refuses to name such a volume.

    Content in a member of an array or a group, or in an encrypted volume, is no contradiction.
    """
    return len(found) > 1 and found[0] not in FOREMOST


def wanted(size: int | None) -> tuple[ByteRange, ...]:
    """The ranges within the first 256 KiB of a volume of `size` bytes that `names` reads: 200 KiB at most."""
    return tuple(_merged(part for part in _reads(size) if part.offset < FRONT))


def far(size: int | None) -> tuple[ByteRange, ...]:
    """The ranges beyond the front that `names` reads. They are worth a request if it found nothing before.

    Together they have 10 KiB at most: UFS at 256 KiB, VMFS at 1 and 2 MiB, and before the end the spare
    superblock of NILFS2 and those of DRBD and Linux RAID 0.90 and 1.0.
    """
    return tuple(_merged(part for part in _reads(size) if part.end > FRONT))


def _marked(view: View) -> Iterator[tuple[int, Place]]:
    """The places where the magic number is, each with its signature's number."""
    for at, candidates in _FIXED.items():
        held = view.read(at, _LONGEST[at])
        if held.startswith(_MAGICS[at]):
            yield from ((number, place) for magic, number, place in candidates if held.startswith(magic))
    for number, signature in _ENDS:
        for place in signature.ends(view.size):
            if view.read(place.offset + place.at, len(place.magic)) == place.magic:
                yield number, place


def _reads(size: int | None) -> Iterator[ByteRange]:
    """All ranges that lie in a volume of that size, whole or in part."""
    for signature in SIGNATURES:
        if size is not None and size < signature.smallest:
            continue
        for place in (*signature.places, *signature.ends(size)):
            yield from _within(ByteRange(place.offset, max(place.length, signature.behind)), size)
        for part in signature.reads:
            yield from _within(part, size)


def _within(part: ByteRange, size: int | None) -> Iterator[ByteRange]:
    end = part.end if size is None else min(part.end, size)
    if end > part.offset:
        yield ByteRange(part.offset, end - part.offset)


def _merged(parts: Iterable[ByteRange]) -> Iterator[ByteRange]:
    """The ranges in ascending order; those that touch or overlap become one."""
    merged: ByteRange | None = None
    for part in sorted(parts):
        if merged is None or part.offset > merged.end:
            if merged is not None:
                yield merged
            merged = part
        else:
            merged = ByteRange(merged.offset, max(merged.end, part.end) - merged.offset)
    if merged is not None:
        yield merged
