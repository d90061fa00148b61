"""Programs that read disk images: how each program determines a format, and which bytes it reads for this.

An object is `safe` only if every program in this list interprets it as the same image. So the inspectors have
to find every format that one of the programs would recognise in the object. A program (a "reader") determines
a format in one of four ways:

- The reader *probes*: it determines the format from the object's bytes. Examples are QEMU without `-f`,
  libblkid, file(1), libarchive and 7-Zip.
- The reader is *told* the format by a suffix, a content type, glance's `disk_format` or QEMU's `-f`. It then
  accepts every object that its parser can read, which is often more than a probe accepts. For example, QEMU
  with `-f vmdk` accepts a descriptor without the usual first line.
- The reader *unpacks* the object first if the bytes or the suffix name a compressed format or an archive.
  Examples are importers, `zstd -d` and `bsdtar`.
- The reader *extracts* an archive to a folder, so the names and links in the archive matter.

The format names are the names that `get_inspector` accepts. A format that Keyhole does not inspect is named
by its usual suffix. `front` is the number of bytes at the object's beginning in which a reader searches for
the format's marks, and `end` is the number of bytes at the object's end. A value of 0 means that the reader
does not search there.

A VHD states its size twice: as the current size and as a geometry of cylinders, heads and sectors. The table
shows which size each reader uses. For QEMU, the size depends on the program that created the VHD. A policy
can name the readers that its verdicts apply to.

| reader | programs | size of a VHD that it uses |
|---|---|---|
| `qemu-10` | QEMU from 10.0 on: qemu-img, virt-v2v, nova, CDI | geometry for `BY_GEOMETRY`, else current size |
| `qemu-9` | QEMU up to 9.2 | current size for `BY_CURRENT_SIZE`, else geometry |
| `hyper-v` | Hyper-V, Azure, XenServer, VirtualBox, DiscUtils | current size |

Sources: QEMU, block/vpc.c: `vpc_ignore_current_size` since 10.0, before that `vpc_open`. Both versions use
the current size if the geometry has its largest value. VirtualBox, src/VBox/Storage/VHD.cpp, `vhdOpenImage`.
Microsoft, "Virtual Hard Disk Image Format Specification", "Current Size".
"""

# ruff: noqa: E501 - a table, one reader a row

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from keyhole.inspectors.fields import SECTOR

KIB, MIB = 1024, 1024**2


class Way(Enum):
    """The way in which a reader determines an object's format."""

    PROBES = auto()
    TOLD = auto()
    UNPACKS = auto()
    EXTRACTS = auto()


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader of one format, or of several formats whose marks it searches for in the same ranges.

    `front` and `end` are lengths in bytes. `source` names the source code or the document that describes the
    reader's behaviour.
    """

    name: str
    way: Way
    formats: tuple[str, ...]
    front: int
    end: int
    source: str


#: The number of bytes that QEMU reads of a text descriptor. The descriptor ends at the first NUL.
VMDK_TEXT_BYTES: Final = MIB - 1
#: The length of a ZIP's end record. A comment of up to 65,535 bytes can follow the record. The rows of the
#: table state 64 KiB for the comment, because Python searches the last 22 + 65,536 bytes.
ZIP_END_BYTES: Final = 22
#: The number of bytes that unzip searches for the end record: 66,000, and the rest of its buffer of 8 KiB.
ZIP_SEARCHED_BYTES: Final = 66_000 + 8 * KIB
#: The length of a DMG's trailer, and the number of bytes that QEMU searches for the trailer. QEMU accepts up
#: to 511 bytes of padding after the trailer.
DMG_TRAILER_BYTES: Final = SECTOR
DMG_SEARCHED_BYTES: Final = DMG_TRAILER_BYTES + 511
#: The length of a VHD's footer. Old versions of Virtual PC left out the last byte of the footer.
VHD_FOOTER_BYTES: Final = SECTOR

_QEMU_PROBED = ("qcow2", "qcow", "qed", "vmdk", "vdi", "vhd", "vhdx", "parallels", "luks", "bochs", "cloop")
_STREAMS = ("gzip", "xz", "zstd", "bzip2", "lz4", "lzma")
_ARCHIVES = ("tar", "cpio", "ar", "cab", "rar", "7z", "xar", "lha", "zip", "iso", "mtree", "warc")

MODEL: Final[tuple[Reader, ...]] = (
    # readers that are told the format, for example by the suffix
    Reader("QEMU -f vmdk", Way.TOLD, ("vmdk",), VMDK_TEXT_BYTES, 0, "block/vmdk.c: vmdk_open, vmdk_read_desc"),
    Reader("QEMU -f vpc", Way.TOLD, ("vhd",), SECTOR, VHD_FOOTER_BYTES, "block/vpc.c: vpc_open"),
    Reader("QEMU -f dmg", Way.TOLD, ("dmg",), 0, DMG_SEARCHED_BYTES, "block/dmg.c: dmg_find_koly_offset"),
    Reader("QEMU -f cloop", Way.TOLD, ("cloop",), 136 + 2 * 8, 0, "block/cloop.c: cloop_open; no mark is looked for"),
    Reader("QEMU -f others", Way.TOLD, _QEMU_PROBED, SECTOR, 0, "block/*.c: the open functions"),
    Reader("VirtualBox, VMDK", Way.TOLD, ("vmdk",), 128 * KIB, 0, "Storage/VMDK.cpp: vmdkDescriptorReadAscii"),
    Reader("VirtualBox, VISO", Way.TOLD, ("viso",), KIB, 0, "Storage/VISO.cpp: visoProbeWorker"),
    Reader("VMware", Way.TOLD, ("vmdk",), VMDK_TEXT_BYTES, 0, "Virtual Disk Format 5.0: The Descriptor File"),
    Reader("libvmdk", Way.TOLD, ("vmdk",), VMDK_TEXT_BYTES, 0, "libvmdk_handle.c, libvmdk_descriptor_file.c"),
    Reader("Hyper-V, Azure", Way.TOLD, ("vhd", "vhdx"), MIB, VHD_FOOTER_BYTES, "VHD 1.0: Hard Disk Footer; MS-VHDX"),
    Reader("macOS hdiutil", Way.TOLD, ("dmg",), 0, DMG_TRAILER_BYTES, "libmodi: Mac OS disk image types"),
    Reader("Proxmox VE", Way.TOLD, ("vma",), SECTOR, 0, "pve-qemu: vma-reader.c, vma_reader_read_head"),
    # readers that probe the bytes
    Reader("QEMU", Way.PROBES, _QEMU_PROBED, SECTOR, 0, "block.c: BLOCK_PROBE_BUF_SIZE, find_image_format"),
    Reader("glance, nova", Way.PROBES, (*_QEMU_PROBED[:8], "iso"), 64 * KIB, 0, "oslo.utils: imageutils/format_inspector"),
    Reader("libblkid", Way.PROBES, ("raw", "iso", "luks"), 2 * MIB, 128 * KIB, "libblkid/src: superblocks, partitions"),
    Reader("Linux", Way.PROBES, ("raw",), 8 * KIB, SECTOR, "block/partitions: check_part"),
    Reader("file", Way.PROBES, (*_QEMU_PROBED, *_STREAMS, *_ARCHIVES), MIB, 0, "file 5.44: magic/Magdir"),
    # readers that probe the bytes and then unpack
    Reader("libarchive", Way.UNPACKS, (*_STREAMS, *_ARCHIVES), 64 * KIB, 17 * KIB, "archive_read_support_*.c: the bidders"),
    Reader("7-Zip", Way.UNPACKS, (*_STREAMS, *_ARCHIVES), 8 * MIB, ZIP_END_BYTES + 64 * KIB, "Archive/*Handler.cpp, *In.cpp"),
    Reader("unzip", Way.UNPACKS, ("zip",), 0, ZIP_SEARCHED_BYTES, "process.c: find_ecrec"),
    Reader("Python zipfile", Way.UNPACKS, ("zip",), 0, ZIP_END_BYTES + 64 * KIB, "Lib/zipfile.py: _EndRecData"),
    Reader("zstd", Way.UNPACKS, ("zstd", "gzip", "xz", "lzma", "lz4"), 18, 0, "fileio.c: FIO_decompressSrcFile"),
    Reader("gzip", Way.UNPACKS, ("gzip", "Z", "z", "zip"), 4, 0, "gzip.c: get_method"),
    Reader("xz", Way.UNPACKS, ("xz", "lzma", "lzip"), 13, 0, "coder.c: is_format_lzma"),
    Reader("lz4", Way.UNPACKS, ("lz4",), 4, 0, "lz4io.c: selectDecoder"),
    Reader("bzip2", Way.UNPACKS, ("bzip2",), 10, 0, "bzip2.c: myfeof, decompress.c"),
    Reader("virt-v2v", Way.UNPACKS, ("ova", "tar", "zip", "gzip", "xz"), MIB, ZIP_SEARCHED_BYTES, "input/OVA.ml: file(1) decides"),
    Reader("KubeVirt", Way.UNPACKS, ("gzip", "xz", "zstd", "qcow2", "vmdk", "vdi", "vhd", "vhdx"), SECTOR, 0, "pkg/image/filefmt.go"),
    # readers that extract to a folder
    Reader("GNU tar", Way.EXTRACTS, ("tar",), SECTOR, 0, "src/list.c, src/extract.c"),
    Reader("bsdtar", Way.EXTRACTS, _ARCHIVES, 64 * KIB, 17 * KIB, "tar/read.c"),
    Reader("Python tarfile", Way.EXTRACTS, ("tar",), SECTOR, 0, "Lib/tarfile.py: frombuf, extractall"),
    Reader("Python zipfile", Way.EXTRACTS, ("zip",), 0, ZIP_END_BYTES + 64 * KIB, "Lib/zipfile.py: _extract_member"),
)  # fmt: skip

QEMU, QEMU_9, HYPER_V = "qemu-10", "qemu-9", "hyper-v"
#: The readers that a policy can name. If a policy names no reader, the verdict applies to the first reader.
READERS: Final = (QEMU, QEMU_9, HYPER_V)

#: QEMU from 10.0 on uses the geometry of a VHD if the footer names one of these creators.
BY_GEOMETRY = frozenset({b"vpc ", b"qemu"})
#: QEMU up to 9.2 uses the current size of a VHD if the footer names one of these creators.
BY_CURRENT_SIZE = frozenset({b"win ", b"qem2", b"d2v ", b"CTXS", b"tap\0"})
#: The size in bytes of the largest geometry: 65,535 cylinders, 16 heads and 255 sectors of 512 bytes.
LARGEST_GEOMETRY_BYTES = 65535 * 16 * 255 * 512


def farthest_front(*formats: str, way: Way | None = None) -> int:
    """Return how many bytes at an object's beginning a reader of these formats searches at most."""
    return max((one.front for one in _readers(formats, way)), default=0)


def farthest_end(*formats: str, way: Way | None = None) -> int:
    """Return how many bytes at an object's end a reader of these formats searches at most."""
    return max((one.end for one in _readers(formats, way)), default=0)


def readers_of(image_format: str, way: Way | None = None) -> tuple[str, ...]:
    """Return the names of the readers of a format, in the order of `MODEL`."""
    return tuple(dict.fromkeys(one.name for one in _readers((image_format,), way)))


def _readers(formats: tuple[str, ...], way: Way | None) -> list[Reader]:
    return [one for one in MODEL if not set(formats).isdisjoint(one.formats) and way in {None, one.way}]


def vhd_sizes(creator: bytes, current: int, geometry: int) -> dict[str, int]:
    """Return the virtual size in bytes that each reader uses for a VHD.

    Args:
        creator: The four bytes that identify the program that created the VHD.
        current: The current size in bytes.
        geometry: The size in bytes that follows from the geometry.
    """
    largest = geometry == LARGEST_GEOMETRY_BYTES
    return {
        QEMU: geometry if creator in BY_GEOMETRY and not largest else current,
        QEMU_9: current if creator in BY_CURRENT_SIZE or largest else geometry,
        HYPER_V: current,
    }
