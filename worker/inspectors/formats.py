"""Every format that is inspected, by the marks that it is known by.

A format known by its front says so from the object's first `FRONT_BYTES` alone. The others have their marks
elsewhere: a footer at the end, descriptors at 32 KiB, a partition table behind boot code, a text in any of an
object's first bytes.
"""

from worker.inspectors.asif import ASIFInspector
from worker.inspectors.base import FileInspector
from worker.inspectors.bochs import BochsInspector
from worker.inspectors.cloop import CloopInspector
from worker.inspectors.compressed import Bzip2Inspector, GzipInspector, XzInspector, ZstdInspector
from worker.inspectors.container import ContainerInspector
from worker.inspectors.cowd import COWDInspector
from worker.inspectors.dmg import DMGInspector
from worker.inspectors.ewf import EWFInspector
from worker.inspectors.iso import ISOInspector
from worker.inspectors.luks import LUKSInspector
from worker.inspectors.lz4 import Lz4Inspector
from worker.inspectors.lzma_alone import LzmaInspector
from worker.inspectors.ova import OVAInspector
from worker.inspectors.parallels import ParallelsInspector
from worker.inspectors.qcow import QcowInspector
from worker.inspectors.qcow1 import QcowV1Inspector
from worker.inspectors.qed import QEDInspector
from worker.inspectors.sesparse import SESparseInspector
from worker.inspectors.sparseimage import SparseImageInspector
from worker.inspectors.vdi import VDIInspector
from worker.inspectors.vhd import VHDInspector
from worker.inspectors.vhdx import VHDXInspector
from worker.inspectors.vma import VMAInspector
from worker.inspectors.vmdk import VMDKInspector
from worker.inspectors.vmdk_text import VMDKTextInspector
from worker.inspectors.zip import ZipInspector

#: As much of the front as `matches_front` is shown: a sector, as QEMU's probes look at no more, either.
FRONT_BYTES = 512

#: In the order in which they name an object that is several at once.
BY_FRONT: tuple[type[FileInspector], ...] = (
    QcowInspector,
    VHDXInspector,
    VMDKInspector,
    COWDInspector,
    SESparseInspector,
    VDIInspector,
    VHDInspector,
    QcowV1Inspector,
    QEDInspector,
    ParallelsInspector,
    LUKSInspector,
    BochsInspector,
    CloopInspector,
    SparseImageInspector,
    ASIFInspector,
    EWFInspector,
    VMAInspector,
)

#: Known by a footer or trailer at the object's end, whatever its front is.
BY_END: tuple[type[FileInspector], ...] = (VHDInspector, DMGInspector)

#: What holds images, or one that is compressed; the images in it are looked at by inspections of their own.
CONTAINERS: tuple[type[ContainerInspector], ...] = (
    OVAInspector,
    ZipInspector,
    GzipInspector,
    XzInspector,
    ZstdInspector,
    Bzip2Inspector,
    Lz4Inspector,
    LzmaInspector,
)
#: Their names; an archive has two.
CONTAINER_FORMATS = frozenset({"ova", *(kind.NAME for kind in CONTAINERS)})

ALL: tuple[type[FileInspector], ...] = (
    FileInspector,
    *BY_FRONT,
    VMDKTextInspector,
    DMGInspector,
    ISOInspector,
    *CONTAINERS,
)
#: By name; of those that share one, the established class.
INSPECTORS: dict[str, type[FileInspector]] = {
    **{kind.NAME: kind for kind in ALL},
    VMDKInspector.NAME: VMDKInspector,
    "ova": OVAInspector,
}


def get_inspector(format_name: str) -> type[FileInspector] | None:
    """The class for a format name (`raw qcow2 vhd vhdx vmdk vdi …`), or `None` if it is not supported."""
    return INSPECTORS.get(format_name)
