"""Example images of every format and variant, in one table for all tests and benchmarks.

A row builds images of disks of different sizes. The first disk is small, for tests that read the whole image
or change it many times. The others have longer tables, to test what is read whole and what is sampled.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from struct import pack
from typing import Final
from uuid import UUID

from keyhole.builders import (
    Image,
    OVADisk,
    asif,
    bochs,
    cloop,
    cowd,
    dmg,
    ewf,
    ewf2,
    gpt_disk,
    iso,
    luks,
    luks2,
    mbr_disk,
    ova,
    ovf,
    parallels,
    qcow1,
    qcow2,
    qed,
    sesparse,
    sparseimage,
    tar,
    udf,
    vdi,
    vhd_dynamic,
    vhd_fixed,
    vhdx,
    vmdk_flat_descriptor,
    vmdk_sparse,
    vmdk_stream_optimized,
    zip_archive,
)
from keyhole.builders.ewf import NEXT
from keyhole.builders.guest import Allocated
from keyhole.inspectors import FileInspector
from keyhole.inspectors.archives.ova import OVAInspector
from keyhole.inspectors.archives.vma import VMAInspector
from keyhole.inspectors.archives.zip.inspector import ZipInspector
from keyhole.inspectors.formats.asif import ASIFInspector
from keyhole.inspectors.formats.bochs import BochsInspector
from keyhole.inspectors.formats.cloop import CloopInspector
from keyhole.inspectors.formats.dmg import DMGInspector
from keyhole.inspectors.formats.ewf import EWFInspector
from keyhole.inspectors.formats.iso import ISOInspector
from keyhole.inspectors.formats.luks.inspector import LUKSInspector
from keyhole.inspectors.formats.parallels import ParallelsInspector
from keyhole.inspectors.formats.qcow1 import QcowV1Inspector
from keyhole.inspectors.formats.qcow2.inspector import QcowInspector
from keyhole.inspectors.formats.qed import QEDInspector
from keyhole.inspectors.formats.sparseimage import SparseImageInspector
from keyhole.inspectors.formats.vdi import VDIInspector
from keyhole.inspectors.formats.vhd import VHDInspector
from keyhole.inspectors.formats.vhdx.inspector import VHDXInspector
from keyhole.inspectors.formats.vmdk.cowd import COWDInspector
from keyhole.inspectors.formats.vmdk.sesparse import SESparseInspector
from keyhole.inspectors.formats.vmdk.sparse import VMDKInspector
from keyhole.inspectors.formats.vmdk.text import VMDKTextInspector
from tests.inspectors.archives.backups import vma, xva
from tests.inspectors.archives.zips import DEFLATED, LINK, Part, deflated, descriptor, zipped
from tests.inspectors.compression.packed import KINDS, PACKED, lz4_frame, zstd_frame

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4
#: Offset of a VHDX's flags, which follow the block size in the first metadata item. In a fixed image, the
#: flag LeaveBlocksAllocated is set.
VHDX_FLAGS = 2 * MIB + 64 * 1024 + 4
#: A small image has at most this many bytes, and at most this many bytes in its stored pieces.
MOST_BYTES, MOST_STORED = 20 * MIB, 3 * MIB
PARENT = UUID(int=5)
DISC_BLOCK = 2048
#: The number of bands in the first node of a sparse image, and in each further node.
FIRST_BANDS, OTHER_BANDS = 1008, 1010

Build = Callable[[int, Allocated], Image]
#: The size of a disk in bytes, and the blocks that are stored: how many, or the numbers of the blocks.
Disk = tuple[int, Allocated]


@dataclass(frozen=True)
class Example:
    """A variant of a format: one row of the table.

    Args:
        name: Identifies the row.
        inspector: The inspector that recognises the images, as listed in the catalogue.
        build: Builds the image of a disk. If the format has no disk of its own, it ignores its arguments.
        disks: The disks. The first one makes a small image.
        outside: Whether the images refer to other files.
        odd: Whether a check reports something else that is unusual in the images.
    """

    name: str
    inspector: type[FileInspector]
    build: Build
    disks: tuple[Disk, ...] = ((7 * MIB, 3),)
    outside: bool = False
    odd: bool = False

    @property
    def image(self) -> Image:
        """The image of the first disk."""
        return self.images[0]

    @property
    def images(self) -> tuple[Image, ...]:
        """An image of each disk, built once."""
        return _built(self)


@cache
def _built(example: Example) -> tuple[Image, ...]:
    return tuple(example.build(size, allocated) for size, allocated in example.disks)


def _builder(build: Callable[..., Image], **options: object) -> Build:
    """Return a builder of images that is told which blocks to store."""
    return lambda size, allocated: build(size, allocated=allocated, **options)


def _as_large(build: Callable[[int], Image]) -> Build:
    """Return a builder of images that always store the same blocks."""
    return lambda size, _allocated: build(size)


def _always(build: Callable[[], Image]) -> Build:
    """Return a builder of images whose disk is fixed."""
    return lambda _size, _allocated: build()


def _plain(data: bytes) -> Image:
    return Image.of(len(data), [(0, data)])


def _fixed_vhdx(size: int, allocated: Allocated) -> Image:
    return vhdx(size, block_size=MIB, allocated=allocated).patched(VHDX_FLAGS, pack("<I", 1))


def _text(create_type: str, *lines: str, behind: bytes = b"") -> Build:
    """Return a builder of VMDK descriptors. It replaces `SIZE` with the disk's size in sectors."""

    def build(size: int, _allocated: Allocated) -> Image:
        sized = (line.replace("SIZE", str(size // 512)) for line in lines)
        text = "\n".join(["version=1", f'createType="{create_type}"', *sized, ""])
        return vmdk_flat_descriptor(text).appended(behind)

    return build


def _hybrid(disc: Image, disk: Image) -> Image:
    """A disc with a disk's partition table in the system area, which ISO 9660 leaves unused."""
    for at, data in disk.pieces:
        disc = disc.patched(at, data)
    return disc


def _machine(**changes: str) -> Image:
    """An OVA with one disk. In its OVF descriptor, the given texts are replaced."""
    disk = OVADisk("disk.vmdk", vmdk_stream_optimized(GIB, allocated=3), GIB)
    text = ovf([disk])
    for before, after in changes.items():
        text = text.replace(before, after)
    return ova([disk], descriptor=text)


def _in_chunks() -> Image:
    """An OVA with a disk in chunks, in a folder, packed as macOS's tar does it."""
    disk = vmdk_stream_optimized(GIB, allocated=3).to_bytes()
    text = ovf([OVADisk("disk.vmdk", _plain(disk), GIB)]).replace("<File ", '<File ovf:chunkSize="40000" ')
    parts = [disk[at : at + 40000] for at in range(0, len(disk), 40000)]
    return tar(
        [
            ("vm/._a.ovf", _plain(bytes.fromhex("0005160700020000"))),
            ("vm/a.ovf", _plain(text.encode())),
            *((f"vm/disk.vmdk.{number:09}", _plain(part)) for number, part in enumerate(parts)),
        ]
    )


def _compressed_members() -> Image:
    """A ZIP archive with compressed members, as a writer to a stream makes it."""
    disk, other = mbr_disk(MIB).to_bytes(), qcow2(GIB).to_bytes()
    unknown = {"crc": 0, "packed": 0, "size": 0}
    behind = descriptor(disk, len(deflated(disk)))
    parts = [
        Part(b"a.raw", disk, DEFLATED, flags=8, local=unknown, behind=behind),
        Part(b"folder/", b""),
        Part(b"folder/link", b"../a.raw", mode=LINK),
        Part(b"folder/b.qcow2", other, 95, packed=PACKED["xz"](other)),
    ]
    return _plain(zipped(parts, comment=b"made by hand"))


def _packed(name: str, build: Callable[[], Image]) -> Build:
    return _always(lambda: _plain(PACKED[name](build().to_bytes())))


def _disks() -> Iterator[tuple[str, Image]]:
    yield "a.vdi", vdi(GIB, allocated=3)
    yield "b.qcow2", qcow2(GIB, allocated=3)


_FLAT = 'RW SIZE FLAT "disk-flat.vmdk" 0'
_RAW = (
    Example("gpt", FileInspector, _as_large(gpt_disk), ((2 * MIB, 0), (64 * MIB, 0))),
    Example(
        "gpt, 4 KiB sectors",
        FileInspector,
        _as_large(partial(gpt_disk, sector=4096)),
        ((3 * MIB, 0), (64 * MIB, 0)),
    ),
    Example("mbr", FileInspector, _as_large(partial(mbr_disk, partitions=[(0x83, 63, 100)])), ((MIB, 0),)),
)
_QCOW2 = (
    Example("qcow2", QcowInspector, _builder(qcow2), ((3 * MIB, 3), (GIB, 3))),
    Example("qcow2, version 2", QcowInspector, _builder(qcow2, version=2), ((3 * MIB, 3), (GIB, 3))),
    Example("qcow2, 512 B clusters", QcowInspector, _builder(qcow2, cluster_bits=9), ((2 * MIB, 5),)),
    Example("qcow2, 2 MiB clusters", QcowInspector, _builder(qcow2, cluster_bits=21), ((GIB, 3),)),
    Example("qcow2, extended L2", QcowInspector, _builder(qcow2, incompatible=1 << 4), ((3 * MIB, 3),)),
    Example(
        "qcow2, snapshots",
        QcowInspector,
        _builder(qcow2, cluster_bits=12, snapshots=2),
        ((3 * MIB, 5),),
        odd=True,
    ),
    Example(
        "qcow2, backing file",
        QcowInspector,
        _builder(qcow2, cluster_bits=12, snapshots=1, backing_file="/etc/shadow"),
        ((3 * MIB, 5), (GIB, 0)),
        outside=True,
    ),
    Example(
        "qcow2, data file",
        QcowInspector,
        _builder(qcow2, cluster_bits=9, data_file="disk.raw"),
        ((2 * MIB, 0),),
        outside=True,
    ),
)
_VHD = (
    Example("vhd fixed", VHDInspector, _as_large(vhd_fixed), ((MIB, 0), (64 * MIB, 0))),
    Example("vhd fixed, 511", VHDInspector, _as_large(partial(vhd_fixed, footer_size=511)), ((MIB, 0),)),
    Example(
        "vhd fixed, with a disk",
        VHDInspector,
        _as_large(lambda size: vhd_fixed(size, content=gpt_disk(size))),
        ((2 * MIB, 0),),
    ),
    Example("vhd dynamic", VHDInspector, _builder(vhd_dynamic), ((7 * MIB, 2), (GIB, 3), (TIB, 3))),
    Example(
        "vhd dynamic, 1 MiB blocks", VHDInspector, _builder(vhd_dynamic, block_size=MIB), ((7 * MIB, 2),)
    ),
    Example(
        "vhd differencing", VHDInspector, _builder(vhd_dynamic, parent_name="a"), ((GIB, 0),), outside=True
    ),
)
_VHDX = (
    Example("vhdx", VHDXInspector, _builder(vhdx), ((8 * MIB, 0), (GIB, 3), (64 * TIB, 3))),
    Example("vhdx fixed", VHDXInspector, _fixed_vhdx, ((8 * MIB, 1),)),
    Example("vhdx, 1 MiB blocks", VHDXInspector, _builder(vhdx, block_size=MIB), ((8 * MIB, 1),)),
    Example(
        "vhdx, metadata behind",
        VHDXInspector,
        _builder(vhdx, block_size=MIB, metadata_offset=6 * MIB, bat_offset=2 * MIB),
        ((8 * MIB, 0),),
    ),
    Example(
        "vhdx, parent",
        VHDXInspector,
        _builder(vhdx, block_size=MIB, parent="base.vhdx"),
        ((8 * MIB, 0),),
        outside=True,
    ),
)
_VMDK = (
    Example("vmdk sparse", VMDKInspector, _builder(vmdk_sparse), ((2 * MIB, 3), (GIB, 3), (128 * GIB, 3))),
    Example("vmdk stream", VMDKInspector, _builder(vmdk_stream_optimized), ((2 * MIB, 3), (GIB, 3))),
    Example(
        "vmdk sparse, parent",
        VMDKInspector,
        _builder(vmdk_sparse, parent_cid="12345678"),
        ((GIB, 0),),
        outside=True,
    ),
    Example(
        "cowd",
        COWDInspector,
        _builder(cowd),
        ((64 * MIB, (5000, 0, 9999)), (MIB, 0), (GIB, 3), (200 * GIB, (0, 9_000_000))),
    ),
    Example(
        "cowd, parent",
        COWDInspector,
        _builder(cowd, grain_sectors=8, parent="/vmfs/volumes/base-delta.vmdk"),
        outside=True,
    ),
    Example(
        "sesparse",
        SESparseInspector,
        _builder(sesparse),
        (
            (7 * MIB, 3),
            (MIB, 0),
            (64 * MIB, (5000, 0, 9999)),
            (GIB, (3, 8000)),
            (4 * GIB, (0, 900_000)),
        ),
    ),
    Example(
        "sesparse, journal to replay",
        SESparseInspector,
        _builder(sesparse, replay_journal=True),
        ((MIB, 1),),
        odd=True,
    ),
    Example("vmdk text, zeros", VMDKTextInspector, _text("vmfs", "RW SIZE ZERO")),
    Example("vmdk text", VMDKTextInspector, _text("vmfs", 'RW SIZE VMFS "disk-flat.vmdk"'), outside=True),
    Example(
        "vmdk text, split",
        VMDKTextInspector,
        _text("monolithicFlat", 'RW SIZE SPARSE "x-s001.vmdk"', "RW 63 ZERO", 'RW 9 FLAT "C:\\\\x" 0'),
        outside=True,
    ),
    Example(
        "vmdk text, parent",
        VMDKTextInspector,
        _text(
            "monolithicFlat",
            _FLAT,
            "parentCID=12345678",
            'parentFileNameHint="base.vmdk"',
            'changeTrackPath="x-ctk.vmdk"',
        ),
        outside=True,
    ),
    Example(
        "vmdk text, far extent",
        VMDKTextInspector,
        _text("vmfs", _FLAT, behind=b"\n" * 300_000 + b'RW 131072 FLAT "disk-flat.vmdk" 0'),
        outside=True,
    ),
)
_OTHERS = (
    Example("vdi", VDIInspector, _builder(vdi), ((3 * MIB, 2), (GIB, 3), (16 * TIB, 3))),
    Example(
        "vdi static",
        VDIInspector,
        lambda size, _: vdi(size, allocated=size // MIB, image_type=2),
        ((3 * MIB, 0), (GIB, 0)),
    ),
    Example(
        "vdi differencing",
        VDIInspector,
        _builder(vdi, image_type=4, parent_uuid=PARENT),
        ((GIB, 0),),
        outside=True,
    ),
    Example("vdi undo", VDIInspector, _builder(vdi, image_type=3), ((GIB, 0),), outside=True),
    Example(
        "qcow",
        QcowV1Inspector,
        _builder(qcow1),
        ((7 * MIB, 3), (MIB, 0), (GIB, (8000, 3, 4000)), (100 * GIB, (0, 5_000_000))),
    ),
    Example(
        "qcow, compressed",
        QcowV1Inspector,
        _builder(qcow1, compressed=True),
        ((7 * MIB, 3), (513 * MIB, (100_000, 5, 7))),
    ),
    Example(
        "qcow, backing file",
        QcowV1Inspector,
        _builder(qcow1, cluster_bits=9, l2_bits=6, backing_file="base.raw"),
        ((MIB, (200, 3)),),
        outside=True,
    ),
    Example(
        "qed",
        QEDInspector,
        _builder(qed),
        ((7 * MIB, 3), (MIB, 0), (8 * GIB, (70_000, 3, 40_000)), (33 * TIB, (0, 5_000_000))),
    ),
    Example("qed, 4 KiB clusters", QEDInspector, _builder(qed, cluster_size=4096), ((4 * MIB, 3),)),
    Example(
        "qed, backing file",
        QEDInspector,
        _builder(qed, cluster_size=4096, table_size=2, backing_file="base.raw", features=4),
        ((GIB, (5000, 3)),),
        outside=True,
    ),
    Example(
        "parallels",
        ParallelsInspector,
        _builder(parallels),
        ((7 * MIB, 3), (MIB, 0), (GIB, (900, 3, 500)), (TIB, (0, 500_000))),
    ),
    Example(
        "parallels, old",
        ParallelsInspector,
        _builder(parallels, extended=False),
        ((7 * MIB, (6, 0, 3)), (TIB, (0, 500_000))),
    ),
    Example(
        "parallels, 64 KiB clusters",
        ParallelsInspector,
        _builder(parallels, cluster_size=64 * KIB),
        ((4 * MIB, 3), (2057 * MIB, (30_000, 3))),
    ),
    Example("luks1", LUKSInspector, _as_large(luks), ((MIB, 0),)),
    Example("luks2", LUKSInspector, _as_large(luks2), ((MIB, 0),)),
    Example("luks2, fixed size", LUKSInspector, _as_large(partial(luks2, fixed_size=True)), ((MIB, 0),)),
    Example(
        "luks2, 256 KiB headers", LUKSInspector, _as_large(partial(luks2, header_size=256 * KIB)), ((MIB, 0),)
    ),
    Example(
        "luks2, 1 MiB headers",
        LUKSInspector,
        _as_large(partial(luks2, header_size=MIB)),
        ((MIB, 0),),
        odd=True,
    ),
    Example(
        "luks1, detached header",
        LUKSInspector,
        _as_large(lambda size: luks(size).patched(104, bytes(4))),
        ((MIB, 0),),
        outside=True,
    ),
    Example(
        "bochs",
        BochsInspector,
        _builder(bochs),
        ((7 * MIB, 3), (MIB, 0), (GIB, (900, 3, 500)), (TIB, 3), (512 * GIB, (0, 500_000))),
    ),
    Example("bochs, version 1", BochsInspector, _builder(bochs, version=1)),
    Example(
        "bochs, 64 KiB extents",
        BochsInspector,
        _builder(bochs, extent_size=64 * KIB),
        ((2057 * MIB, (30_000, 3)),),
    ),
    Example("bochs undoable", BochsInspector, _builder(bochs, subtype="Undoable"), outside=True),
    Example("bochs volatile", BochsInspector, _builder(bochs, subtype="Volatile"), outside=True),
    Example("cloop", CloopInspector, _builder(cloop), ((7 * MIB, 3), (0, 0), (4 * GIB, 3))),
    Example("cloop, 4 KiB blocks", CloopInspector, _builder(cloop, block_size=4096), ((2 * MIB, (300, 3)),)),
    # The table is longer than the part that the inspector stores.
    Example("cloop, 512 B blocks", CloopInspector, _builder(cloop, block_size=512), ((40_000 * 512, 0),)),
    Example(
        "sparseimage",
        SparseImageInspector,
        _builder(sparseimage),
        ((7 * MIB, (5, 0, 2)), (7 * MIB, 0), (GIB, 3), (16 * GIB, 5000)),
    ),
    Example(
        "sparseimage, 512 B bands",
        SparseImageInspector,
        _builder(sparseimage, band_size=512),
        (
            (TIB, range(7, 7 + FIRST_BANDS + OTHER_BANDS + 5)),
            (TIB, FIRST_BANDS + 3 * OTHER_BANDS),
        ),
    ),
    Example(
        "asif",
        ASIFInspector,
        _builder(asif),
        ((7 * MIB, 3), (7 * MIB, 0), (GIB, 3), (300 * GIB, (0, 129_024)), (100 * TIB, 0)),
    ),
    Example("ewf", EWFInspector, _builder(ewf), ((MIB, 3),)),
    Example("ewf, long first section", EWFInspector, _builder(ewf, first=bytes(5000)), ((MIB, 0),)),
    Example("ewf2", EWFInspector, _always(ewf2), ((0, 0),)),
    Example("ewf, next segment", EWFInspector, _builder(ewf, last="next"), ((MIB, 0),), outside=True),
    Example("ewf, second segment", EWFInspector, _builder(ewf, segment=2), ((MIB, 0),), outside=True),
    Example("ewf2, next segment", EWFInspector, _always(lambda: ewf2(last=NEXT)), ((0, 0),), outside=True),
    Example("dmg", DMGInspector, _builder(dmg), ((2 * MIB, 2), (7 * MIB, 0), (64 * MIB, (63, 0)), (GIB, 3))),
    Example(
        "dmg, bytes behind",
        DMGInspector,
        lambda size, allocated: dmg(size, allocated=allocated).appended(bytes(300)),
    ),
    Example("dmg, segments", DMGInspector, _builder(dmg, segments=2), ((GIB, 0),), outside=True),
    Example(
        "iso",
        ISOInspector,
        _as_large(lambda size: iso(size // DISC_BLOCK, joliet=True, el_torito=True, rock_ridge=True)),
        ((200 * DISC_BLOCK, 0),),
    ),
    Example("iso, plain", ISOInspector, _as_large(lambda size: iso(size // DISC_BLOCK)), ((MIB, 0),)),
    Example("udf", ISOInspector, _as_large(lambda size: udf(size // DISC_BLOCK)), ((MIB, 0),)),
    Example(
        "udf, 512 B blocks",
        ISOInspector,
        _as_large(lambda size: udf(size // 512, block_size=512)),
        ((MIB, 0),),
    ),
    Example(
        "udf, 4 KiB blocks",
        ISOInspector,
        _as_large(lambda size: udf(size // 4096, block_size=4096)),
        ((400 * 4096, 0),),
    ),
    Example(
        "iso and udf", ISOInspector, _as_large(lambda size: iso(size // DISC_BLOCK, udf=True)), ((MIB, 0),)
    ),
    Example(
        "iso and mbr",
        ISOInspector,
        _always(lambda: _hybrid(iso(), mbr_disk(iso().size, [(0x17, 64, 99)]))),
        ((0, 0),),
    ),
    Example(
        "iso and gpt", ISOInspector, _always(lambda: _hybrid(iso(4096), gpt_disk(iso(4096).size))), ((0, 0),)
    ),
    Example("vma", VMAInspector, _always(vma), ((0, 0),)),
    Example("tar", OVAInspector, _always(lambda: tar([*_disks()])), ((0, 0),)),
    Example("tar, xva", OVAInspector, _always(xva), ((0, 0),)),
    Example(
        "tar, absolute name",
        OVAInspector,
        _always(lambda: tar([("/a.vdi", vdi(GIB))])),
        ((0, 0),),
        outside=True,
    ),
    Example(
        "tar, link outside",
        OVAInspector,
        _always(lambda: tar([("a.vdi", vdi(GIB)), ("b", "/etc/shadow")])),
        ((0, 0),),
        outside=True,
    ),
    Example("ova", OVAInspector, _always(_machine), ((0, 0),)),
    Example("ova, chunks", OVAInspector, _always(_in_chunks), ((0, 0),)),
    Example(
        "ova, parent",
        OVAInspector,
        _always(lambda: _machine(fileRef='parentRef="a" ovf:fileRef')),
        ((0, 0),),
        outside=True,
    ),
    Example(
        "ova, disk outside",
        OVAInspector,
        _always(lambda: _machine(**{'href="disk': 'href="../disk'})),
        ((0, 0),),
        outside=True,
    ),
    Example("zip", ZipInspector, _always(lambda: zip_archive([*_disks()])), ((0, 0),)),
    Example("zip, compressed members", ZipInspector, _always(_compressed_members), ((0, 0),)),
    Example(
        "zip, absolute name",
        ZipInspector,
        _always(lambda: zip_archive([("/a.vdi", vdi(GIB))])),
        ((0, 0),),
        outside=True,
    ),
    Example(
        "zip, link outside",
        ZipInspector,
        _always(lambda: zip_archive([("a.vdi", vdi(GIB)), ("b", "/etc/shadow")])),
        ((0, 0),),
        outside=True,
    ),
)
_COMPRESSED = (
    *(
        Example(f"{name}, gpt", kind, _packed(name, lambda: gpt_disk(2 * MIB)), ((0, 0),))
        for name, kind in KINDS.items()
    ),
    *(
        Example(f"{name}, qcow2", kind, _packed(name, lambda: qcow2(GIB, allocated=3)), ((0, 0),))
        for name, kind in KINDS.items()
    ),
    Example(
        "lz4, dictionary",
        KINDS["lz4"],
        _always(lambda: _plain(lz4_frame(dictionary=9))),
        ((0, 0),),
        outside=True,
    ),
    Example(
        "zstd, dictionary",
        KINDS["zstd"],
        _always(lambda: _plain(zstd_frame(window_descriptor=0, dictionary=9))),
        ((0, 0),),
        outside=True,
    ),
)
#: All examples by name.
EXAMPLES: Final[dict[str, Example]] = {
    one.name: one for one in (*_RAW, *_QCOW2, *_VHD, *_VHDX, *_VMDK, *_OTHERS, *_COMPRESSED)
}
#: The checks that find an image's references to other files.
LEADS_OUTSIDE: Final = frozenset(
    {
        *("backing_file", "data_file", "parent_image", "extent_path", "change_track_path"),
        *("member_path", "ovf_reference"),
    }
)
#: Data of no known format.
NOTHING: Final = Image.of(70_000, [(100, b"nothing that is known")])


def images_of(inspector: type[FileInspector]) -> list[Image]:
    """All example images for an inspector."""
    return [image for one in EXAMPLES.values() if one.inspector is inspector for image in one.images]


def is_small(image: Image) -> bool:
    """Whether a test can read the image to its end, and change it many times, within milliseconds."""
    return image.size <= MOST_BYTES and sum(len(data) for _, data in image.pieces) <= MOST_STORED


def whole(format_name: str) -> list[Image]:
    """Example images in which the checks find nothing; `format_name` is the format's name in reports."""
    return _named(format_name, outside=False)


def outside(format_name: str) -> list[Image]:
    """Example images of a format that refer to other files."""
    return _named(format_name, outside=True)


def _named(format_name: str, *, outside: bool) -> list[Image]:
    return [
        image
        for one in EXAMPLES.values()
        if one.outside is outside and not one.odd and _format_of(one) == format_name
        for image in one.images
    ]


def _format_of(example: Example) -> str:
    """The format's name in reports. The inspector of tar archives reports two formats."""
    if example.inspector is OVAInspector:
        return example.name.partition(",")[0]
    return example.inspector.NAME
