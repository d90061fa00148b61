"""Recognises the volumes on a raw disk or in a partition. Keyhole uses libblkid's names for the types.

A fast first step searches all possible places for magic numbers. Then Keyhole checks whether the fields of
each superblock with a magic number are consistent. For most types, a superblock with a wrong checksum is
recognised, too, and `damaged` reports it. The module `superblock` and the modules with signatures describe
these checks.

Keyhole does not read the structures that a superblock points to. So it knows which ranges to read before it
has read anything: the front (`FRONT`), and the ranges far from the front (`far`).

`iso9660` and `udf` are recognised by the inspector for optical discs. Keyhole does not recognise libblkid's
other types: members of RAID controllers, LVM 1, the volumes of device-mapper itself, bcachefs, and rare file
systems.

The names and their order come from `blkid -k` of util-linux 2.38 and from
`libblkid/src/superblocks/superblocks.c` of util-linux 2.41.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate

from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.volumes import apple, linux, members, microsoft, packed, swap, unix
from keyhole.inspectors.volumes.superblock import Place, Signature
from keyhole.inspectors.volumes.view import View

#: How many bytes of a volume's front are fetched with the first read.
FRONT = 256 * 1024
#: libblkid ignores volumes of at most this many bytes.
TOO_SMALL = 1024

#: All signatures, in libblkid's order.
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
#: Types that take precedence over all other types. A member of an array or a volume group, or an encrypted
#: volume, can also contain the superblock of another type, which belongs to its content.
FOREMOST = frozenset(
    {"linux_raid_member", "drbd", "LVM2_member", "crypto_LUKS", "VMFS_volume_member", "BitLocker"}
)

#: A magic number, the index of its signature in `SIGNATURES`, and the place of the superblock.
Candidate = tuple[bytes, int, Place]
#: The index of a signature in `SIGNATURES`, and a place that contains its magic number.
Marked = tuple[int, Place]


def _by_offset(places: Iterable[tuple[int, Place]]) -> dict[int, list[Candidate]]:
    """Group places by the offset of the magic number. Each place comes with the index of its signature."""
    candidates = defaultdict(list)
    for number, place in places:
        candidates[place.offset + place.at].append((place.magic, number, place))
    return dict(candidates)


_BY_OFFSET = _by_offset((number, place) for number, one in enumerate(SIGNATURES) for place in one.places)
#: The offsets of magic numbers in ascending order. For each offset: the magic numbers that are possible
#: there, the length of the longest one, and the candidates.
_FIXED = tuple(
    (at, tuple({magic for magic, _, _ in some}), max(len(magic) for magic, _, _ in some), some)
    for at, some in sorted(_BY_OFFSET.items())
)
#: For each offset in `_FIXED`, the highest end of the magic numbers at this offset and at all lower offsets.
_ENDS_OF_MAGICS = tuple(accumulate((at + longest for at, _, longest, _ in _FIXED), max))
_ENDS = tuple((number, one) for number, one in enumerate(SIGNATURES) if one.ends(1 << 62))


def names(view: View, in_front: list[Marked] | None = None) -> tuple[str, ...]:
    """Return the types of all signatures that match a volume, in libblkid's order; usually one or none.

    The result depends only on the bytes that were read so far. If more bytes are read, the result can gain
    types, but it never loses a type.

    Args:
        view: The volume.
        in_front: The value of `marked(view.front)`, if the caller knows it from an earlier call.
    """
    return _types(_found(view, in_front)) if _is_large_enough(view) else ()


def offset_of(name: str, view: View) -> int:
    """Return the offset in bytes of the first superblock of a type that `names` returns."""
    return min(place.offset for number, place in _found(view) if SIGNATURES[number].name == name)


def marked(front: bytes) -> list[Marked]:
    """Return each place at the front of a volume that contains the magic number of a signature."""
    # This search runs for every object. To save time, it calls `startswith` on the bytes: `View.read` would
    # take five times as long.
    return [
        (number, place)
        for at, magics, _, candidates in _FIXED[: _within_front(front)]
        if front.startswith(magics, at)
        for magic, number, place in candidates
        if front.startswith(magic, at)
    ]


def damaged(view: View) -> tuple[str, ...]:
    """Return each type for which all superblocks in a volume have a wrong checksum."""
    if not _is_large_enough(view):
        return ()
    found = _found(view)
    intact = {SIGNATURES[number].name for number, place in found if SIGNATURES[number].is_intact(place, view)}
    return tuple(name for name in _types(found) if name not in intact)


def flaw(name: str, view: View) -> str:
    """Return what is wrong with the superblocks of a type that `damaged` returns."""
    for number, place in _found(view):
        first = SIGNATURES[number].first
        if SIGNATURES[number].name == name and view.read(place.offset, len(first)) != first:
            return f"does not begin with {first.hex(' ').upper()}"
    return "does not match its checksum"


def _is_large_enough(view: View) -> bool:
    return bool(view.read(TOO_SMALL, 1)) if view.size is None else view.size > TOO_SMALL


def _types(found: list[Marked]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(SIGNATURES[number].name for number, _ in found))


def _found(view: View, in_front: list[Marked] | None = None) -> list[Marked]:
    """Return all superblocks, sorted by the index of the signature. See `names` for the parameters."""
    if in_front is None:
        in_front = marked(view.front)
    places = [*in_front, *_marked_elsewhere(view)]
    return sorted(found for found in places if SIGNATURES[found[0]].holds(found[1], view))


def ambivalent(found: tuple[str, ...]) -> bool:
    """Return whether libblkid reports a volume with these types as ambivalent (as having several types).

    A member of an array or a volume group, or an encrypted volume, is not ambivalent if it contains the
    superblock of another type.
    """
    return len(found) > 1 and found[0] not in FOREMOST


def far(size: int | None) -> tuple[ByteRange, ...]:
    """Return the ranges that `names` reads and that end after the first 256 KiB of a volume of `size` bytes.

    Callers request these ranges only if `names` found nothing in the front. Together the ranges have at most
    10 KiB: UFS at 256 KiB, VMFS at 1 and 2 MiB, and near the end of the volume the spare superblock of NILFS2
    and the superblocks of DRBD and of Linux RAID 0.90 and 1.0.
    """
    return tuple(_merged(part for part in _reads(size) if part.end > FRONT))


def _within_front(front: bytes) -> int:
    """Return the number of offsets in `_FIXED` whose magic numbers all end within `front`."""
    return bisect_right(_ENDS_OF_MAGICS, len(front))


def _marked_elsewhere(view: View) -> Iterator[Marked]:
    """Yield the places that contain a magic number, except the places that `marked(view.front)` searches."""
    for at, magics, longest, candidates in _FIXED[_within_front(view.front) :]:
        held = view.read(at, longest)
        if held.startswith(magics):
            yield from ((number, place) for magic, number, place in candidates if held.startswith(magic))
    for number, signature in _ENDS:
        for place in signature.ends(view.size):
            if view.read(place.offset + place.at, len(place.magic)) == place.magic:
                yield number, place


def _reads(size: int | None) -> Iterator[ByteRange]:
    """Yield all ranges that `names` reads, cut to a volume of `size` bytes (`None`: not known yet)."""
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
    """Yield the ranges in ascending order. Ranges that touch or overlap are merged."""
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
