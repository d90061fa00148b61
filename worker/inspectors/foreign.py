r"""Formats and versions that are not inspected, known by their marks, so that none is taken for another.

A raw disk, a fixed VHD and a VDI leave the object's first bytes to whatever lies there. Readers that guess go
by those: QEMU opens a "raw" disk that begins with `version=1` as a VMDK descriptor, with any extents.

Source: the probe functions in QEMU's block/*.c, which look at the first 512 bytes; file(1)'s magic for the
others.
"""

import re

#: What the first bytes say, by format.
FRONTS = {
    "cloop": b"#!/bin/sh\n#V2.0 Format\n",
}
QCOW_MAGIC = b"QFI\xfb"
QCOW_INSPECTED = {version.to_bytes(4, "big") for version in (1, 2, 3)}
#: A VMDK's text descriptor, as QEMU's vmdk_probe finds it (comments and blank lines, then the version), or by
#: its customary first line.
DESCRIPTOR = re.compile(
    rb"# Disk DescriptorFile|(?:#[^\n]*\n|[ \t\r]*\n)*+[ \t\r]*version[ \t]*=", re.IGNORECASE
)


def named_by(front: bytes) -> str | None:
    """The format, of those not inspected, that an object's first 512 bytes belong to."""
    if front.startswith(QCOW_MAGIC) and front[4:8] not in QCOW_INSPECTED:
        return "qcow2 (another version)"
    if DESCRIPTOR.match(front):
        return "vmdk"
    return next((name for name, magic in FRONTS.items() if front.startswith(magic)), None)
