"""The parts of polyglots: every format, with free fields that can contain another format's bytes."""

import bz2
import gzip
import lzma
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from backports import zstd

from keyhole.builders import (
    Image,
    gpt_disk,
    iso,
    mbr_disk,
    qcow2,
    udf,
)
from keyhole.builders.tar import tar_header
from tests.examples import EXAMPLES
from tests.inspectors.partitions.labels import bsd_disk
from tests.inspectors.volumes.built import lvm2
from tests.inspectors.volumes.made import MADE, Made, make
from tests.readers.part import Part, runs
from tests.tools import environment

KIB, MIB, GIB = 1024, 1024**2, 1024**3
#: A file that exists, so that readers that open an image's references succeed.
OUTSIDE = "outside"
#: The offset of a container's hidden disk. It is after everything that other parts have at their fronts.
FAR = 256 * KIB
#: The content of containers: a second disk.
DISK = qcow2(2 * MIB, allocated=1).to_bytes()
DESCRIPTOR = (
    "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
    f'createType="monolithicFlat"\nRW 8 FLAT "{OUTSIDE}" 0\n'
).encode()
#: Offsets at which a VMDK's text can begin: in free bytes after the first fields of a header.
TEXT_AT = (0, 3, 10, 100, 300, 512)
#: The volumes of `tests/inspectors/volumes/made.py` that are used as parts.
VOLUMES = {
    "ext4",
    "xfs",
    "btrfs",
    "f2fs",
    "ntfs",
    "exfat",
    "FAT12",
    "FAT32",
    "squashfs",
    "swap, pages of 4096 bytes",
}

#: Partition tables that Keyhole's builders do not make.
TABLES = tuple(
    Made(f"{table} table", table, 4 * MIB, f"parted -s {{image}} mklabel {label} mkpart {name} 2MiB 3MiB")
    for table, label, name in (("mac", "mac", "p"), ("sun", "sun", ""), ("sgi", "dvh", "primary"))
)


def disks() -> Iterator[Part]:
    """Parts for the disk formats."""
    yield from (_part(name, GIB) for name in ("qcow2", "qed", "vdi", "vmdk sparse", "vmdk stream"))
    yield from (_part(name, GIB) for name in ("cowd", "sesparse", "vhdx", "parallels", "bochs"))
    yield from (_part(name, GIB) for name in ("sparseimage", "asif"))
    yield _part("qcow", 64 * MIB)
    yield _part("vhd fixed", 4 * MIB, footer=512, moves=True)
    yield _part("vhd dynamic", GIB, footer=512)
    yield from (_part(name, MIB) for name in ("cloop", "luks1", "luks2", "ewf"))
    yield _part("dmg", 4 * MIB, footer=512)
    for at in TEXT_AT:
        yield Part(f"vmdk text at {at}", at + len(DESCRIPTOR), ((at, DESCRIPTOR),), soft=((0, b"#" * at),))


def _part(name: str, size: int, *, footer: int = 0, moves: bool = False) -> Part:
    """Return an example image as a part."""
    return Part.of(name, EXAMPLES[name].build(size, 1 if name == "dmg" else 2), footer=footer, moves=moves)


def raws() -> Iterator[Part]:
    """Parts for partition tables and discs, which leave most of the object free."""
    yield Part.of("mbr", mbr_disk(4 * MIB))
    yield Part.of("gpt", gpt_disk(4 * MIB), footer=33 * 512)
    yield Part.of("bsd", bsd_disk(4 * MIB))
    yield Part.of("iso", iso())
    yield Part.of("udf", udf())
    yield Part.of("lvm2", lvm2(4 * MIB))


def volumes(folder: Path) -> Iterator[Part]:
    """Parts for volumes, which the tools of their operating systems make in a folder."""
    tree, key = folder / "tree", folder / "key"
    tree.mkdir(exist_ok=True)
    (tree / "file").write_bytes(b"text" * 999)
    key.write_bytes(b"key")
    for number, made in enumerate([*(made for made in MADE if made.name in VOLUMES), *TABLES]):
        tool = made.command.split()[0]
        if shutil.which(tool, path=environment()["PATH"]) is None and not os.environ.get("CI"):
            continue
        path = folder / f"{number}.img"
        make(made, path, tree, key)
        yield Part.of(made.name, sparse_image(path))


def sparse_image(path: Path) -> Image:
    """Return a file as an image. Its holes are not read."""
    pieces: list[tuple[int, bytes]] = []
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at < size:
            data = file.read(64 * KIB)
            pieces += runs(at, data) if data.count(0) != len(data) else []
            at += len(data)
    return Image.of(size, pieces)


def archives() -> Iterator[Part]:
    """Parts for archives of one disk, with fields that are free for the other part."""
    yield _tar()
    yield _tar_with_room()
    yield Part.of("cpio", _plain(_cpio(b"disk.img", DISK) + _cpio(b"TRAILER!!!", b"")))
    name = b"n" * 600
    newc = _cpio(name, DISK) + _cpio(b"TRAILER!!!", b"")
    yield Part(
        "cpio with a long name", len(newc) + 512, ((0, newc[:110]), (711, newc[711:])), soft=((110, name),)
    )
    packed = _zip()
    yield Part("zip", len(packed), ((0, packed),), moves=True)
    yield Part.of("zip behind room", _plain(bytes(FAR) + packed), moves=False)
    yield _seven_zip()


def streams() -> Iterator[Part]:
    """Parts for a compressed disk, alone and after data that decoders skip."""
    zst = zstd.compress(DISK)
    yield Part.of("zstd", _plain(zst), moves=True)
    for magic, kind in ((0x184D2A50, "zstd"), (0x184D2A5F, "zstd, the last mark")):
        frame = struct.pack("<II", magic, FAR - 8)
        yield Part(f"{kind} behind a skippable frame", FAR + len(zst), ((0, frame), (FAR, zst)))
    small = struct.pack("<II", 0x184D2A50, 3) + b"abc"
    far = struct.pack("<II", 0x184D2A51, FAR - 19)
    yield Part("zstd behind two frames", FAR + len(zst), ((0, small + far), (FAR, zst)))
    lz4 = _lz4(DISK)
    yield Part.of("lz4", _plain(lz4))
    yield Part(
        "lz4 behind a skippable frame",
        FAR + len(lz4),
        ((0, struct.pack("<II", 0x184D2A50, FAR - 8)), (FAR, lz4)),
    )
    packed = gzip.compress(DISK, mtime=0x61616161)
    yield Part.of("gzip", _plain(packed))
    room = 0xF000
    front = packed[:3] + b"\4" + packed[4:10] + struct.pack("<H", room)
    yield Part("gzip with an extra field", 12 + room + len(packed), ((0, front), (12 + room, packed[10:])))
    named = packed[:3] + b"\x08" + packed[4:8] + b"\2\3"
    yield Part(
        "gzip with a name",
        1024 + len(packed),
        ((0, named), (1023, b"\0" + packed[10:])),
        soft=((10, b"\n" * 1013),),
    )
    yield Part.of("xz", _plain(lzma.compress(DISK)))
    yield Part.of("lzma", _plain(lzma.compress(DISK, lzma.FORMAT_ALONE)))
    yield Part.of("bzip2", _plain(bz2.compress(DISK)))


def _plain(data: bytes) -> Image:
    return Image.of(len(data), [(0, data)])


def _tar() -> Part:
    header = tar_header(b"", len(DISK))
    front = ((124, header[124:136]), (156, header[156:157]), (257, header[257:265]), (512, DISK))
    return Part(
        "tar",
        -(-len(DISK) // 512) * 512 + 512 + 10240,
        front,
        soft=((0, b"disk.img"), (100, header[100:124]), (136, header[136:156])),
        seal=_summed,
    )


def _tar_with_room() -> Part:
    """A tar archive whose first member contains the rest of the other part, followed by a disk."""
    header = tar_header(b"", FAR - 512)
    front = ((124, header[124:136]), (156, header[156:157]), (257, header[257:265]))
    disk = tar_header(b"disk.img", len(DISK)) + DISK
    return Part(
        "tar with a file in front",
        FAR + -(-len(disk) // 512) * 512 + 10240,
        (*front, (FAR, disk)),
        soft=((0, b"first"), (100, header[100:124]), (136, header[136:156])),
        seal=_summed,
    )


def _summed(image: Image) -> Image:
    header = bytearray(image.read(0, 512))
    header[148:156] = b" " * 8
    return image.patched(148, b"%06o\0 " % sum(header))


def _cpio(name: bytes, data: bytes) -> bytes:
    fields = (1, 0o100644, 0, 0, 1, 1, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name + b"\0"
    return b"".join(part + bytes(-len(part) % 4) for part in (head, data))


def _zip() -> bytes:
    packed = BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        archive.writestr("disk.img", DISK)
    return packed.getvalue()


def _lz4(data: bytes) -> bytes:
    """An LZ4 frame of stored 64 KiB blocks without checksums. The header's checksum is xxHash-32."""
    blocks = [data[at : at + 64 * KIB] for at in range(0, len(data), 64 * KIB)]
    body = b"".join(struct.pack("<I", 0x80000000 | len(block)) + block for block in blocks)
    return b"\x04\x22\x4d\x18\x60\x40\x82" + body + bytes(4)


def _seven_zip() -> Part:
    """A 7z archive of one stored file, far after the start header (7-Zip's 7zFormat.txt)."""

    def number(value: int) -> bytes:
        return bytes([value]) if value < 0x80 else b"\xff" + struct.pack("<Q", value)

    length = number(len(DISK))
    packed = b"\x06" + number(FAR - 32) + b"\x01\x09" + length + b"\0"
    folder = b"\x07\x0b\x01\0\x01\x01\0\x0c" + length
    folder += b"\x0a\x01" + struct.pack("<I", zlib.crc32(DISK)) + b"\0"
    name = b"\0" + "disk.img\0".encode("utf-16-le")
    files = b"\x05\x01\x11" + number(len(name)) + name + b"\0"
    header = b"\x01\x04" + packed + folder + b"\0" + files + b"\0"
    start = struct.pack("<QQI", FAR + len(DISK) - 32, len(header), zlib.crc32(header))
    front = b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<I", zlib.crc32(start)) + start
    return Part("7z with room", FAR + len(DISK) + len(header), ((0, front), (FAR, DISK + header)))


def every(folder: Path) -> list[Part]:
    """Return all parts. Volumes are made in a folder, if their tools are installed."""
    return [*disks(), *raws(), *archives(), *streams(), *volumes(folder)]
