"""Images of every format and variant: whole ones, and ones that lead outside, by the format's name."""

from struct import pack
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
from tests.inspectors.archives.backups import vma, xva
from tests.inspectors.archives.zips import DEFLATED, LINK, Part, deflated, descriptor, zipped
from tests.inspectors.compression.packed import PACKED, lz4_frame, zstd_frame

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4
#: Block size and flags of a VHDX stand first among its metadata's items: blocks are left allocated if fixed.
VHDX_FLAGS = 2 * MIB + 64 * 1024 + 4


def _text(create_type: str, *lines: str) -> Image:
    return vmdk_flat_descriptor("\n".join(["version=1", f'createType="{create_type}"', *lines, ""]))


def _hybrid(disc: Image, disk: Image) -> Image:
    """A disc with a disk's partition table in what ISO 9660 leaves free."""
    for at, data in disk.pieces:
        disc = disc.patched(at, data)
    return disc


def _machine(**changes: str) -> Image:
    """A virtual machine with a disk, whose descriptor says other things in some places."""
    disk = OVADisk("disk.vmdk", vmdk_stream_optimized(GIB, allocated=3), GIB)
    text = ovf([disk])
    for before, after in changes.items():
        text = text.replace(before, after)
    return ova([disk], descriptor=text)


def _compressed_members() -> Image:
    """A ZIP archive whose members are compressed, as a writer makes it that cannot seek."""
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


def _plain(data: bytes) -> Image:
    return Image.of(len(data), [(0, data)])


def _in_chunks() -> Image:
    """A virtual machine with a disk in chunks, in a folder, as macOS packs it."""
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


#: Small and large ones, for what is looked at whole and what is sampled.
WHOLE: dict[str, list[Image]] = {
    "raw": [gpt_disk(64 * MIB), gpt_disk(64 * MIB, sector=4096), mbr_disk(64 * MIB)],
    "qcow2": [
        qcow2(GIB, version=2, allocated=3),
        qcow2(GIB, allocated=3),
        qcow2(GIB, allocated=3, cluster_bits=21),
    ],
    "vhd": [vhd_fixed(64 * MIB), vhd_dynamic(GIB, allocated=3), vhd_dynamic(1024 * GIB, allocated=3)],
    "vhdx": [
        vhdx(GIB, allocated=3),
        vhdx(GIB, allocated=3).patched(VHDX_FLAGS, pack("<I", 1)),
        vhdx(64 * TIB, allocated=3),
    ],
    "vmdk": [
        vmdk_sparse(GIB, allocated=3),
        vmdk_sparse(128 * GIB, allocated=3),
        vmdk_stream_optimized(GIB, allocated=3),
        cowd(GIB, allocated=3),
        cowd(GIB, allocated=[3, 8000]),
        sesparse(GIB, allocated=3),
        sesparse(GIB, allocated=[3, 8000]),
        _text("vmfs", "RW 9 ZERO"),
    ],
    "vdi": [vdi(GIB, allocated=3), vdi(GIB, allocated=1024, image_type=2), vdi(16 * TIB, allocated=3)],
    "qcow": [qcow1(GIB, allocated=3), qcow1(GIB, allocated=[3, 8000])],
    "qed": [qed(GIB, allocated=3), qed(8 * GIB, allocated=[3, 70000])],
    "parallels": [
        parallels(GIB, allocated=3),
        parallels(GIB, allocated=3, extended=False),
        parallels(TIB, allocated=3),
    ],
    "luks": [luks(MIB), luks2(MIB), luks2(MIB, fixed_size=True)],
    "bochs": [bochs(GIB, allocated=3), bochs(TIB, allocated=3)],
    "cloop": [cloop(MIB, allocated=3), cloop(4 * GIB, allocated=3)],
    "sparseimage": [sparseimage(GIB, allocated=3), sparseimage(16 * GIB, allocated=5000)],
    "asif": [asif(GIB, allocated=3)],
    "ewf": [ewf(MIB, allocated=3), ewf2()],
    "dmg": [dmg(GIB, allocated=3)],
    "iso": [
        iso(),
        udf(),
        iso(400, udf=True),
        _hybrid(iso(), mbr_disk(iso().size, [(0x17, 64, 99)])),
        _hybrid(iso(4096), gpt_disk(iso(4096).size)),
    ],
    "vma": [vma()],
    "tar": [tar([("a.vdi", vdi(GIB, allocated=3)), ("b.qcow2", qcow2(GIB, allocated=3))]), xva()],
    "ova": [_machine(), _in_chunks()],
    "zip": [
        zip_archive([("a.vdi", vdi(GIB, allocated=3)), ("b.qcow2", qcow2(GIB, allocated=3))]),
        _compressed_members(),
    ],
    **{
        name: [_plain(pack(image.to_bytes())) for image in (gpt_disk(16 * MIB), qcow2(GIB, allocated=3))]
        for name, pack in PACKED.items()
    },
}
OUTSIDE: dict[str, list[Image]] = {
    "qcow2": [qcow2(GIB, backing_file="a"), qcow2(GIB, data_file="a")],
    "vhd": [vhd_dynamic(GIB, parent_name="a")],
    "vhdx": [vhdx(GIB, parent="a")],
    "vmdk": [
        vmdk_sparse(GIB, parent_cid="12345678"),
        _text("monolithicFlat", 'RW 9 FLAT "a"', 'changeTrackPath="b"'),
        cowd(GIB, parent="a"),
    ],
    "vdi": [vdi(GIB, image_type=4, parent_uuid=UUID(int=5)), vdi(GIB, image_type=3)],
    "qcow": [qcow1(GIB, backing_file="a")],
    "qed": [qed(GIB, backing_file="a")],
    "bochs": [bochs(GIB, subtype="Undoable"), bochs(GIB, subtype="Volatile")],
    "luks": [luks(MIB).patched(104, bytes(4))],
    "ewf": [ewf(MIB, last="next"), ewf(MIB, segment=2)],
    "dmg": [dmg(GIB, segments=2)],
    "tar": [tar([("/a.vdi", vdi(GIB))]), tar([("a.vdi", vdi(GIB)), ("b", "/etc/shadow")])],
    "zip": [zip_archive([("/a.vdi", vdi(GIB))]), zip_archive([("a.vdi", vdi(GIB)), ("b", "/etc/shadow")])],
    "lz4": [_plain(lz4_frame(dictionary=9))],
    "zstd": [_plain(zstd_frame(window_descriptor=0, dictionary=9))],
    "ova": [_machine(fileRef='parentRef="a" ovf:fileRef'), _machine(**{'href="disk': 'href="../disk'})],
}
