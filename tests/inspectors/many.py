"""Objects with many parts of one kind, to measure how the inspection's work grows with their number."""

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable, Iterable
from io import BytesIO
from zipfile import ZipFile

from backports import zstd

from keyhole.builders import (
    Image,
    OVADisk,
    mbr_disk,
    ova,
    ovf,
    qcow2,
    tar,
    vmdk_flat_descriptor,
    vmdk_stream_optimized,
)
from keyhole.builders.tar import SYMLINK, tar_header

MIB, GIB = 1024**2, 1024**3
DISK = mbr_disk(MIB, [(0x83, 1, 2047)])
SMALL = Image.of(3, [(0, b"abc")])


def _plain(data: bytes) -> Image:
    return Image.of(len(data), [(0, data)])


def _links(number: int, link: Callable[[int], str]) -> Image:
    """A tar archive of a disk and links."""
    headers = b"".join(
        tar_header(b"l%d" % one, kind=SYMLINK, link=link(one).encode()) for one in range(number)
    )
    return _plain(headers + tar([("disk.raw", DISK)]).to_bytes())


def _zip(names: Iterable[str], content: bytes = b"abc") -> Image:
    """A ZIP archive of a disk and small files."""
    packed = BytesIO()
    with ZipFile(packed, "w") as archive:
        for name in names:
            archive.writestr(name, content)
        archive.writestr("disk.raw", DISK.to_bytes())
    return _plain(packed.getvalue())


def _machine(files: str = "", disks: str = "") -> Image:
    disk = OVADisk("disk.vmdk", vmdk_stream_optimized(GIB, allocated=3), GIB)
    text = ovf([disk]).replace("</References>", f"{files}</References>")
    return ova([disk], descriptor=text.replace("</DiskSection>", f"{disks}</DiskSection>"))


def _text(lines: str) -> Image:
    return vmdk_flat_descriptor(f'# Disk DescriptorFile\nversion=1\ncreateType="vmfs"\n{lines}')


#: Builders of objects with a given number of parts, by the name of the parts.
MANY: dict[str, Callable[[int], Image]] = {
    "small files": lambda n: tar([*((f"f{one}", SMALL) for one in range(n)), ("disk.raw", DISK)]),
    "files that are alike but for their case": lambda n: tar(
        [*((f"{'A' * (one % 50)}a{one}", SMALL) for one in range(n)), ("disk.raw", DISK)]
    ),
    "disks": lambda n: tar([(f"d{one}", qcow2(MIB)) for one in range(n // 10)]),
    "links to one file": lambda n: _links(n, lambda _one: "disk.raw"),
    "links in a chain": lambda n: _links(n, lambda one: f"l{one + 1}"),
    "links in a circle": lambda n: _links(n, lambda one: f"l{(one + 1) % n}"),
    "links through links": lambda n: _links(n, lambda one: f"l{one + 1}/l{one + 2}"),
    "links through deep folders": lambda n: _links(n, lambda one: "d/" * 40 + f"../l{one}"),
    "files in deep folders": lambda n: tar(
        [*((f"{'d/' * 40}{one}", SMALL) for one in range(n)), ("disk.raw", DISK)]
    ),
    "files in a ZIP": lambda n: _zip(f"f{one}" for one in range(n)),
    "files in deep folders of a ZIP": lambda n: _zip("d/" * 40 + f"{one}" for one in range(n)),
    "end records behind a ZIP": lambda n: _plain(
        _zip(["a"]).to_bytes() + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0) * n
    ),
    "end records before a ZIP": lambda n: _plain(
        struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0) * n + _zip(["a"]).to_bytes()
    ),
    "files of an OVF": lambda n: _machine(
        files="".join(f'<File ovf:id="x{one}" ovf:href="x{one}"/>' for one in range(n))
    ),
    "disks of an OVF": lambda n: _machine(
        disks="".join(f'<Disk ovf:diskId="x{one}" ovf:fileRef="file1" ovf:capacity="1"/>' for one in range(n))
    ),
    "extents": lambda n: _text("".join(f'RW 9 FLAT "f{one}" 0\n' for one in range(n))),
    "comments": lambda n: _text("# a comment\n" * n),
    "keys": lambda n: _text("".join(f'ddb.{one} = "1"\n' for one in range(n))),
    "empty lines in front of a text": lambda n: _plain(b"\n" * n + _text("").to_bytes()),
    "empty gzip members": lambda n: _plain(gzip.compress(b"") * n + gzip.compress(DISK.to_bytes())),
    "empty bzip2 streams": lambda n: _plain(bz2.compress(b"") * n + bz2.compress(DISK.to_bytes())),
    "empty xz streams": lambda n: _plain(lzma.compress(b"") * n + lzma.compress(DISK.to_bytes())),
    "empty zstd frames": lambda n: _plain(zstd.compress(b"") * n + zstd.compress(DISK.to_bytes())),
    "skippable zstd frames": lambda n: _plain(
        struct.pack("<II", 0x184D2A50, 0) * n + zstd.compress(DISK.to_bytes())
    ),
    "skippable lz4 frames": lambda n: _plain(
        struct.pack("<II", 0x184D2A51, 4) * n + b"\x04\x22\x4d\x18\x60\x40\x82" + bytes(4)
    ),
}
