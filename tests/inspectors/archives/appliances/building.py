"""Builds appliances for the tests in this folder: archives from files, and descriptors from parts."""

from keyhole.builders import Image, tar, vmdk_stream_optimized
from keyhole.inspectors import Facts, Severity
from tests.inspectors.archives.walking import walk

KIB, MIB, GIB = 1024, 1024**2, 1024**3

DISK = vmdk_stream_optimized(2 * GIB, allocated=3)
DISK_NAME = "disk1.vmdk"
VMDK_URI = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
NAMESPACES = (
    'xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" '
    'xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" '
    'xmlns:sasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_StorageAllocationSettingData" '
    'xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" '
    'xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vbox="http://www.virtualbox.org/ovf/machine" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
)
FILE = f'<File ovf:href="{DISK_NAME}" ovf:id="file1" ovf:size="{DISK.size}"/>'
HARD_DISK = (
    "<Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>Hard disk 1</rasd:ElementName>"
    "<rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource><rasd:InstanceID>9</rasd:InstanceID>"
    "<rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>"
)
DISK_ELEMENT = (
    '<Disk ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:capacity="2" '
    f'ovf:capacityAllocationUnits="byte * 2^30" ovf:format="{VMDK_URI}"/>'
)

#: The size of a chunk, in bytes.
CHUNK = 20_000


def descriptor(
    hardware: str = HARD_DISK, *, file: str = FILE, disk: str = DISK_ELEMENT, more: str = ""
) -> str:
    """The descriptor of a machine with one disk, this hardware, and further elements in its system."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Envelope {NAMESPACES}>\n<References>{file}</References>\n'
        f"<DiskSection><Info>Disks</Info>{disk}</DiskSection>\n"
        f'<VirtualSystem ovf:id="vm"><Info>A machine</Info><VirtualHardwareSection><Info>Hardware</Info>'
        f"{hardware}</VirtualHardwareSection>{more}</VirtualSystem>\n</Envelope>\n"
    )


def plain(data: str | bytes) -> Image:
    """An image that consists of these bytes."""
    data = data.encode() if isinstance(data, str) else data
    return Image.of(len(data), [(0, data)] if data else [])


def appliance(text: str | bytes, *files: tuple[str, Image], name: str = "box.ovf") -> Image:
    """An archive of a descriptor and files. Without files, it contains the usual disk."""
    return tar([(name, plain(text)), *(files or ((DISK_NAME, DISK),))])


def findings(facts: Facts) -> list[tuple[str, Severity]]:
    """The findings except informational ones."""
    return [(one.check, one.severity) for one in facts.findings if one.severity is not Severity.INFO]


def described(text: str | bytes, *files: tuple[str, Image]) -> list[tuple[str, Severity]]:
    """The findings for an appliance with this descriptor and these files."""
    return findings(walk(appliance(text, *files)))


def chunks(image: Image, size: int, name: str = DISK_NAME) -> list[tuple[str, Image]]:
    """Divide an image into chunks of this many bytes, as OVF stores a disk in chunks."""
    starts = enumerate(range(0, image.size, size))
    return [(f"{name}.{number:09}", _part(image, start, size)) for number, start in starts]


def _part(image: Image, start: int, size: int) -> Image:
    """A part of an image: this many bytes, or fewer at its end."""
    size = min(size, image.size - start)
    pieces = [
        (max(at, start) - start, data[max(0, start - at) : max(0, start + size - at)])
        for at, data in image.pieces
    ]
    return Image.of(size, [(at, data) for at, data in pieces if data and at < size])


def chunked(*, size: int | None = DISK.size, chunk: object = CHUNK, more: str = "") -> str:
    """The OVF elements of a disk that is stored in chunks."""
    stated = "" if size is None else f'ovf:size="{size}" '
    return f'<File ovf:href="{DISK_NAME}" ovf:id="file1" {stated}ovf:chunkSize="{chunk}"{more}/>'
