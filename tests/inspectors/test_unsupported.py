"""Formats that Keyhole does not inspect: files of real tools are reported, chance marks are not."""

import io
import random
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import (
    Image,
    dmg,
    gpt_disk,
    iso,
    mbr_disk,
    qcow2,
    tar,
    vdi,
    vhd_dynamic,
    vhd_fixed,
    vhdx,
    vmdk_sparse,
    vmdk_stream_optimized,
)
from keyhole.inspectors import unsupported
from keyhole.inspectors.unsupported import MAX_HOPS, UnsupportedFormats, named_by
from tests.inspectors.compression.packed import PACKED, noise, skippable
from tests.inspectors.inspecting import checks_of, facts_of
from tests.inspectors.laws import keeps_the_law
from tests.tools import environment, need

KIB, MIB = 1024, 1024**2
QCOW2 = qcow2(MIB, backing_file="/etc/passwd").to_bytes()

#: Files packed by the tool that made the format.
PACKERS = {
    "cpio": "echo disk | cpio -o -H newc --quiet > packed",
    "cpio, crc": "echo disk | cpio -o -H crc --quiet > packed",
    "cpio, odc": "echo disk | cpio -o -H odc --quiet > packed",
    "cpio, bin": "echo disk | cpio -o -H bin --quiet > packed",
    "ar": "bsdtar -cf packed --format=ar disk",
    "xar": "bsdtar -cf packed --format=xar disk",
    "warc": "bsdtar -cf packed --format=warc disk",
    "mtree": "bsdtar -cf packed --format=mtree disk",
    "7z": "7zz a -bd -y packed.7z disk > /dev/null && mv packed.7z packed",
    "7z by bsdtar": "bsdtar -cf packed --format=7zip disk",
    "wim": "7zz a -bd -y packed.wim disk > /dev/null && mv packed.wim packed",
    "lzop": "lzop -o packed disk",
    "lzip": "bsdtar -cf packed --lzip disk",
    "compress": "bsdtar -cf packed --compress disk",
    "uuencode": "bsdtar -cf packed --uuencode disk",
    "base64": "bsdtar -cf packed --b64encode disk",
    "lrzip": "lrzip -q -o packed disk",
}


def packed(name: str, folder: Path) -> bytes:
    """A qcow2, packed by a tool."""
    words = PACKERS[name].split()
    need(words[3] if words[0] == "echo" else words[0])
    (folder / "disk").write_bytes(QCOW2)
    subprocess.run(PACKERS[name], shell=True, check=True, cwd=folder, env=environment())  # noqa: S602 - the commands are the test's own
    return (folder / "packed").read_bytes()


def disk_behind(front: bytes) -> Image:
    """An MBR disk whose boot code is the beginning of another format."""
    return mbr_disk(4 * MIB).patched(0, front[:440])


@pytest.mark.parametrize("name", PACKERS)
def test_what_a_tool_packs_is_known_by_its_front(tmp_path: Path, name: str) -> None:
    front = packed(name, tmp_path)[:512]
    assert named_by(front) == {"base64": "uuencode", "7z by bsdtar": "7z"}.get(name, name.partition(",")[0])
    assert "ambiguous_format" in checks_of(disk_behind(front))
    assert "ambiguous_format" in checks_of(iso().patched(0, front))
    assert "ambiguous_format" in checks_of(vhd_fixed(4 * MIB).patched(0, front))


MADE = {
    "rar": b"Rar!\x1a\x07\0\xcf\x90\x73\0\0\x0d",
    "rar 5": b"Rar!\x1a\x07\1\0\x33\x92\xb5\xe5",
    "cab": b"MSCF\0\0\0\0" + bytes(28),
    "rpm": b"\xed\xab\xee\xdb\3\0",
    "lha": b"\x24\x2d-lh5-" + bytes(20),
    "arj": b"\x60\xea\x2a\0\x22\x0b\1\2\x10\0\2" + bytes(30),
    "pack": b"\x1f\x1e\0\0\1\0\5\0",
    "encrypted dmg": b"encrcdsa\0\0\0\2",
    "viso": b"--iprt-iso-maker-file-marker-bourne-sh 0b4d1c3a-0000-4000-8000-000000000000\n/=/etc\n",
    "viso behind blanks": b" \r\n\t--iprt-iso-maker-file-marker-bourne-sh",
    "android sparse image": b"\x3a\xff\x26\xed\1\0\0\0\x1c\0\x0c\0",
    "cloop by its numbers": bytes(128) + struct.pack(">IIQQQ", 65536, 2, 152, 1000, 2000),
    "cloop of blocks longer than they become": bytes(128) + struct.pack(">IIQQ", 512, 1, 152, 1 << 26),
    "cloop that begins with an empty block": bytes(128) + struct.pack(">IIQQQ", 512, 2, 160, 160, 900),
    "zip, spanned": b"PK\7\x08PK\3\4",
    "a frame to be skipped that leads nowhere": skippable(bytes(2 * MIB))[:8],
    "a frame to be skipped that leads beyond the end": skippable(bytes(8 * MIB))[:8],
    "thin ar": b"!<thin>\n",
    "qcow2 to come": b"QFI\xfb\0\0\0\4",
}


@pytest.mark.parametrize("front", MADE.values(), ids=MADE)
def test_other_marks_count_in_front_of_a_disk(front: bytes) -> None:
    assert "ambiguous_format" in checks_of(mbr_disk(4 * MIB).patched(0, front))


NEARLY = {
    "compress of 8 bits": b"\x1f\x9d\x88",
    "lzip of version 2": b"LZIP\2\x0c",
    "xar of a short header": b"xar!\0\4\0\1",
    "cpio without a name": b"\xc7\x71" + bytes(24),
    "cpio with a name that goes on": b"\xc7\x71" + bytes(18) + b"\4\0" + bytes(4) + b"name",
    "cpio that is no hexadecimal": b"070701" + b"boot code" * 12,
    "arj that is too long": b"\x60\xea\xff\xff\x22\x0b\1\2\x10\0\2",
    "cloop of no blocks": bytes(128) + struct.pack(">IIQQ", 65536, 0, 152, 1000),
    "cloop of blocks that are no sectors": bytes(128) + struct.pack(">IIQQ", 65537, 2, 152, 1000),
    "cloop whose blocks are empty": bytes(128) + struct.pack(">IIQQQ", 65536, 2, 152, 152, 152),
    "cloop of more offsets than QEMU reads": bytes(128) + struct.pack(">IIQQ", 65536, 1 << 26, 152, 1000),
    "cloop whose offsets go back": bytes(128) + struct.pack(">IIQQQ", 65536, 2, 152, 1000, 999),
    "words": b"to begin 644 x",
}


@pytest.mark.parametrize("front", NEARLY.values(), ids=NEARLY)
def test_what_no_reader_would_unpack_does_not_count(front: bytes) -> None:
    assert checks_of(mbr_disk(4 * MIB).patched(0, front)) == []


# Skippable frames


def behind_frames(*lengths: int, last: bytes) -> Image:
    """A disk that is a chain of skippable frames, with other data after the last one."""
    disk, at = mbr_disk(16 * MIB), 0
    partition = disk.read(446, 66)
    for length in lengths:
        disk = disk.patched(at, struct.pack("<II", 0x184D2A5F, length))
        at += 8 + length
    return disk.patched(at, last).patched(446, partition)


ZSTD = PACKED["zstd"](QCOW2)


@pytest.mark.parametrize(
    "lengths",
    [(600,), (5 * MIB,), (15 * MIB,), (600, 70_000, 2 * MIB), (0,) * (MAX_HOPS - 1), (0,) * 30],
    ids=str,
)
def test_a_stream_behind_frames_that_are_skipped_is_found(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    image = behind_frames(*lengths, last=ZSTD)
    assert "ambiguous_format" in checks_of(image)
    need("zstd")
    unpacked = subprocess.run(
        ["zstd", "-dcf", image.write_to(tmp_path / "image")],
        env=environment(),
        capture_output=True,
        check=False,
    ).stdout
    assert unpacked.startswith(b"QFI\xfb")


def test_so_is_one_of_lz4_and_one_that_ends_with_the_object() -> None:
    assert "ambiguous_format" in checks_of(behind_frames(3 * MIB, last=unsupported.LZ4_MAGIC))
    assert "ambiguous_format" in checks_of(behind_frames(16 * MIB - 8, last=b""))


@given(st.data())
def test_marks_are_the_same_however_the_bytes_came(data: st.DataObject) -> None:
    images = [
        behind_frames(600, 70_000, 2 * MIB, last=ZSTD),
        disk_behind(MADE["viso"]),
        qcow2(MIB).appended(zipped()),
        behind_frames(*(0,) * 9, last=b""),
    ]
    keeps_the_law(UnsupportedFormats, images, data)


# A ZIP at the end


def zipped(comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("disk.qcow2", QCOW2)
        archive.comment = comment
    return out.getvalue()


IMAGES: dict[str, Callable[[], Image]] = {
    "mbr": lambda: mbr_disk(4 * MIB),
    "gpt": lambda: gpt_disk(4 * MIB),
    "iso": iso,
    "qcow2": lambda: qcow2(16 * MIB, allocated=3),
    "vdi": lambda: vdi(16 * MIB, allocated=3),
    "vhdx": lambda: vhdx(16 * MIB, allocated=1),
    "vmdk": lambda: vmdk_sparse(16 * MIB, allocated=3),
    "vmdk, stream": lambda: vmdk_stream_optimized(16 * MIB, allocated=3),
    "vhd, fixed": lambda: vhd_fixed(4 * MIB, content=mbr_disk(4 * MIB)),
    "vhd": lambda: vhd_dynamic(16 * MIB, allocated=3),
    "tar": lambda: tar([("a.vdi", vdi(16 * MIB, allocated=3))]),
    "gzip": lambda: Image.of(len(GZIP), [(0, GZIP)]),
}
GZIP = PACKED["gzip"](mbr_disk(4 * MIB).patched(512, noise(1, MIB)).to_bytes())


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("comment", [b"", b"c" * 0xFFFF], ids=["bare", "with a comment"])
def test_a_zip_behind_an_image_is_another_format(name: str, comment: bytes) -> None:
    """unzip and Python search from the end, and ignore the bytes before the archive."""
    assert not checks_of(IMAGES[name]())
    image = IMAGES[name]().appended(zipped(comment))
    assert zipfile.is_zipfile(io.BytesIO(image.to_bytes()))
    assert "ambiguous_format" in checks_of(image)


@pytest.mark.parametrize("name", ["mbr", "gpt", "iso", "vhdx", "vhd, fixed"])
def test_the_comment_may_end_with_the_images_own_trailer(name: str) -> None:
    """The ends of both formats are then at the right offsets."""
    image = IMAGES[name]()
    end = zipped()[:-2] + struct.pack("<H", 40 * KIB)
    assert "ambiguous_format" in checks_of(image.patched(image.size - 40 * KIB - len(end), end))


def test_an_encrypted_dmg_of_the_first_version_is_known_by_its_end() -> None:
    assert "ambiguous_format" in checks_of(mbr_disk(4 * MIB).appended(b"cdsaencr"))


# What is in order


def test_boot_code_and_noise_are_no_marks() -> None:
    """The author of a disk can choose any boot code."""
    choose = random.Random(1)  # noqa: S311 - the same in every run
    assert not any(named_by(choose.randbytes(512)) for _ in range(20_000))


@pytest.mark.parametrize("name", IMAGES)
def test_images_bear_no_marks_of_others(name: str) -> None:
    assert facts_of(IMAGES[name]()).findings == ()


def test_a_dmg_bears_none_either() -> None:
    assert checks_of(dmg(4 * MIB, allocated=1)) == []
