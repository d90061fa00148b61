"""The images of the benchmarks: four each of eight kinds, made by qemu-img from disks that hold data."""

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from keyhole.builders import guest_disk, mbr_disk

MIB, GIB = 1024**2, 1024**3
#: The virtual sizes of the sparse images, and the data that every image holds.
VIRTUAL = (GIB, 4 * GIB, 10 * GIB, 40 * GIB)
DATA = 16 * MIB
BLOCK = 64 * 1024
#: Of a VMDK: where its header names the grain directory, the value that refers to the footer, and its marker.
SECTOR, GD_OFFSET, GD_AT_END, FOOTER_MARKER = 512, 56, 2**64 - 1, 3
#: For each kind that qemu-img makes: the suffix and the arguments of `qemu-img convert`.
SPARSE = {
    "qcow2": ("qcow2", ["-O", "qcow2"]),
    "monolithicSparse": ("vmdk", ["-O", "vmdk"]),
    "streamOptimized": ("vmdk", ["-O", "vmdk", "-o", "subformat=streamOptimized"]),
    "vdi": ("vdi", ["-O", "vdi"]),
    "vhd-dynamic": ("vhd", ["-O", "vpc", "-o", "force_size"]),
    "vhdx": ("vhdx", ["-O", "vhdx"]),
}
#: Kinds that store the whole disk. Their disks are as long as the data.
WHOLE = {
    "vhd-fixed": ("vhd", ["-O", "vpc", "-o", "subformat=fixed,force_size"]),
    "raw-mbr": ("raw", ["-O", "raw"]),
}
KINDS = (*SPARSE, *WHOLE)


def make(folder: Path) -> list[str]:
    """Write the images to a folder, and return their names, `<kind>-<number>.<suffix>`."""
    return [path.name for path in _made(folder)]


def kind_of(name: str) -> str:
    """Return the kind of an image by its name."""
    return name.rpartition("-")[0]


def _made(folder: Path) -> Iterator[Path]:
    source = folder / "source"
    for number, virtual in enumerate(VIRTUAL, 1):
        guest_disk(virtual, block_size=BLOCK, allocated=DATA // BLOCK).write_to(source)
        with source.open("r+b") as file:
            file.write(os.urandom(DATA))
        for kind, (suffix, arguments) in SPARSE.items():
            path = _converted(source, folder / f"{kind}-{number}.{suffix}", arguments)
            if kind == "streamOptimized":
                _move_directory_to_footer(path)
            yield path
        mbr_disk(DATA + number * MIB).write_to(source)
        for kind, (suffix, arguments) in WHOLE.items():
            yield _converted(source, folder / f"{kind}-{number}.{suffix}", arguments)
        source.unlink()


def _converted(source: Path, path: Path, arguments: list[str]) -> Path:
    subprocess.run(["qemu-img", "convert", "-f", "raw", *arguments, source, path], check=True)
    return path


def _move_directory_to_footer(path: Path) -> None:
    """Let only a footer name the grain directory, as in the images of OVAs. qemu-img names it in the header.

    Source: Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents".
    """
    with path.open("r+b") as file:
        header = file.read(SECTOR)
        file.seek(GD_OFFSET)
        file.write(struct.pack("<Q", GD_AT_END))
        file.seek(0, os.SEEK_END)
        file.write(struct.pack("<QII", 1, 0, FOOTER_MARKER).ljust(SECTOR, b"\0") + header + bytes(SECTOR))
