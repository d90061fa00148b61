"""The catalogue of formats, with one row for each inspector. All lists of formats are derived from it.

To add a format, write its inspector and add a row. If an object has several formats at once, the first of
their rows names it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Flag, auto
from typing import Final, cast

from keyhole.inspectors.archives.ova import OVAInspector
from keyhole.inspectors.archives.vma import VMAInspector
from keyhole.inspectors.archives.zip.inspector import ZipInspector
from keyhole.inspectors.base import FileInspector, Layer
from keyhole.inspectors.compression.bzip2 import Bzip2Inspector
from keyhole.inspectors.compression.gzip import GzipInspector
from keyhole.inspectors.compression.lz4 import Lz4Inspector
from keyhole.inspectors.compression.lzma_alone import LzmaInspector
from keyhole.inspectors.compression.xz import XzInspector
from keyhole.inspectors.compression.zstd import ZstdInspector
from keyhole.inspectors.container import ContainerInspector
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

#: The bytes that `matches_prefix` is shown: one sector, because QEMU's probes read no more either.
FRONT_BYTES = 512


class KnownBy(Flag):
    """Where an object has the marks of its format."""

    #: In its first `FRONT_BYTES`, which `matches_prefix` is shown.
    PREFIX = auto()
    #: In a footer or trailer at its end.
    END = auto()
    #: In a text that may begin with any of its first bytes.
    TEXT = auto()
    #: In volume descriptors at 32 KiB.
    DISC = auto()
    #: In a partition table or a file system: the format itself has no marks.
    CONTENT = auto()


@dataclass(frozen=True, slots=True)
class Format:
    """One row: an inspector, and the names by which people and tools call its format.

    Args:
        inspector: Recognises the format.
        known_by: Where its marks are.
        aliases: Other names of the format in metadata and policies; they also count as suffixes.
        suffixes: Suffixes of objects' names, besides the format's name and its aliases.
        content_types: Media types. Several formats may share one; the first row names the family.
        second_name: A second format name, which the inspector gives to some objects.
    """

    inspector: type[FileInspector]
    known_by: KnownBy
    aliases: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    content_types: tuple[str, ...] = ()
    second_name: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the format, as `get_inspector` takes them."""
        return (self.inspector.NAME, *((self.second_name,) if self.second_name else ()))


FORMATS: Final[tuple[Format, ...]] = (
    Format(
        FileInspector,
        KnownBy.CONTENT,
        aliases=("ami", "ari", "aki"),
        content_types=("application/x-raw-disk-image",),
    ),
    Format(
        QcowInspector,
        KnownBy.PREFIX,
        content_types=("application/x-qemu-disk", "application/x-qcow2"),
    ),
    Format(
        VHDXInspector,
        KnownBy.PREFIX,
        content_types=(
            "application/x-vhdx",
            "application/x-vhdx-disk",
            "application/x-virtualbox-vhdx",
        ),
    ),
    Format(
        VMDKInspector,
        KnownBy.PREFIX,
        content_types=(
            "application/x-vmdk",
            "application/vmdk",
            "application/x-vmdk-disk",
            "application/x-virtualbox-vmdk",
        ),
    ),
    Format(COWDInspector, KnownBy.PREFIX),
    Format(SESparseInspector, KnownBy.PREFIX),
    Format(VMDKTextInspector, KnownBy.TEXT),
    Format(
        VDIInspector,
        KnownBy.PREFIX,
        content_types=("application/x-vdi-disk", "application/x-virtualbox-vdi"),
    ),
    Format(
        VHDInspector,
        KnownBy.PREFIX | KnownBy.END,
        aliases=("vpc",),
        content_types=("application/x-vhd", "application/x-vhd-disk", "application/x-virtualbox-vhd"),
    ),
    Format(QcowV1Inspector, KnownBy.PREFIX, content_types=("application/x-qemu-disk",)),
    Format(QEDInspector, KnownBy.PREFIX, content_types=("application/x-qemu-disk",)),
    Format(ParallelsInspector, KnownBy.PREFIX, aliases=("ploop",), suffixes=("hdd",)),
    Format(LUKSInspector, KnownBy.PREFIX),
    Format(BochsInspector, KnownBy.PREFIX),
    Format(CloopInspector, KnownBy.PREFIX),
    Format(DMGInspector, KnownBy.END, content_types=("application/x-apple-diskimage",)),
    Format(SparseImageInspector, KnownBy.PREFIX, content_types=("application/x-apple-diskimage",)),
    Format(ASIFInspector, KnownBy.PREFIX, content_types=("application/x-apple-diskimage",)),
    Format(EWFInspector, KnownBy.PREFIX, suffixes=("e01", "ex01")),
    Format(VMAInspector, KnownBy.PREFIX),
    # `application/vnd.efi.img` is not here, because uploaders guess it for every `.img`.
    Format(
        ISOInspector,
        KnownBy.DISC,
        content_types=(
            "application/x-iso9660-image",
            "application/vnd.efi.iso",
            "application/x-cd-image",
        ),
    ),
    Format(OVAInspector, KnownBy.PREFIX, content_types=("application/x-tar",), second_name="ova"),
    Format(
        ZipInspector,
        KnownBy.PREFIX,
        content_types=("application/zip", "application/x-zip-compressed"),
    ),
    Format(
        GzipInspector,
        KnownBy.PREFIX,
        suffixes=("gz", "tgz"),
        content_types=("application/gzip", "application/x-gzip"),
    ),
    Format(XzInspector, KnownBy.PREFIX, suffixes=("txz",), content_types=("application/x-xz",)),
    Format(ZstdInspector, KnownBy.PREFIX, suffixes=("zst",), content_types=("application/zstd",)),
    Format(Bzip2Inspector, KnownBy.PREFIX, suffixes=("bz2",), content_types=("application/x-bzip2",)),
    Format(Lz4Inspector, KnownBy.PREFIX, content_types=("application/x-lz4",)),
    Format(LzmaInspector, KnownBy.PREFIX, suffixes=("tlz",), content_types=("application/x-lzma",)),
)


def _inspectors(of: Iterable[Format]) -> tuple[type[FileInspector], ...]:
    return tuple(one.inspector for one in of)


#: Every inspector that can recognise an object by itself.
ALL: Final = _inspectors(FORMATS)
#: Images that are known by their first bytes. If an object has several formats, the first one names it.
BY_PREFIX: Final = _inspectors(
    one for one in FORMATS if KnownBy.PREFIX in one.known_by and not one.inspector.IS_CONTAINER
)
#: Images that are known by their ends.
BY_END: Final = _inspectors(one for one in FORMATS if KnownBy.END in one.known_by)
#: Archives and compressed images, whose members have inspections of their own.
CONTAINERS: Final = tuple(
    cast("type[ContainerInspector]", inspector) for inspector in ALL if inspector.IS_CONTAINER
)
#: The format names of containers.
CONTAINER_FORMATS: Final = frozenset(
    name for one in FORMATS if one.inspector.IS_CONTAINER for name in one.names
)
#: The names of formats that are one compressed stream.
COMPRESSED_FORMATS: Final = frozenset(
    inspector.NAME for inspector in ALL if inspector.LAYER is Layer.COMPRESSED
)
#: The inspectors by format name. If several share a name, it means the one in the first row: the established
#: class.
INSPECTORS: Final[Mapping[str, type[FileInspector]]] = {
    name: next(each.inspector for each in FORMATS if name in each.names)
    for one in FORMATS
    for name in one.names
}
#: The format for every name that clouds and tools use.
FORMAT_OF_NAME: Final[Mapping[str, str]] = {
    name: one.inspector.NAME if name in one.aliases else name
    for one in FORMATS
    for name in (*one.names, *one.aliases)
}
#: The format that a name's suffix stands for, without its dot.
FORMAT_OF_SUFFIX: Final[Mapping[str, str]] = {
    **FORMAT_OF_NAME,
    **{suffix: one.inspector.NAME for one in FORMATS for suffix in one.suffixes},
}
#: The formats that a content type stands for, the family's name first.
FORMATS_OF_CONTENT_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    content_type: tuple(name for one in FORMATS if content_type in one.content_types for name in one.names)
    for content_type in sorted({each for one in FORMATS for each in one.content_types})
}


def get_inspector(format_name: str) -> type[FileInspector] | None:
    """The class for a format name (`raw qcow2 vhd vhdx vmdk vdi …`), or `None` if it is not supported."""
    return INSPECTORS.get(format_name)
