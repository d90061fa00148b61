r"""Formats that are not inspected, known by their marks, so that nothing that bears one is taken for another.

A raw disk, a fixed VHD and a VDI leave the object's first bytes to whatever lies there. Readers that guess go
by those: QEMU opens a "raw" disk that begins with `QED\0` as QED, with the backing file that it names, and
one that begins with `version=1` as a VMDK descriptor, with any extents.

Source: the probe functions in QEMU's block/*.c, which look at the first 512 bytes; file(1)'s magic for the
others.
"""

import re

QCOW_MAGIC = b"QFI\xfb"
QCOW_INSPECTED = (b"\0\0\0\2", b"\0\0\0\3")

#: What the first bytes say, by format.
FRONTS = {
    "qed": b"QED\0",
    "vmdk (COWD)": b"COWD",
    "vmdk (SESparse)": b"\xbe\xba\xfe\xca\0\0\0\0",
    "parallels": b"WithoutFreeSpace",
    "parallels (extended)": b"WithouFreSpacExt",
    "luks": b"LUKS\xba\xbe",
    "bochs": b"Bochs Virtual HD Image",
    "cloop": b"#!/bin/sh\n#V2.0 Format\n",
    "sparseimage": b"sprs",
    "asif": b"shdw",
    "ewf": b"EVF\t\r\n\xff\0",
    "ewf2": b"EVF2\r\n\x81\0",
    "gzip": b"\x1f\x8b",
    "xz": b"\xfd7zXZ\0",
    "zstd": b"\x28\xb5\x2f\xfd",
    "bzip2": b"BZh",
    "zip": b"PK\3\4",
}
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
#: A VMDK's text descriptor, as QEMU's vmdk_probe finds it (comments and blank lines, then the version), or by
#: its customary first line.
DESCRIPTOR = re.compile(
    rb"# Disk DescriptorFile|(?:#[^\n]*\n|[ \t\r]*\n)*+[ \t\r]*version[ \t]*=", re.IGNORECASE
)
#: The last 512 bytes of an Apple disk image begin so.
DMG_TRAILER = b"koly"


def named_by(front: bytes, trailer: bytes) -> str | None:
    """The format, of those not inspected, that an object's first or last 512 bytes belong to."""
    if front.startswith(QCOW_MAGIC) and not front[4:].startswith(QCOW_INSPECTED):
        return "qcow"
    if front[TAR_MAGIC_AT:].startswith(TAR_MAGIC):
        return "tar"
    if DESCRIPTOR.match(front):
        return "vmdk (descriptor)"
    if trailer.startswith(DMG_TRAILER):
        return "dmg"
    return next((name for name, magic in FRONTS.items() if front.startswith(magic)), None)
