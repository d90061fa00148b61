"""Damaged volumes raise no error, and Keyhole and libblkid agree except for the listed differences."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import pytest

from keyhole.builders import Image
from keyhole.inspectors.volumes.checksums import rotated_sum
from keyhole.inspectors.volumes.superblock import Place
from keyhole.inspectors.volumes.volumes import FRONT, SIGNATURES, damaged, flaw, names
from keyhole.scan.policy import judge
from tests.inspectors.inspecting import facts_of
from tests.inspectors.volumes.conftest import Volume
from tests.inspectors.volumes.differences import DIFFERENCES
from tests.inspectors.volumes.libblkid import LibBlkid
from tests.inspectors.volumes.views import BytesView, ChangedView

KIB = 1024
#: How many changes of each volume are also checked with libblkid.
COMPARED = 12
#: Bytes of a superblock that are changed one by one. For large superblocks such as btrfs's, these are the
#: first ones.
EACH_OF = 1024
NAMES = {signature.name for signature in SIGNATURES}


@contextmanager
def changed(volume: Volume, at: int, byte: int) -> Iterator[None]:
    """Yield the volume with one changed byte."""
    before = volume.read(at, 1)
    volume.write(at, bytes([byte]))
    try:
        yield
    finally:
        volume.write(at, before)


def superblocks(volume: Volume) -> list[Place]:
    """The ranges of the structures that identify a volume."""
    return [
        place
        for signature in SIGNATURES
        if signature.name == volume.kind
        for place in (*signature.places, *signature.ends(volume.view.size))
        if volume.read(place.offset + place.at, len(place.magic)) == place.magic
        and signature.holds(place, volume.view)
    ]


def changes(volume: Volume, number: int) -> Iterator[tuple[int, int, int]]:
    """Random changes of bytes: an offset within a superblock, one within the volume, and the new value."""
    random = Random(volume.name)  # noqa: S311 - the same changes in every run
    places = superblocks(volume)
    for _ in range(number):
        place = random.choice(places)
        at = random.randrange(min(place.length, random.choice([64, 256, 1 << 20])))
        before = volume.read(place.offset + at, 1)[0]
        values = (0, 0xFF, before ^ 1 << random.randrange(8), random.randrange(256))
        yield at, place.offset + at, random.choice(values)


@pytest.mark.parametrize("number", [COMPARED, pytest.param(400, marks=pytest.mark.slow)])
def test_a_changed_byte_is_seen_as_libblkid_sees_it(volume: Volume, libblkid: LibBlkid, number: int) -> None:
    for at, offset, byte in changes(volume, number):
        with changed(volume, offset, byte):
            ours = names(volume.view)
            theirs = tuple(name for name in libblkid.names(volume.descriptor) if name in NAMES)
        explained = ours == theirs or any(
            difference.explains(at, volume.kind, ours, theirs)
            for difference in DIFFERENCES.get(volume.kind, ())
        )
        assert explained, f"byte {at} of the superblock as {byte}: {ours}, libblkid {theirs}"


@pytest.mark.slow
def test_whichever_byte_is_changed_there_is_a_name_or_none(volume: Volume) -> None:
    random = Random(volume.name)  # noqa: S311 - the same changes in every run
    place = superblocks(volume)[0]
    in_front = place.offset + place.length <= FRONT
    whole = BytesView(volume.read(0, FRONT), volume.view.size) if in_front else volume.view
    for at in range(place.offset, place.offset + min(place.length, EACH_OF)):
        byte = volume.read(at, 1)[0] ^ 1 << random.randrange(8)
        assert set(names(ChangedView(whole, at, byte))) <= NAMES


#: For each volume, the bytes that its checksum covers and the checksum itself, without the bytes that it
#: excludes.
SUMMED = {
    "ext4": (1024, 1024, ()),
    "ext4 without a journal": (1024, 1024, ()),
    "ext4dev": (1024, 1024, ()),
    "xfs": (0, 512, ()),
    "xfs, sectors of 4 KiB": (0, 4096, ()),
    "btrfs": (64 * KIB + 32, 4096 - 32, (64 * KIB + 196,)),
    "btrfs with SHA-256": (64 * KIB, 4096, (64 * KIB + 196,)),
    "btrfs with BLAKE2": (64 * KIB, 4096, (64 * KIB + 196,)),
    "f2fs with checksum": (1024, 3072, ()),
    "erofs": (1024, 3072, (1024 + 8,)),
    "romfs": (0, 512, ()),
    "apfs": (0, 4096, ()),
    "zonefs": (0, 4096, ()),
    "exfat": (0, 12 * 512, (106, 107, 112)),
    "bcache's backing device": (4096, 208, ()),
    "bcache's cache": (4096, 208, ()),
    "lvm2 in sector 1": (512, 512, ()),
    "raid 1.1": (0, 256 + 2 * 384, ()),
    "raid 1.2, an odd number of roles": (4096, 256 + 2 * 5, ()),
    "nilfs2": (1024, 200, ()),
}


@pytest.mark.parametrize("name", SUMMED)
def test_a_changed_byte_that_a_checksum_is_of_is_noticed(
    open_volume: Callable[[str], Volume], name: str
) -> None:
    offset, length, left_out = SUMMED[name]
    random = Random(name)  # noqa: S311 - the same changes in every run
    front = BytesView(open_volume(name).read(0, FRONT), open_volume(name).view.size)
    for at in random.sample(range(offset, offset + length), 60):
        if at not in left_out:
            changed_view = ChangedView(front, at, front.known[at] ^ 1 << random.randrange(8))
            seen = names(changed_view)
            assert seen == damaged(changed_view) or not seen, at


@pytest.mark.parametrize(
    ("name", "offset", "data", "expected"),
    [
        ("ext2", 1024 + 24, b"\7", ()),
        ("ext2", 1024 + 32, bytes(4), ()),
        ("xfs without checksums", 80, b"\x10\0\0\1", ()),
        ("cramfs", 16, b"compressed ROMFS", ("cramfs",)),
        ("cramfs", 16, bytes(60), ()),
        ("FAT16", 22, b"\0\xf0", ()),
        ("FAT32", 48, b"\x40", ("vfat",)),
        ("FAT16", 54, b"HPFS    ", ()),
        ("ntfs", 510, bytes(2), ("ntfs",)),
        ("ntfs", 11, b"\1\2", ()),
        ("ntfs", 48, b"\7", ("ntfs",)),
        ("hfs", 1024 + 20, b"\0\0\2\1", ()),
        ("hfsplus", 1024 + 2, b"\0\5", ("hfsplus",)),
        ("hfsplus", 1024 + 2, b"\0\6", ()),
        ("hfsplus", 1024 + 40, b"\0\0\x10\1", ()),
        ("hfsplus in a wrapper", 1024 + 128, b"\xff\xff", ()),
        ("hfsplus in a wrapper", 1024 + 126, b"\0\1", ("hfsplus",)),
        ("befs <", 512 + 64, b"\1", ()),
        ("befs <", 512 + 56, b"\xff" * 8, ()),
        ("befs <", 512 + 116, b"\2", ("befs",)),
        ("bitlocker of Windows 7", 160, bytes(16), ("BitLocker",)),
        ("bitlocker of Windows 7", 176, bytes(8), ()),
        ("bitlocker of Windows 7", 176, b"\0\0\x20", ("BitLocker",)),
        ("bitlocker to go", 424, bytes(16), ("vfat",)),
        ("romfs", 8, b"\0\0\0\x10", ("romfs",)),
    ],
)
def test_a_superblock_must_agree_with_itself_and_points_where_it_likes(
    open_volume: Callable[[str], Volume], name: str, offset: int, data: bytes, expected: tuple[str, ...]
) -> None:
    volume = open_volume(name)
    front = volume.read(0, FRONT)
    patched = front[:offset] + data + front[offset + len(data) :]
    assert names(BytesView(patched, volume.view.size)) == expected


@pytest.mark.parametrize("name", SUMMED)
def test_a_whole_one_is_intact(open_volume: Callable[[str], Volume], name: str) -> None:
    assert damaged(open_volume(name).view) == ()


def test_an_exfat_that_begins_wrongly_is_not_said_to_have_a_wrong_checksum(
    open_volume: Callable[[str], Volume],
) -> None:
    """The checksum of the boot region is correct, and covers the wrong bytes."""
    region = b"ABC" + open_volume("exfat").read(3, 11 * 512 - 3)
    checksum = rotated_sum(bytes(byte for at, byte in enumerate(region) if at not in {106, 107, 112}))
    view = BytesView(region + checksum.to_bytes(4, "little") * 128, 8 * 1024 * KIB)

    assert damaged(view) == ("exfat",)
    assert flaw("exfat", view) == "does not begin with EB 76 90"


def test_an_exfat_with_a_wrong_checksum_is_told_so(open_volume: Callable[[str], Volume]) -> None:
    view = ChangedView(open_volume("exfat").view, 11 * 512, 0)

    assert flaw("exfat", view) == "does not match its checksum"


def test_a_disk_whose_superblock_has_another_checksum_is_damaged(
    open_volume: Callable[[str], Volume],
) -> None:
    volume = open_volume("ext4")
    image = Image.of(8 * 1024 * KIB, [(0, volume.read(0, FRONT))]).patched(KIB + 200, b"x")
    facts = facts_of(image)
    assert facts.content == ("ext4",)
    assert judge(facts) == ("damaged", ("checksum_mismatch",))


def test_wherever_a_volume_is_cut_off_it_has_no_other_name(volume: Volume) -> None:
    """The exception is a member: if its superblock is lost, the volume within it is recognised."""
    known, size = volume.read(0, FRONT), volume.view.size
    assert size is not None
    ends = {place.offset + length for place in superblocks(volume) for length in (0, 1, place.length - 1)}
    for end in {*ends, 0, 1, 511, 512, 1024, 1025, 4096, size - 1}:
        cut = min(end, size)
        assert set(names(BytesView(known[:cut], cut))) <= {volume.kind}
