"""The builders' images are correct: according to qemu, or to their bytes if qemu does not open them."""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import google_crc32c
import pytest

from keyhole import builders as images
from keyhole.builders import Image, guest_disk, pattern

MIB = 1 << 20
TIB = 1 << 40
SIZES = (7 * MIB, 512 * MIB, 513 * MIB, 2057 * MIB, TIB)


@dataclass(frozen=True)
class Case:
    """A builder with its options, qemu's name of the format, and the size of its blocks in bytes."""

    name: str
    qemu_format: str
    block_size: int
    build: Callable[..., Image]
    #: Whether `qemu-img check` supports the format.
    checked: bool = True
    #: The largest disk that is tested. The format or the time that qemu needs limits it.
    largest: int = TIB

    def blocks(self, size: int) -> tuple[int, ...]:
        """The last block, the first block and another one, stored out of order."""
        last = -(-size // self.block_size) - 1
        return tuple(dict.fromkeys((last, 0, last // 2)))


def qcow2_case(name: str, *, cluster_bits: int = 16, largest: int = TIB, **options: Any) -> Case:
    def build(size: int, allocated: Sequence[int]) -> Image:
        return images.qcow2(size, cluster_bits=cluster_bits, allocated=allocated, **options)

    return Case(name, "qcow2", 1 << cluster_bits, build, largest=largest)


def vhdx_case(name: str, *, block_size: int, **options: Any) -> Case:
    def build(size: int, allocated: Sequence[int]) -> Image:
        return images.vhdx(size, block_size=block_size, allocated=allocated, **options)

    return Case(name, "vhdx", block_size, build)


def vdi_static(size: int, allocated: Sequence[int]) -> Image:
    return images.vdi(size, allocated=allocated, image_type=2)


def vhd_fixed(size: int, allocated: Sequence[int]) -> Image:
    return images.vhd_fixed(size, content=guest_disk(size, block_size=MIB, allocated=allocated))


def vhd_fixed_511(size: int, allocated: Sequence[int]) -> Image:
    content = guest_disk(size, block_size=MIB, allocated=allocated)
    return images.vhd_fixed(size, content=content, footer_size=511)


def vhd_differencing(size: int, allocated: Sequence[int]) -> Image:
    return images.vhd_dynamic(size, allocated=allocated, parent_name="parent.vhd")


CASES = (
    qcow2_case("qcow2"),
    qcow2_case("qcow2-v2", version=2),
    # In qemu an L1 table can have 32 MiB: with clusters of 512 bytes, this is a disk of 128 GiB.
    qcow2_case("qcow2-cluster-512", cluster_bits=9, largest=2057 * MIB),
    qcow2_case("qcow2-cluster-2m", cluster_bits=21),
    qcow2_case("qcow2-extended-l2", incompatible=1 << 4),
    qcow2_case("qcow2-zstd", incompatible=1 << 3),
    qcow2_case("qcow2-snapshots", snapshots=3),
    qcow2_case("qcow2-extension", extensions=[(0x6B657968, b"unknown to all")]),
    Case("vhd-dynamic", "vpc", 2 * MIB, images.vhd_dynamic, checked=False),
    Case("vhd-differencing", "vpc", 2 * MIB, vhd_differencing, checked=False),
    Case("vhd-fixed", "vpc", MIB, vhd_fixed, checked=False),
    Case("vhd-fixed-511", "vpc", MIB, vhd_fixed_511, checked=False),
    vhdx_case("vhdx", block_size=32 * MIB),
    vhdx_case("vhdx-block-1m", block_size=MIB),
    vhdx_case("vhdx-metadata-first", block_size=32 * MIB, metadata_offset=MIB),
    vhdx_case("vhdx-metadata-last", block_size=32 * MIB, metadata_offset=40 * MIB),
    vhdx_case("vhdx-bat-first", block_size=32 * MIB, metadata_offset=40 * MIB, bat_offset=MIB),
    # Checking these two reads every grain or block, allocated or not.
    Case("vmdk-sparse", "vmdk", 64 << 10, images.vmdk_sparse, largest=2057 * MIB),
    Case("vmdk-stream-optimized", "vmdk", 64 << 10, images.vmdk_stream_optimized, largest=2057 * MIB),
    Case("vdi", "vdi", MIB, images.vdi),
    Case("vdi-static", "vdi", MIB, vdi_static),
)
SIZED = [
    pytest.param(case, size, id=f"{case.name}-{size // MIB}m")
    for case in CASES
    for size in SIZES
    if size <= case.largest
]


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize(("case", "size"), SIZED)
def test_qemu_reads_the_image_as_it_was_meant(case: Case, size: int, qemu_img: Any, tmp_path: Path) -> None:
    blocks = case.blocks(size)
    path = case.build(size, allocated=blocks).write_to(tmp_path / "image")

    info = qemu_img(path, case.qemu_format)
    assert info["virtual-size"] == size
    if case.checked:
        qemu_img.run("check", "-f", case.qemu_format, path)
    for block in blocks:
        at = block * case.block_size // 512
        assert sectors(qemu_img, case, path, at, 2) == pattern(block) + bytes(512)


def sectors(qemu_img: Any, case: Case, path: Path, first: int, count: int) -> bytes:
    """The bytes that the guest reads, padded with zeros after the disk's end."""
    target = path.with_name("sectors")
    qemu_img.run(
        "dd",
        *("-f", case.qemu_format, "-O", "raw", "bs=512", f"skip={first}", f"count={first + count}"),
        *(f"if={path}", f"of={target}"),
    )
    return target.read_bytes()[: count * 512].ljust(count * 512, b"\0")


@pytest.mark.qemu
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_whole_disk_converts_to_what_the_guest_wrote(case: Case, qemu_img: Any, tmp_path: Path) -> None:
    size = 513 * MIB
    path = case.build(size, allocated=case.blocks(size)).write_to(tmp_path / "image")
    raw = tmp_path / "raw"
    qemu_img.run("convert", "-f", case.qemu_format, "-O", "raw", path, raw)
    wanted = guest_disk(size, block_size=case.block_size, allocated=case.blocks(size))
    qemu_img.run("compare", "-f", "raw", "-F", "raw", raw, wanted.write_to(tmp_path / "wanted"))


# A fixed VHD has its magic number at the end, where qemu does not search for it.
PROBED = [case for case in CASES if not case.name.startswith("vhd-fixed")]


@pytest.mark.qemu
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in PROBED])
def test_qemu_recognises_the_format_by_itself(case: Case, qemu_img: Any, tmp_path: Path) -> None:
    path = case.build(64 * MIB, allocated=[1]).write_to(tmp_path / "image")
    assert qemu_img(path)["format"] == case.qemu_format


@pytest.mark.qemu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("build", [images.vhd_fixed, images.vhd_dynamic])
def test_qemu_believes_the_geometry_of_other_creators(
    size: int, build: Callable[..., Image], qemu_img: Any, tmp_path: Path
) -> None:
    cylinders, heads, per_track = images.vhd_geometry(size // 512)
    geometry_size = cylinders * heads * per_track * 512
    # The largest geometry only means that the disk has at least this size.
    wanted = size if (cylinders, heads, per_track) == (65535, 16, 255) else geometry_size
    path = build(size, creator=b"vpc ").write_to(tmp_path / "image")
    assert qemu_img(path, "vpc")["virtual-size"] == wanted


@pytest.mark.qemu
def test_sixteen_tebibytes_are_cheap(qemu_img: Any, tmp_path: Path) -> None:
    image = images.qcow2(16 * TIB, allocated=1500)
    assert image.size > 90 * MIB
    assert sum(len(data) for _, data in image.pieces) < MIB
    path = image.write_to(tmp_path / "image")
    assert qemu_img(path)["virtual-size"] == 16 * TIB
    qemu_img.run("check", "-f", "qcow2", path)


@pytest.mark.qemu
def test_qcow2_names_its_backing_file(qemu_img: Any, tmp_path: Path) -> None:
    images.mbr_disk(64 * MIB).write_to(tmp_path / "base.raw")
    image = images.qcow2(64 * MIB, backing_file="base.raw", backing_format="raw", allocated=[3])
    info = qemu_img(image.write_to(tmp_path / "image"))
    assert (info["backing-filename"], info["backing-filename-format"]) == ("base.raw", "raw")
    qemu_img.run("check", tmp_path / "image")


@pytest.mark.qemu
def test_qcow2_leaves_its_data_to_the_data_file(qemu_img: Any, tmp_path: Path) -> None:
    blocks = [7, 2]
    guest = guest_disk(64 * MIB, block_size=64 << 10, allocated=blocks).write_to(tmp_path / "data.raw")
    path = images.qcow2(64 * MIB, data_file=str(guest), allocated=blocks).write_to(tmp_path / "image")
    assert qemu_img(path)["format-specific"]["data"]["data-file"] == str(guest)
    qemu_img.run("check", path)
    qemu_img.run("compare", "-F", "raw", path, guest)


@pytest.mark.qemu
@pytest.mark.parametrize(("method", "name"), [(1, "aes"), (2, "luks")])
def test_qcow2_is_encrypted(method: int, name: str, qemu_img: Any, tmp_path: Path) -> None:
    info = qemu_img(images.qcow2(64 * MIB, encryption=method, allocated=3).write_to(tmp_path / "image"))
    assert info["encrypted"]
    assert info["format-specific"]["data"]["encrypt"]["format"] == name


@pytest.mark.qemu
def test_qcow2_lists_its_snapshots(qemu_img: Any, tmp_path: Path) -> None:
    info = qemu_img(images.qcow2(64 * MIB, snapshots=2).write_to(tmp_path / "image"))
    assert [snapshot["name"] for snapshot in info["snapshots"]] == ["snapshot 1", "snapshot 2"]


@pytest.mark.qemu
def test_luks_volume_has_the_size_of_its_payload(qemu_img: Any, tmp_path: Path) -> None:
    info = qemu_img(images.luks(7 * MIB).write_to(tmp_path / "image"))
    assert (info["format"], info["virtual-size"]) == ("luks", 7 * MIB)


@pytest.mark.qemu
@pytest.mark.parametrize("disk", [images.mbr_disk(7 * MIB), images.gpt_disk(7 * MIB)])
def test_partitioned_disk_is_raw(disk: Image, qemu_img: Any, tmp_path: Path) -> None:
    info = qemu_img(disk.write_to(tmp_path / "image"))
    assert (info["format"], info["virtual-size"]) == ("raw", 7 * MIB)


@pytest.mark.qemu
def test_vmdk_descriptor_names_the_parent(qemu_img: Any, tmp_path: Path) -> None:
    image = images.vmdk_sparse(64 * MIB, parent_cid="12345678")
    assert qemu_img(image.write_to(tmp_path / "image"))["format-specific"]["data"]["parent-cid"] == 0x12345678


@pytest.mark.qemu
def test_flat_descriptor_leads_qemu_to_its_extent(qemu_img: Any, tmp_path: Path) -> None:
    images.mbr_disk(64 * MIB).write_to(tmp_path / "extent.raw")
    text = '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
    text += f'RW {64 * MIB // 512} FLAT "extent.raw" 0\n'
    path = images.vmdk_flat_descriptor(text).write_to(tmp_path / "image")
    assert qemu_img(path)["virtual-size"] == 64 * MIB


def test_vmdk_descriptor_stands_where_it_was_wanted() -> None:
    image = images.vmdk_sparse(64 * MIB, descriptor=b"other text", descriptor_sector=77)
    assert struct.unpack("<QQ", image.read(28, 16)) == (77, 20)
    assert image.read(77 * 512, 11) == b"other text\0"


def test_vmdk_descriptor_takes_other_lines() -> None:
    image = images.vmdk_sparse(
        MIB, create_type="vmfsSparse", extent_line='RW 8 FLAT "/etc/passwd"', extra_lines=['a="b"']
    )
    lines = image.read(512, 20 * 512).rstrip(b"\0").decode().splitlines()
    assert 'createType="vmfsSparse"' in lines
    assert 'RW 8 FLAT "/etc/passwd"' in lines
    assert 'a="b"' in lines
    assert not any("SPARSE" in line for line in lines)


def test_vhd_differencing_names_its_parent() -> None:
    image = images.vhd_dynamic(64 * MIB, parent_name="base.vhd")
    assert image.read(60, 4) == (4).to_bytes(4, "big")
    assert image.read(512 + 64, 16).decode("utf-16-be") == "base.vhd"
    code, _, length, offset = struct.unpack(">4sII4xQ", image.read(512 + 576, 24))
    assert code == b"W2ru"
    assert image.read(offset, length).decode("utf-16-le") == r".\base.vhd"


def test_vhdx_locator_leads_to_the_parent() -> None:
    image = images.vhdx(64 * MIB, parent=r".\base.vhdx")
    metadata = image.read(2 * MIB, MIB)
    assert struct.unpack_from("<II", metadata, 64 << 10)[1] == 2
    locator = metadata[entry_of(metadata, UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")) :]
    pairs = dict(locator_pairs(locator))
    assert pairs["relative_path"] == r".\base.vhdx"


def entry_of(metadata: bytes, item: UUID) -> int:
    """The offset of an item according to the metadata table."""
    at = metadata.index(item.bytes_le)
    offset: int = struct.unpack_from("<I", metadata, at + 16)[0]
    return offset


def locator_pairs(locator: bytes) -> list[tuple[str, str]]:
    pairs = []
    for index in range(int.from_bytes(locator[18:20], "little")):
        key, value, key_length, value_length = struct.unpack_from("<IIHH", locator, 20 + 12 * index)
        texts = (locator[key : key + key_length], locator[value : value + value_length])
        pairs.append((texts[0].decode("utf-16-le"), texts[1].decode("utf-16-le")))
    return pairs


def test_vhdx_places_that_collide_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        images.vhdx(64 * MIB, metadata_offset=3 * MIB, bat_offset=3 * MIB)


@pytest.mark.parametrize("offset", [64 << 10, 128 << 10])
def test_vhdx_headers_carry_the_log_and_their_checksum(offset: int) -> None:
    guid = UUID(int=5)
    header = images.vhdx(64 * MIB, log_guid=guid).read(offset, 4096)
    assert header[48:64] == guid.bytes_le
    assert int.from_bytes(header[4:8], "little") == google_crc32c.value(header[:4] + bytes(4) + header[8:])


def test_vdi_names_its_parent() -> None:
    parent = UUID(int=5)
    image = images.vdi(64 * MIB, image_type=4, parent_uuid=parent)
    assert image.read(0x4C, 4) == b"\4\0\0\0"
    assert image.read(0x1A8, 16) == parent.bytes_le


@pytest.mark.parametrize("sector", [512, 4096])
def test_gpt_headers_mirror_each_other(sector: int) -> None:
    disk = images.gpt_disk(64 * MIB, partitions=3, sector=sector)
    last = 64 * MIB // sector - 1
    for own, other in ((1, last), (last, 1)):
        header = disk.read(own * sector, 92)
        entries_lba, count, size, checksum = struct.unpack_from("<QIII", header, 72)
        assert header[:8] == b"EFI PART"
        assert struct.unpack_from("<QQ", header, 24) == (own, other)
        assert int.from_bytes(header[16:20], "little") == zlib.crc32(header[:16] + bytes(4) + header[20:])
        assert checksum == zlib.crc32(disk.read(entries_lba * sector, count * size))


def test_gpt_partitions_lie_apart_on_the_disk() -> None:
    disk = images.gpt_disk(64 * MIB, partitions=3)
    first_usable, last_usable = struct.unpack("<QQ", disk.read(512 + 40, 16))
    spans = [struct.unpack("<QQ", disk.read(1024 + 128 * number + 32, 16)) for number in range(3)]
    assert spans[0][0] >= first_usable
    assert spans[-1][1] <= last_usable
    assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_mbr_holds_the_partitions_asked_for() -> None:
    disk = images.mbr_disk(64 * MIB, [(0x83, 2048, 100), (0x07, 4096, 200)])
    assert disk.read(510, 2) == b"\x55\xaa"
    entries = [struct.unpack("<4xB3xII", disk.read(446 + 16 * number, 16)) for number in range(4)]
    assert entries == [(0x83, 2048, 100), (0x07, 4096, 200), (0, 0, 0), (0, 0, 0)]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_images_are_the_same_every_time(case: Case) -> None:
    assert case.build(64 * MIB, allocated=[1]) == case.build(64 * MIB, allocated=[1])


def test_qcow2_version_2_has_no_features() -> None:
    with pytest.raises(ValueError, match="version 2"):
        images.qcow2(MIB, version=2, data_file="data.raw")


def test_qcow2_header_stays_in_its_cluster() -> None:
    with pytest.raises(ValueError, match="first cluster"):
        images.qcow2(MIB, cluster_bits=9, backing_file="x" * 1000)
