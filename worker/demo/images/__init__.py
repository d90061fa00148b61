"""Disk images written from their specifications, for the demo and the tests; no outside tool is needed.

Every builder is a pure function that returns an `Image`, a sparse value. The same arguments give the same
bytes: UUIDs and times are fixed. The images are whole and valid; to get a broken or hostile one, patch or
truncate it.
"""

from worker.demo.images.asif import asif
from worker.demo.images.bochs import bochs
from worker.demo.images.cloop import cloop
from worker.demo.images.cowd import cowd
from worker.demo.images.disk import gpt_disk, mbr_disk
from worker.demo.images.dmg import dmg
from worker.demo.images.ewf import ewf, ewf2
from worker.demo.images.guest import Allocated, guest_disk, pattern
from worker.demo.images.image import Image
from worker.demo.images.iso import iso, udf
from worker.demo.images.luks import luks, luks2
from worker.demo.images.ova import OVADisk, ova, ovf
from worker.demo.images.parallels import parallels
from worker.demo.images.qcow1 import qcow1
from worker.demo.images.qcow2 import qcow2
from worker.demo.images.qed import qed
from worker.demo.images.sesparse import sesparse
from worker.demo.images.sparseimage import sparseimage
from worker.demo.images.tar import tar, tar_header
from worker.demo.images.vdi import vdi
from worker.demo.images.vhd import vhd_dynamic, vhd_fixed, vhd_geometry
from worker.demo.images.vhdx import vhdx
from worker.demo.images.vmdk import vmdk_flat_descriptor, vmdk_sparse, vmdk_stream_optimized
from worker.demo.images.zip import zip_archive

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
