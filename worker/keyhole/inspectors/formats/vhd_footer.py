"""Parses the footer of a VHD. All fields are big-endian.

Source: Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0, section "Hard Disk Footer
Format".

| offset | bytes | field |
|---|---|---|
| 0 | 8 | cookie `conectix` |
| 16 | 8 | offset of the dynamic header; all ones in a fixed image |
| 28 | 4 | creator application |
| 40 | 8 | original size in bytes |
| 48 | 8 | current size in bytes |
| 56 | 4 | geometry: cylinders u16, heads u8, sectors per track u8 |
| 60 | 4 | type: 2 fixed, 3 dynamic, 4 differencing |
| 64 | 4 | checksum: one's complement of the sum of all bytes of the footer, except the checksum |
| 68 | 16 | unique id |
| 84 | 1 | saved state |
"""

from struct import Struct
from typing import NamedTuple

from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.readers import vhd_sizes

COOKIE = b"conectix"
FOOTER_BYTES = 512
#: The end of the geometry, which is the last field that determines the virtual size.
SIZES_END = 60
CHECKSUM_AT = 64

FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4
TYPE_NAMES = {FIXED: "fixed", DYNAMIC: "dynamic", DIFFERENCING: "differencing"}

FIELDS = Struct(">16x Q 4x 4s 8x QQ HBB II 16s B 427x")


class Footer(NamedTuple):
    """The fields of a footer; see the table above.

    `raw` contains the bytes that have been read. The other bytes are treated as zeros.
    """

    dynamic_header: int
    creator: bytes
    original_size: int
    current_size: int
    cylinders: int
    heads: int
    sectors: int
    kind: int
    checksum: int
    unique_id: bytes
    saved_state: int
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "Footer":
        """Return the fields of a footer of up to 512 bytes."""
        return cls._make((*FIELDS.unpack(raw.ljust(FOOTER_BYTES, b"\0")), raw))

    @property
    def whole(self) -> bool:
        """Whether the footer has been read.

        The footer's last byte may be missing, because old versions of Virtual PC did not write this byte.
        """
        return len(self.raw) >= FOOTER_BYTES - 1

    @property
    def cylinder_bytes(self) -> int:
        """The size of a cylinder in bytes."""
        return self.heads * self.sectors * SECTOR

    @property
    def geometry_size(self) -> int:
        """The size in bytes according to the geometry."""
        return self.cylinders * self.cylinder_bytes

    @property
    def sizes(self) -> dict[str, int]:
        """The virtual size in bytes that each reader uses; empty until the fields have been read."""
        if len(self.raw) < SIZES_END:
            return {}
        return vhd_sizes(self.creator, self.current_size, self.geometry_size)


def footer_checksum(footer: bytes) -> int:
    """Return the checksum of a footer: the one's complement of the sum of all bytes except bytes 64 to 67."""
    return checksum(footer, CHECKSUM_AT)


def checksum(structure: bytes, at: int) -> int:
    """Return the one's complement of the sum of all bytes of a structure, except the 4 bytes at `at`."""
    return ~(sum(structure) - sum(structure[at : at + 4])) & 0xFFFFFFFF
