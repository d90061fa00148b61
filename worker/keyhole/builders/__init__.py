"""Builds disk images according to their specifications, for the demo and the tests, without external tools.

Every builder is a pure function that returns an `Image`. An `Image` stores only the bytes that are not zeros.
The same arguments give the same bytes, because UUIDs and times are fixed. By default, the images are complete
and valid. To get a damaged or hostile image, patch or truncate a valid image.

The docstring of each builder lists the fields of its format. The number before a field is the field's offset
in bytes.
"""

from keyhole.builders.asif import asif
from keyhole.builders.bochs import bochs
from keyhole.builders.cloop import cloop
from keyhole.builders.cowd import cowd
from keyhole.builders.disk import gpt_disk, mbr_disk
from keyhole.builders.dmg import dmg
from keyhole.builders.ewf import ewf, ewf2
from keyhole.builders.guest import Allocated, guest_disk, pattern
from keyhole.builders.image import Image
from keyhole.builders.iso import iso, udf
from keyhole.builders.luks import luks, luks2
from keyhole.builders.ova import OVADisk, ova, ovf
from keyhole.builders.parallels import parallels
from keyhole.builders.qcow1 import qcow1
from keyhole.builders.qcow2 import qcow2
from keyhole.builders.qed import qed
from keyhole.builders.sesparse import sesparse
from keyhole.builders.sparseimage import sparseimage
from keyhole.builders.tar import tar, tar_header
from keyhole.builders.vdi import vdi
from keyhole.builders.vhd import vhd_dynamic, vhd_fixed, vhd_geometry
from keyhole.builders.vhdx import vhdx
from keyhole.builders.vmdk import vmdk_flat_descriptor, vmdk_sparse, vmdk_stream_optimized
from keyhole.builders.zip import zip_archive

__all__ = [
    "Allocated",
    "Image",
    "OVADisk",
    "asif",
    "bochs",
    "cloop",
    "cowd",
    "dmg",
    "ewf",
    "ewf2",
    "gpt_disk",
    "guest_disk",
    "iso",
    "luks",
    "luks2",
    "mbr_disk",
    "ova",
    "ovf",
    "parallels",
    "pattern",
    "qcow1",
    "qcow2",
    "qed",
    "sesparse",
    "sparseimage",
    "tar",
    "tar_header",
    "udf",
    "vdi",
    "vhd_dynamic",
    "vhd_fixed",
    "vhd_geometry",
    "vhdx",
    "vmdk_flat_descriptor",
    "vmdk_sparse",
    "vmdk_stream_optimized",
    "zip_archive",
]
