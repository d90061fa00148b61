"""The catalogue of formats, with one row for each inspector. All lists of formats are derived from it.

To add a format, write an inspector and add a row. The order of the rows matters: if an object has several
formats at once, Keyhole reports the format whose row comes first.

A row names its inspector, but does not import it. Keyhole imports an inspector when it inspects the first
object that can have the format, because the import of all inspectors takes longer than an inspection.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, Flag, auto
from functools import cache
from importlib import import_module
from typing import Final

from keyhole.inspectors.archives.tar.header import begins_archive
from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.compression.fronts import begins_lzma, behind_skippable

#: How many bytes the caller passes to `matches_prefix`: one sector, because QEMU's probes also read only one
#: sector.
FRONT_BYTES = 512


class KnownBy(Flag):
    """The place in an object where the marks of its format lie."""

    #: The first `FRONT_BYTES` bytes, which `matches_prefix` receives.
    PREFIX = auto()
    #: A footer or trailer at the end.
    END = auto()
    #: A text at the beginning, which has no fixed first bytes.
    TEXT = auto()
    #: Volume descriptors at 32 KiB.
    DISC = auto()
    #: A partition table or a file system, because the format itself has no marks.
    CONTENT = auto()


class Kind(Enum):
    """What an object of a format contains."""

    #: A disk or an optical disc.
    IMAGE = auto()
    #: Files, which are inspected separately.
    ARCHIVE = auto()
    #: One compressed stream, whose content is inspected separately.
    COMPRESSED = auto()


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the catalogue: an inspector, and the names that people and tools use for its format.

    Args:
        name: The name of the format, which is also the inspector's `NAME`.
        home: The module in `keyhole.inspectors` and the class of the inspector that recognises the format.
        known_by: The place of the format's marks.
        kind: What an object of this format contains.
        begins: Only for formats that are recognised by their first bytes: the possible first bytes, or a
            function that checks the first bytes. These bytes are only a quick test: objects of other formats
            can begin with the same bytes, and the inspector decides (see `matches_prefix`).
        aliases: Other names of the format in metadata and policies. Keyhole also accepts them as suffixes.
        suffixes: The suffixes of objects' names, besides the format's name and its aliases.
        content_types: The media types of the format. Several formats can share a media type.
        second_name: A second format name, which the inspector reports for some objects. The inspector of tar
            has the second name `ova`.
    """

    name: str
    home: str
    known_by: KnownBy
    kind: Kind = Kind.IMAGE
    begins: tuple[bytes, ...] | Callable[[bytes], bool] = ()
    aliases: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    content_types: tuple[str, ...] = ()
    second_name: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the format, which `get_inspector` accepts."""
        return (self.name, *((self.second_name,) if self.second_name else ()))

    @property
    def inspector(self) -> type[FileInspector]:
        """The inspector that recognises the format. The first use imports it."""
        return _imported(self.home)

    def matches_prefix(self, front: bytes) -> bool:
        """Return whether the inspector recognises an object by its first `FRONT_BYTES` bytes, `front`.

        The inspector is imported only if its format allows these first bytes.
        """
        begins = self.begins
        possible = front.startswith(begins) if isinstance(begins, tuple) else begins(front)
        return possible and self.inspector.matches_prefix(front)


@cache
def _imported(home: str) -> type[FileInspector]:
    module, _, name = home.partition(":")
    inspector: type[FileInspector] = getattr(import_module(f"keyhole.inspectors.{module}"), name)
    return inspector


FORMATS: Final[tuple[Format, ...]] = (
    Format(
        "raw",
        "base:FileInspector",
        KnownBy.CONTENT,
        aliases=("ami", "ari", "aki"),
        content_types=("application/x-raw-disk-image",),
    ),
    Format(
        "qcow2",
        "formats.qcow2.inspector:QcowInspector",
        KnownBy.PREFIX,
        begins=(b"QFI\xfb\0\0\0\2", b"QFI\xfb\0\0\0\3"),
        content_types=("application/x-qemu-disk", "application/x-qcow2"),
    ),
    Format(
        "vhdx",
        "formats.vhdx.inspector:VHDXInspector",
        KnownBy.PREFIX,
        begins=(b"vhdxfile",),
        content_types=(
            "application/x-vhdx",
            "application/x-vhdx-disk",
            "application/x-virtualbox-vhdx",
        ),
    ),
    Format(
        "vmdk",
        "formats.vmdk.sparse:VMDKInspector",
        KnownBy.PREFIX,
        begins=(b"KDMV",),
        content_types=(
            "application/x-vmdk",
            "application/vmdk",
            "application/x-vmdk-disk",
            "application/x-virtualbox-vmdk",
        ),
    ),
    Format("vmdk", "formats.vmdk.cowd:COWDInspector", KnownBy.PREFIX, begins=(b"COWD",)),
    Format(
        "vmdk",
        "formats.vmdk.sesparse:SESparseInspector",
        KnownBy.PREFIX,
        begins=(b"\xbe\xba\xfe\xca\0\0\0\0",),
    ),
    Format("vmdk", "formats.vmdk.text:VMDKTextInspector", KnownBy.TEXT),
    Format(
        "vdi",
        "formats.vdi:VDIInspector",
        KnownBy.PREFIX,
        begins=lambda front: front.startswith(b"\x7f\x10\xda\xbe", 0x40),
        content_types=("application/x-vdi-disk", "application/x-virtualbox-vdi"),
    ),
    Format(
        "vhd",
        "formats.vhd:VHDInspector",
        KnownBy.PREFIX | KnownBy.END,
        begins=(b"conectix",),
        aliases=("vpc",),
        content_types=("application/x-vhd", "application/x-vhd-disk", "application/x-virtualbox-vhd"),
    ),
    Format(
        "qcow",
        "formats.qcow1:QcowV1Inspector",
        KnownBy.PREFIX,
        begins=(b"QFI\xfb\0\0\0\1",),
        content_types=("application/x-qemu-disk",),
    ),
    Format(
        "qed",
        "formats.qed:QEDInspector",
        KnownBy.PREFIX,
        begins=(b"QED\0",),
        content_types=("application/x-qemu-disk",),
    ),
    Format(
        "parallels",
        "formats.parallels:ParallelsInspector",
        KnownBy.PREFIX,
        begins=(b"WithoutFreeSpace", b"WithouFreSpacExt"),
        aliases=("ploop",),
        suffixes=("hdd",),
    ),
    Format("luks", "formats.luks.inspector:LUKSInspector", KnownBy.PREFIX, begins=(b"LUKS\xba\xbe",)),
    Format("bochs", "formats.bochs:BochsInspector", KnownBy.PREFIX, begins=(b"Bochs Virtual HD Image\0",)),
    Format("cloop", "formats.cloop:CloopInspector", KnownBy.PREFIX, begins=(b"#!/bin/sh\n#V2.0 Format\n",)),
    Format("dmg", "formats.dmg:DMGInspector", KnownBy.END, content_types=("application/x-apple-diskimage",)),
    Format(
        "sparseimage",
        "formats.sparseimage:SparseImageInspector",
        KnownBy.PREFIX,
        begins=(b"sprs",),
        content_types=("application/x-apple-diskimage",),
    ),
    Format(
        "asif",
        "formats.asif:ASIFInspector",
        KnownBy.PREFIX,
        begins=(b"shdw",),
        content_types=("application/x-apple-diskimage",),
    ),
    Format(
        "ewf",
        "formats.ewf:EWFInspector",
        KnownBy.PREFIX,
        begins=(b"EVF\t\r\n\xff\0", b"EVF2\r\n\x81\0"),
        suffixes=("e01", "ex01"),
    ),
    Format("vma", "archives.vma:VMAInspector", KnownBy.PREFIX, begins=(b"VMA\0",)),
    # `application/vnd.efi.img` is missing on purpose: upload tools assign it to every `.img` file.
    Format(
        "iso",
        "formats.iso:ISOInspector",
        KnownBy.DISC,
        content_types=(
            "application/x-iso9660-image",
            "application/vnd.efi.iso",
            "application/x-cd-image",
        ),
    ),
    Format(
        "tar",
        "archives.ova:OVAInspector",
        KnownBy.PREFIX,
        Kind.ARCHIVE,
        begins=begins_archive,
        content_types=("application/x-tar",),
        second_name="ova",
    ),
    Format(
        "zip",
        "archives.zip.inspector:ZipInspector",
        KnownBy.PREFIX,
        Kind.ARCHIVE,
        begins=(b"PK\3\4", b"PK\5\6"),
        content_types=("application/zip", "application/x-zip-compressed"),
    ),
    Format(
        "gzip",
        "compression.gzip:GzipInspector",
        KnownBy.PREFIX,
        Kind.COMPRESSED,
        begins=(b"\x1f\x8b\x08",),
        suffixes=("gz", "tgz"),
        content_types=("application/gzip", "application/x-gzip"),
    ),
    Format(
        "xz",
        "compression.xz:XzInspector",
        KnownBy.PREFIX,
        Kind.COMPRESSED,
        begins=(b"\xfd7zXZ\0",),
        suffixes=("txz",),
        content_types=("application/x-xz",),
    ),
    Format(
        "zstd",
        "compression.zstd:ZstdInspector",
        KnownBy.PREFIX,
        Kind.COMPRESSED,
        begins=lambda front: front.startswith(b"\x28\xb5\x2f\xfd", behind_skippable(front)),
        suffixes=("zst",),
        content_types=("application/zstd",),
    ),
    Format(
        "bzip2",
        "compression.bzip2:Bzip2Inspector",
        KnownBy.PREFIX,
        Kind.COMPRESSED,
        begins=(b"BZh",),
        suffixes=("bz2",),
        content_types=("application/x-bzip2",),
    ),
    Format(
        "lz4",
        "compression.lz4:Lz4Inspector",
        KnownBy.PREFIX,
        Kind.COMPRESSED,
        begins=lambda front: front.startswith(
            (b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18"), behind_skippable(front)
        ),
        content_types=("application/x-lz4",),
    ),
    Format(
        "lzma",
        "compression.lzma_alone:LzmaInspector",
        KnownBy.PREFIX,
        Kind.COMPRESSED,
        begins=begins_lzma,
        suffixes=("tlz",),
        content_types=("application/x-lzma",),
    ),
)


def _with(place: KnownBy, *kinds: Kind) -> tuple[Format, ...]:
    return tuple(one for one in FORMATS if place in one.known_by and one.kind in kinds)


#: The formats of images that are recognised by their first bytes. If an object matches several formats,
#: Keyhole reports the first one.
BY_PREFIX: Final = _with(KnownBy.PREFIX, Kind.IMAGE)
#: The formats of images that are recognised by their last bytes.
BY_END: Final = _with(KnownBy.END, Kind.IMAGE)
#: The formats of archives and compressed images. Their members are inspected separately.
CONTAINERS: Final = _with(KnownBy.PREFIX, Kind.ARCHIVE, Kind.COMPRESSED)
#: The format names of containers.
CONTAINER_FORMATS: Final = frozenset(name for one in CONTAINERS for name in one.names)
#: The names of formats that are one compressed stream.
COMPRESSED_FORMATS: Final = frozenset(one.name for one in FORMATS if one.kind is Kind.COMPRESSED)
#: All format names, which `get_inspector` accepts.
NAMES: Final = tuple(dict.fromkeys(name for one in FORMATS for name in one.names))
#: The format name that belongs to each name or alias of a format. Clouds and tools use the aliases.
FORMAT_OF_NAME: Final[Mapping[str, str]] = {
    name: one.name if name in one.aliases else name for one in FORMATS for name in (*one.names, *one.aliases)
}
#: The format name for each suffix of an object's name. The suffixes are written without a dot.
FORMAT_OF_SUFFIX: Final[Mapping[str, str]] = {
    **FORMAT_OF_NAME,
    **{suffix: one.name for one in FORMATS for suffix in one.suffixes},
}
#: The names of the formats for each content type, in the order of the rows.
FORMATS_OF_CONTENT_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    content_type: tuple(name for one in FORMATS if content_type in one.content_types for name in one.names)
    for content_type in sorted({each for one in FORMATS for each in one.content_types})
}


def get_inspector(format_name: str) -> type[FileInspector] | None:
    """Return the inspector class for a format name (`raw qcow2 vhd vhdx vmdk vdi …`).

    Return `None` if the format is not supported. If several rows have the name, return the inspector of the
    first row.
    """
    return next((one.inspector for one in FORMATS if format_name in one.names), None)


def all_inspectors() -> tuple[type[FileInspector], ...]:
    """Import the inspectors of all rows, and return them."""
    return tuple(one.inspector for one in FORMATS)
