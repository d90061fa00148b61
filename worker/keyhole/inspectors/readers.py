"""A model of the programs that read disk images: how each decides on a format, and which bytes it looks at.

The verdict `safe` must hold for every reader here. So a check asks for which formats any reader would take an
object. A reader decides on a format in one of four ways:

- It *probes*: the object's bytes decide. QEMU without `-f`, libblkid, file(1), libarchive, 7-Zip.
- It was *told*, by a suffix, a content type, glance's `disk_format` or QEMU's `-f`. It then accepts all that
  its parser can read, which is often more than a probe accepts: QEMU's `-f vmdk` needs no first line.
- It *unpacks* first, because the bytes or the suffix say so: importers, `zstd -d`, `bsdtar`.
- It *extracts* an archive to a folder, so the names and links in the archive matter.

The formats are named as `get_inspector` names them; a format that is not inspected is named by its usual
suffix. Lengths are in bytes. `front` is how many bytes from the object's beginning a reader searches for
the format's marks, and `end` how many from its end; 0 if it does not search there.

Which size of a VHD a reader uses depends on the program that created the VHD. A policy names the readers that
it is made for.

| reader | programs | size of a VHD that it uses |
|---|---|---|
| `qemu-10` | QEMU from 10.0 on: qemu-img, virt-v2v, nova, CDI | current size, or geometry: `BY_GEOMETRY` |
| `qemu-9` | QEMU up to 9.2 | geometry, or current size: `BY_CURRENT_SIZE` |
| `hyper-v` | Hyper-V, Azure, XenServer, VirtualBox, DiscUtils | current size |

Sources: QEMU, block/vpc.c: `vpc_ignore_current_size` since 10.0, before that `vpc_open`; both use the
current size if the geometry is the largest. VirtualBox, src/VBox/Storage/VHD.cpp, `vhdOpenImage`. Microsoft,
"Virtual Hard Disk Image Format Specification", "Current Size".
"""

# ruff: noqa: E501 - a table, one reader a row

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from keyhole.inspectors.fields import SECTOR

KIB, MIB = 1024, 1024**2


class Way(Enum):
    """How a reader decides on an object's format."""

    PROBES = auto()
    TOLD = auto()
    UNPACKS = auto()
    EXTRACTS = auto()


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader of one format, or of several that it looks for in the same places."""

    name: str
    way: Way
    formats: tuple[str, ...]
    front: int
    end: int
    source: str


#: QEMU reads this many bytes as a text descriptor, which ends at the first NUL.
VMDK_TEXT_BYTES: Final = MIB - 1
#: A ZIP's end record has 22 bytes, and a comment of at most 65,535 may follow it. Python searches one byte
#: further back for the record; unzip searches 66,000 bytes, and on to where its buffer of 8 KiB begins.
ZIP_END_BYTES: Final = 22
ZIP_SEARCHED_BYTES: Final = 66_000 + 8 * KIB
#: A DMG's trailer, and the most padding after it that QEMU skips.
DMG_TRAILER_BYTES: Final = SECTOR
DMG_SEARCHED_BYTES: Final = DMG_TRAILER_BYTES + 511
#: A VHD's footer; old versions of Virtual PC left out its last byte.
VHD_FOOTER_BYTES: Final = SECTOR

_QEMU_PROBED = ("qcow2", "qcow", "qed", "vmdk", "vdi", "vhd", "vhdx", "parallels", "luks", "bochs", "cloop")
_STREAMS = ("gzip", "xz", "zstd", "bzip2", "lz4", "lzma")
_ARCHIVES = ("tar", "cpio", "ar", "cab", "rar", "7z", "xar", "lha", "zip", "iso", "mtree", "warc")

MODEL: Final[tuple[Reader, ...]] = (
    # readers that were told the format, or take it from the suffix
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
#: All readers. The first one decides if a policy names none.
READERS: Final = (QEMU, QEMU_9, HYPER_V)

#: QEMU uses the geometry of VHDs with these creators.
BY_GEOMETRY = frozenset({b"vpc ", b"qemu"})
#: QEMU up to 9.2 uses the current size of VHDs with these creators.
BY_CURRENT_SIZE = frozenset({b"win ", b"qem2", b"d2v ", b"CTXS", b"tap\0"})
#: The largest geometry that can be stated: 65,535 cylinders, 16 heads, 255 sectors.
LARGEST_GEOMETRY_BYTES = 65535 * 16 * 255 * 512


def farthest_front(*formats: str, way: Way | None = None) -> int:
    """How many bytes from the beginning any reader of these formats searches for their marks."""
    return max((one.front for one in _readers(formats, way)), default=0)


def farthest_end(*formats: str, way: Way | None = None) -> int:
    """How many bytes from the end any reader of these formats searches for their marks."""
    return max((one.end for one in _readers(formats, way)), default=0)


def readers_of(image_format: str, way: Way | None = None) -> tuple[str, ...]:
    """The names of the readers of a format, in the model's order."""
    return tuple(dict.fromkeys(one.name for one in _readers((image_format,), way)))


def _readers(formats: tuple[str, ...], way: Way | None) -> list[Reader]:
    return [one for one in MODEL if not set(formats).isdisjoint(one.formats) and way in {None, one.way}]


def vhd_sizes(creator: bytes, current: int, geometry: int) -> dict[str, int]:
    """Return a VHD's virtual size in bytes, for each reader.

    Args:
        creator: The four characters of the creator application.
        current: The current size, in bytes.
        geometry: The size that the geometry states, in bytes.
    """
    largest = geometry == LARGEST_GEOMETRY_BYTES
    return {
        QEMU: geometry if creator in BY_GEOMETRY and not largest else current,
        QEMU_9: current if creator in BY_CURRENT_SIZE or largest else geometry,
        HYPER_V: current,
    }
