"""The established way of reading, a stream in chunks, gives the same result as `qemu-img info`."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyhole.inspectors import FileInspector, InfoWrapper, Inspection, get_inspector
from tests.conftest import QemuImg
from tests.inspectors.oracles import ORACLE_EXCEPTIONS
from tests.slow import slow

KIB, MIB = 1024, 1024**2
SIZES = [7, slow(512), 513, slow(2057)]
FORMATS = {"raw": "raw", "qcow2": "qcow2", "vhd": "vpc", "vhdx": "vhdx", "vmdk": "vmdk", "vdi": "vdi"}
#: The maximum number of bytes that an inspector can store.
MEMORY = {"vmdk": 1.5 * MIB}


def create(qemu_img: QemuImg, folder: Path, name: str, mib: int, *options: str) -> Path:
    path = folder / f"{name}-{mib}"
    qemu_img.run("create", "-q", "-f", FORMATS[name], *options, path, f"{mib}M")
    return path


def kind_of(name: str) -> type[FileInspector]:
    kind = get_inspector(name)
    assert kind is not None
    return kind


def windows(path: Path, kind: type[FileInspector]) -> list[tuple[int, int]]:
    """The inspector's regions in this image, with some bytes around them."""
    inspector, size = kind(), path.stat().st_size
    inspector.finish(size)
    near = []
    with path.open("rb") as file:
        while missing := inspector.missing():
            offset, length = missing[0]
            near.append((max(0, offset - 2 * KIB), offset + length + 2 * KIB))
            file.seek(offset)
            inspector.feed(offset, file.read(length))
    return near


def chunks_near(path: Path, near: list[tuple[int, int]], small: int) -> Iterator[bytes]:
    """The whole file, in small chunks around its regions and in large chunks elsewhere."""
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while at < size:
            inside = any(start <= at < end for start, end in near)
            until = min((start for start, _ in near if start > at), default=size)
            length = small if inside else min(MIB, until - at)
            chunk = file.read(length)
            at += len(chunk)
            yield chunk


def check(inspector: FileInspector, virtual_size: int) -> None:
    assert inspector.format_match
    assert inspector.virtual_size == virtual_size
    assert sum(inspector.context_info.values()) < MEMORY.get(str(inspector), 512 * KIB)


@pytest.mark.qemu
@pytest.mark.parametrize("mib", SIZES)
@pytest.mark.parametrize("name", FORMATS)
def test_a_stream_in_chunks_says_what_qemu_says(
    qemu_img: QemuImg, tmp_path: Path, name: str, mib: int
) -> None:
    """Chunks are 64 KiB and 1 MiB over the whole image, and 17 and 512 bytes around the regions."""
    path = create(qemu_img, tmp_path, name, mib)
    virtual_size = qemu_img(path, FORMATS[name])["virtual-size"]

    for chunk_size in (64 * KIB, MIB):
        inspector = kind_of(name)()
        with path.open("rb") as file:
            wrapper = InfoWrapper(file, inspector)
            while wrapper.read(chunk_size):
                pass
        check(inspector, virtual_size)
        assert inspector.actual_size == path.stat().st_size

    near = windows(path, kind_of(name))
    for chunk_size in (17, 512):
        inspector = kind_of(name)()
        for _ in InfoWrapper(chunks_near(path, near, chunk_size), inspector):
            pass
        check(inspector, virtual_size)
        assert inspector.missing() == []


@pytest.mark.qemu
@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("vhd", "subformat=fixed"),
        slow("vhd", "subformat=fixed,force_size"),
        ("vhd", "force_size"),
        slow("vhdx", "subformat=fixed"),
        ("vhdx", "block_size=1M"),
        ("vhdx", "block_size=256M"),
        ("vmdk", "subformat=streamOptimized"),
        slow("vdi", "static=on"),
        ("qcow2", "compat=0.10"),
        ("qcow2", "cluster_size=512"),
        ("qcow2", "cluster_size=2M"),
        slow("qcow2", "preallocation=metadata"),
        ("qcow2", "extended_l2=on"),
        ("qcow2", "lazy_refcounts=on,refcount_bits=1"),
    ],
)
def test_an_inspection_of_a_stream_says_what_qemu_says(
    qemu_img: QemuImg, tmp_path: Path, name: str, option: str
) -> None:
    path = create(qemu_img, tmp_path, name, 513, "-o", option)
    size = path.stat().st_size
    told = qemu_img(path)
    expected = (name, told["virtual-size"])
    if "subformat=fixed" in option and name == "vhd":
        assert told["format"] == "raw", ORACLE_EXCEPTIONS["fixed VHD"]
        expected = (name, size - 512)

    inspection = Inspection()
    with path.open("rb") as file:
        while chunk := file.read(64 * KIB):
            inspection.eat_chunk(chunk)
    inspection.finish()
    facts = inspection.facts()
    assert (facts.format, facts.virtual_size) == expected
    assert facts.findings == ()
    assert facts.complete


@pytest.mark.parametrize("chunk_size", [1, 17])
def test_tiny_chunks_of_a_tiny_object_are_fine(chunk_size: int) -> None:
    inspection = Inspection()
    source = io.BytesIO(b"\x00" * 40 + b"tiny")
    while chunk := source.read(chunk_size):
        inspection.eat_chunk(chunk)
    inspection.finish()
    assert inspection.complete
    assert inspection.facts().actual_size == 44
