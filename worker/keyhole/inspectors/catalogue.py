"""The catalogue of formats, with one row for each inspector. All lists of formats are derived from it.

To add a format, write an inspector and add a row. The order of the rows matters: if an object has several
formats at once, Keyhole reports the format whose row comes first.
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

#: How many bytes the caller passes to `matches_prefix`: one sector, because QEMU's probes also read only one
#: sector.
FRONT_BYTES = 512


class KnownBy(Flag):
    """The place in an object where the marks of its format lie."""

    #: In the first `FRONT_BYTES` bytes, which `matches_prefix` receives.
    PREFIX = auto()
    #: In a footer or trailer at the end.
    END = auto()
    #: In a text at the beginning, which has no fixed first bytes.
    TEXT = auto()
    #: In volume descriptors at 32 KiB.
    DISC = auto()
    #: In a partition table or a file system, because the format itself has no marks.
    CONTENT = auto()


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the catalogue: an inspector, and the names that people and tools use for its format.

    Args:
        inspector: The inspector that recognises the format.
        known_by: The place of the format's marks.
        aliases: Other names of the format in metadata and policies. Keyhole also accepts them as suffixes.
        suffixes: The suffixes of objects' names, besides the format's name and its aliases.
        content_types: The media types. If several formats share a media type, the first row names the family.
        second_name: A second format name, which the inspector reports for some objects.
    """

    inspector: type[FileInspector]
    known_by: KnownBy
    aliases: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    content_types: tuple[str, ...] = ()
    second_name: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the format, which `get_inspector` accepts."""
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
    # `application/vnd.efi.img` is missing on purpose: upload tools assign it to every `.img` file.
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


#: The inspectors of all rows.
ALL: Final = _inspectors(FORMATS)
#: The inspectors of images that are recognised by their first bytes. If an object matches several inspectors,
#: Keyhole reports the format of the first one.
BY_PREFIX: Final = _inspectors(
    one for one in FORMATS if KnownBy.PREFIX in one.known_by and not one.inspector.IS_CONTAINER
)
#: The inspectors of images that are recognised by their last bytes.
BY_END: Final = _inspectors(one for one in FORMATS if KnownBy.END in one.known_by)
#: The inspectors of archives and compressed images. Their members are inspected separately.
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
#: The inspector for each format name. If several inspectors share a name, the first row decides.
INSPECTORS: Final[Mapping[str, type[FileInspector]]] = {
    name: next(each.inspector for each in FORMATS if name in each.names)
    for one in FORMATS
    for name in one.names
}
#: The format name for every name that clouds and tools use for a format.
FORMAT_OF_NAME: Final[Mapping[str, str]] = {
    name: one.inspector.NAME if name in one.aliases else name
    for one in FORMATS
    for name in (*one.names, *one.aliases)
}
#: The format name for each suffix of an object's name. The suffixes are written without a dot.
FORMAT_OF_SUFFIX: Final[Mapping[str, str]] = {
    **FORMAT_OF_NAME,
    **{suffix: one.inspector.NAME for one in FORMATS for suffix in one.suffixes},
}
#: The format names for each content type. The family's name is the first one.
FORMATS_OF_CONTENT_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    content_type: tuple(name for one in FORMATS if content_type in one.content_types for name in one.names)
    for content_type in sorted({each for one in FORMATS for each in one.content_types})
}


def get_inspector(format_name: str) -> type[FileInspector] | None:
    """Return the inspector class for a format name (`raw qcow2 vhd vhdx vmdk vdi …`).

    Return `None` if the format is not supported.
    """
    return INSPECTORS.get(format_name)
