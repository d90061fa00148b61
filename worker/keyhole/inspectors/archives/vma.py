"""VMA, the archive in which Proxmox VE backs up a virtual machine. All fields are big-endian.

Source: Proxmox VE, pve-qemu, vma.h and vma_spec.txt.

| offset | bytes | field of the header |
|---|---|---|
| 0 | 4 | signature `VMA` 00 |
| 4 | 4 | version, 1 |
| 8 | 16 | UUID |
| 24 | 8 | time of the backup, in seconds |
| 56 | 4 | header size in bytes, including configurations and names |
| 4096 | 256 x 32 | devices: position of the name u32 (zero: no device), size in bytes u64@8 |

Extents follow. An extent has clusters of 64 KiB from any of the devices, in the order in which the backup
read them. Keyhole reads only the header, so the finding is `unsupported_subformat`: the disks can be
inspected once `vma extract` has written them.
"""

from collections.abc import Iterator, Mapping
from struct import iter_unpack
from uuid import UUID

from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.region import CaptureRegion

SIGNATURE = b"VMA\0"
VERSION = 1
DEVICES_AT, DEVICE = 4096, ">I4xQ16x"
HEADER_BYTES = DEVICES_AT + 256 * 32
#: The most bytes that all disks together may have.
MAX_VIRTUAL_SIZE = 2**64 - 1


class VMAInspector(HeaderInspector):
    """Inspects the header of a VMA backup."""

    NAME = "vma"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self.new_region("header", CaptureRegion(0, HEADER_BYTES))

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Whether the object begins with the signature."""
        return prefix.startswith(SIGNATURE)

    @property
    def virtual_size(self) -> int:
        """The sizes of all devices together; zero if unknown."""
        total = sum(self._devices)
        return total if self._readable and total <= MAX_VIRTUAL_SIZE else 0

    def details(self) -> Mapping[str, object]:
        """The UUID and the number of devices."""
        if not self._readable:
            return {}
        return {"uuid": str(UUID(bytes=self.captured("header")[8:24])), "devices": len(self._devices)}

    def checks(self) -> list[Finding]:
        """The finding that a backup cannot be inspected, and findings on the header."""
        return [*self._checks()] if self.format_match and self.filled("header") else []

    def _checks(self) -> Iterator[Finding]:
        yield found(
            "unsupported_subformat",
            "a backup of Proxmox VE (VMA): its disks can be inspected once `vma extract` has written them",
        )
        if not self._readable:
            yield found("truncated", "the object ends within the VMA header")
        elif (version := int.from_bytes(self.captured("header")[4:8], "big")) != VERSION:
            yield found("unknown_features", f"VMA version {version} is unknown")

    @property
    def _devices(self) -> list[int]:
        """The size of each device."""
        devices = (
            iter_unpack(DEVICE, self.captured("header")[DEVICES_AT:HEADER_BYTES]) if self._readable else ()
        )
        return [size for name, size in devices if name]

    @property
    def _readable(self) -> bool:
        return self.format_match and len(self.captured("header")) == HEADER_BYTES
