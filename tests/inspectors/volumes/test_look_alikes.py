"""Data that looks like a volume or another format, but is neither."""

import gzip
import io
import tarfile
import zipfile
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import guest_disk
from keyhole.inspectors.catalogue import NAMES
from keyhole.inspectors.volumes.superblock import Place
from keyhole.inspectors.volumes.volumes import FRONT, SIGNATURES, names
from tests.examples import whole
from tests.inspectors.volumes.built import built, hfsplus, hpfs
from tests.inspectors.volumes.views import BytesView, ImageView

KIB, MIB, GIB = 1024, 1024**2, 1024**3
#: Large enough for every format.
LARGE = 64 * GIB
#: Formats whose images are also a volume.
VOLUMES_THEMSELVES = {"luks": ("crypto_LUKS",)}


def packed(write: str) -> bytes:
    target = io.BytesIO()
    with (
        tarfile.open(fileobj=target, mode="w") if write == "tar" else zipfile.ZipFile(target, "w") as archive
    ):
        if isinstance(archive, tarfile.TarFile):
            archive.addfile(tarfile.TarInfo("ext4.img"), io.BytesIO())
        else:
            archive.writestr("ext4.img", bytes(5000))
    return target.getvalue()


TEXT = b"ext4 xfs btrfs: NTFS    , FAT32   , LUKS, XFSB, hsqs, BD, H+, LABELONE, ReIsErFs, SWAPSPACE2.\n"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" + TEXT * 50 + b"%%EOF\n"
#: GRUB's boot sector on a disk with a partition: a jump, 55 AA, and code at the offsets of a FAT's sizes.
GRUB = (
    bytes.fromhex("eb6390108ed0bc00b0b800008ed88ec0fbbe007cbf0006b90002f3a4ea2106").ljust(446, b"\x90")
    + bytes.fromhex("80202100830001010008000000f80700").ljust(64, b"\0")
    + b"\x55\xaa"
)  # fmt: skip
#: The boot sector of a Windows disk.
WINDOWS_MBR = (
    bytes.fromhex("33c08ed0bc007c8ec08ed8be007cbf0006b90002fcf3a450681c06cb").ljust(446, b"\0")
    + bytes.fromhex("80202100070001010008000000f80700").ljust(64, b"\0")
    + b"\x55\xaa"
)

#: Noise, as in a compressed file or a program after its first bytes. It is the same in every run.
NOISE = Random(1).randbytes(9000)  # noqa: S311 - not a secret

NO_VOLUMES = {
    "nothing": b"",
    "one byte": b"\0",
    "one sector of zeros": bytes(512),
    "zeros": bytes(FRONT),
    "ones": b"\xff" * FRONT,
    "text": TEXT * 2000,
    "a PDF": PDF.ljust(FRONT, b"\n"),
    "a tar": packed("tar"),
    "a zip": packed("zip"),
    "a gzip": gzip.compress(NOISE),
    "an ELF": b"\x7fELF\2\1\1" + NOISE,
    "a PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + NOISE,
    "a JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF\0" + NOISE,
    "GRUB's boot sector": GRUB.ljust(FRONT, b"\0"),
    "Windows' boot sector": WINDOWS_MBR.ljust(FRONT, b"\0"),
    "a boot sector's mark alone": (bytes(510) + b"\x55\xaa").ljust(FRONT, b"\0"),
    "what was swap, its header gone": (bytes(4086) + b"SWAPSPACE2").ljust(FRONT, b"\0"),
    "what was swap, of another version": (
        bytes(1024) + b"\2\0\0\0\xff\xff\0\0" + bytes(3054) + b"SWAPSPACE2"
    ).ljust(FRONT, b"\0"),
    "the boot sector of HPFS without the rest": hpfs(64 * MIB).read(0, 512).ljust(FRONT, b"\0"),
    "HFS+ of a version that there is not": hfsplus(64 * MIB, b"H+", 6).read(0, FRONT),
    "a label of LVM2 in another sector": (bytes(2048) + b"LABELONE" + bytes(500)).ljust(FRONT, b"\0"),
}  # fmt: skip


@pytest.mark.parametrize("known", NO_VOLUMES.values(), ids=NO_VOLUMES)
def test_it_is_no_volume(known: bytes) -> None:
    for size in (None, len(known), LARGE):
        assert names(BytesView(known, size)) == ()


@pytest.mark.slow
@pytest.mark.parametrize("size", [FRONT, 50 * MIB, LARGE])
def test_random_bytes_are_no_volume(size: int) -> None:
    random = Random(size)  # noqa: S311 - the same bytes in every run
    assert {names(BytesView(random.randbytes(FRONT), size)) for _ in range(700)} == {()}


@given(known=st.binary(max_size=9000))
def test_nothing_has_a_name_without_its_magic_number(known: bytes) -> None:
    marked = {
        signature.name
        for signature in SIGNATURES
        for place in signature.places
        if place.magic and known.startswith(place.magic, place.offset + place.at)
    }
    assert set(names(BytesView(known.ljust(FRONT, b"\0"), LARGE))) <= marked


SHORT_MARKS = [
    (signature.name, place)
    for signature in SIGNATURES
    for place in signature.places
    if 0 < len(place.magic) < 4
]


@pytest.mark.parametrize(
    ("name", "place"), SHORT_MARKS, ids=[f"{name} {place.magic!r}" for name, place in SHORT_MARKS]
)
def test_a_short_magic_number_alone_is_no_volume(name: str, place: Place) -> None:
    random = Random(name)  # noqa: S311 - the same bytes in every run
    at = place.offset + place.at
    for filler in (bytes(FRONT), b"\xff" * FRONT, TEXT * 3000, *(random.randbytes(FRONT) for _ in range(20))):
        known = filler[:at] + place.magic + filler[at + len(place.magic) :]
        assert names(BytesView(known, LARGE)) == ()


@pytest.mark.parametrize("image_format", NAMES)
def test_images_are_not_taken_for_volumes_but_luks(image_format: str) -> None:
    expected = VOLUMES_THEMSELVES.get(image_format, ())
    for image in whole(image_format):
        assert names(ImageView(image)) == expected


def test_what_a_guest_wrote_is_no_volume() -> None:
    assert names(ImageView(guest_disk(8 * MIB, block_size=MIB, allocated=3))) == ()


def test_no_built_volume_is_taken_for_another_one() -> None:
    for name, kind, image in built():
        assert names(ImageView(image)) == (kind,), name
