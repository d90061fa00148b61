"""Builds OVA files: tar archives that contain a virtual machine.

The first file in the archive is the machine's descriptor (DMTF DSP0243).
"""

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

from keyhole.builders.image import Image
from keyhole.builders.tar import Entry, tar

STREAM_OPTIMIZED = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
ENVELOPE = """<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References>
{files}
  </References>
  <DiskSection>
    <Info>Virtual disk information</Info>
{disks}
  </DiskSection>
  <VirtualSystem ovf:id="sample">
    <Info>A virtual machine</Info>
  </VirtualSystem>
</Envelope>
"""


class OVADisk(NamedTuple):
    """A disk of the machine.

    `name` is the name of the disk's file. `content` is an `Image`, which is the content of the file, or a
    text, which is the target of a symbolic link. `capacity` is the size of the disk in bytes.
    """

    name: str
    content: Image | str
    capacity: int


def ova(disks: Sequence[OVADisk], *, descriptor: str | None = None) -> Image:
    """Return an OVA with `disks` and the text `descriptor`. The default descriptor names all disks."""
    text = (ovf(disks) if descriptor is None else descriptor).encode()
    entries: list[Entry] = [("sample.ovf", Image.of(len(text), [(0, text)]))]
    return tar([*entries, *((disk.name, disk.content) for disk in disks)])


def ovf(disks: Sequence[OVADisk]) -> str:
    """Return the OVF 1.1 descriptor of a machine with these disks."""
    files = [
        f"    <File ovf:id={quoteattr(f'file{number}')} ovf:href={quoteattr(disk.name)}"
        + (f' ovf:size="{disk.content.size}"/>' if isinstance(disk.content, Image) else "/>")
        for number, disk in enumerate(disks, 1)
    ]
    stated = [
        f'    <Disk ovf:diskId="vmdisk{number}" ovf:fileRef="file{number}" ovf:capacity="{disk.capacity}"'
        f' ovf:capacityAllocationUnits="byte" ovf:format="{STREAM_OPTIMIZED}"/>'
        for number, disk in enumerate(disks, 1)
    ]
    return ENVELOPE.format(files="\n".join(files), disks="\n".join(stated))
