"""Inspects the header of VMA, the format of Proxmox VE's backups. All fields are big-endian.

Source: Proxmox VE, pve-qemu, vma.h and vma_spec.txt.

| offset | bytes | field of the header |
|---|---|---|
| 0 | 4 | signature `VMA` 00 |
| 4 | 4 | version, 1 |
| 8 | 16 | UUID |
| 24 | 8 | time of the backup, in seconds |
| 56 | 4 | header size in bytes, including configurations and names |
| 4096 | 256 x 32 | devices: position of the name u32 (zero: no device), size in bytes u64 at 8 |

After the header come extents. An extent contains clusters of 64 KiB from all devices, in the order in which
the backup read them. Keyhole reads only the header and reports the finding `unsupported_subformat`. To
inspect the disks, extract them with `vma extract` first.
"""

from collections.abc import Iterator, Mapping
from struct import iter_unpack
from uuid import UUID

from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.header import HeaderInspector

SIGNATURE = b"VMA\0"
VERSION = 1
DEVICES_AT, DEVICE = 4096, ">I4xQ16x"
HEADER_BYTES = DEVICES_AT + 256 * 32
#: The largest total size of all devices in bytes. If the sum is larger, the size is reported as unknown.
MAX_VIRTUAL_SIZE = 2**64 - 1


class VMAInspector(HeaderInspector):
    """Inspects the header of a VMA backup."""

    NAME = "vma"
    HEADER_LENGTH = HEADER_BYTES
    SIGNATURES = (SIGNATURE,)

    @property
    def virtual_size(self) -> int:
        """The total size of all devices in bytes; zero if unknown."""
        total = sum(self._devices)
        return total if self._readable and total <= MAX_VIRTUAL_SIZE else 0

    def details(self) -> Mapping[str, object]:
        """The UUID and the number of devices."""
        if not self._readable:
            return {}
        return {"uuid": str(UUID(bytes=self.captured("header")[8:24])), "devices": len(self._devices)}

    def checks(self) -> list[Finding]:
        """Findings on the header, and the finding that Keyhole does not inspect a backup's disks."""
        return [*self._checks()] if self.format_match and self.filled("header") else []

    def _checks(self) -> Iterator[Finding]:
        yield found(
            "unsupported_subformat",
            "a backup of Proxmox VE (VMA): Keyhole can inspect its disks after `vma extract` wrote them",
        )
        if not self._readable:
            yield found("truncated", "the object ends within the VMA header")
        elif (version := int.from_bytes(self.captured("header")[4:8], "big")) != VERSION:
            yield found("unknown_features", f"VMA version {version} is unknown")

    @property
    def _devices(self) -> list[int]:
        """The size of each device in bytes; empty if the header cannot be read."""
        devices = (
            iter_unpack(DEVICE, self.captured("header")[DEVICES_AT:HEADER_BYTES]) if self._readable else ()
        )
        return [size for name, size in devices if name]

    @property
    def _readable(self) -> bool:
        return self.format_match and len(self.captured("header")) == HEADER_BYTES
