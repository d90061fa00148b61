"""Inspects VirtualBox VDI images of version 1.1. All fields are little-endian.

Source: QEMU, block/vdi.c, struct VdiHeader. The image types are from VirtualBox, include/VBox/vd.h and
Storage/VDICore.h.

| offset | bytes | field |
|---|---|---|
| 0x40 | 4 | signature 0xBEDA107F |
| 0x44 | 4 | version, 0x00010001 |
| 0x4C | 4 | type: 1 dynamic, 2 static, 3 undo, 4 differencing |
| 0x154 | 4 | offset of the block map |
| 0x158 | 4 | offset of the data |
| 0x168 | 4 | sector size, 512 |
| 0x170 | 8 | virtual size in bytes |
| 0x178 | 4 | block size in bytes |
| 0x17C | 4 | extra bytes before each block, 0 |
| 0x180 | 4 | number of blocks in the image |
| 0x184 | 4 | number of blocks allocated |
| 0x188 | 16 | UUID of the image |
| 0x1A8 | 16 | UUID of the image's parent |
| 0x1B8 | 16 | UUID of the parent's last modification |

The block map has a u32 for each block: the block's place in the data, counted in blocks, or one of the two
largest values if the block is free or contains only zeros.

VirtualBox also reads version 0, which has a different header, and versions 1.x other than 1.1. QEMU reads
only version 1.1. Some images have extra bytes before each block, which VirtualBox supports and QEMU does not.
Keyholereports these images as unsupported, and does not decide whether they are whole.

Wholeness: VirtualBox appends a block to the data area when it allocates the block. So the number of blocks in
the data area is the number of allocated blocks in the header. The object must contain all of this area, and
the map must not point beyond this area. Keyhole checks the part of the map that it holds.
"""

from array import array
from collections.abc import Iterator, Mapping
from uuid import UUID

from keyhole.inspectors.base import THOROUGH_BYTES
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR, little_endian
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.layout import Blocks, Part, overlaps
from keyhole.inspectors.region import CaptureRegion

SIGNATURE = (0xBEDA107F).to_bytes(4, "little")
HEADER_BYTES = 512
VERSION_1_1 = 0x00010001
#: The highest major version.
MAJOR_VERSION = 1
#: How many bytes of the block map are held. The map follows the header. This many bytes are the entries of
#: 32,768 blocks, which are 32 GiB of disk at the usual block size of 1 MiB.
MAX_MAP_BYTES = 128 * 1024
#: Map entries from this value on mean a block of zeros or a free block (VDICore.h, VDI_IMAGE_BLOCK_ZERO and
#: _FREE).
NO_BLOCK = 0xFFFFFFFE

DYNAMIC, STATIC, UNDO, DIFFERENCING = 1, 2, 3, 4
TYPE_NAMES = {DYNAMIC: "dynamic", STATIC: "static", UNDO: "undo", DIFFERENCING: "differencing"}


class VDIInspector(HeaderInspector):
    """Inspects VirtualBox VDI images. The header in the first 512 bytes states all sizes and offsets."""

    NAME = "vdi"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self.new_region("header", CaptureRegion(0, HEADER_BYTES))

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Return whether `prefix`, the object's first bytes, has VDI's signature at 0x40."""
        return prefix[0x40:0x44] == SIGNATURE

    @property
    def virtual_size(self) -> int:
        """The virtual size that the header states, in bytes.

        Zero until this field is held, and in versions that do not have it.
        """
        header = self.region("header").data
        known = self.format_match and len(header) >= 0x178 and self._u32(0x44) >> 16 == MAJOR_VERSION
        return self._u64(0x170) if known else 0

    @property
    def subformat(self) -> str | None:
        """`dynamic`, `static`, `undo` or `differencing`."""
        return TYPE_NAMES.get(self._u32(0x4C)) if self.format_match else None

    def post_process(self) -> None:
        """Declare the block map once the header is held."""
        if self._read and not self.has_region("map"):
            most = THOROUGH_BYTES if self.thorough else MAX_MAP_BYTES
            self.new_region("map", CaptureRegion(self._u32(0x154), min(4 * self._u32(0x180), most)))

    @property
    def wholeness(self) -> Wholeness:
        """Proven once the header and the object's length are known, because the header counts the blocks.

        Sampled if a thorough inspection holds only a part of the block map. `checks` reports a truncated
        object.
        """
        if not self._read or self._size is None or self._variant:
            return Wholeness.UNCHECKED
        held = self.region("map").length == 4 * self._u32(0x180)
        return Wholeness.SAMPLED if self.thorough and not held else Wholeness.PROVEN

    def details(self) -> Mapping[str, object]:
        """Return the type, the block size, the numbers of blocks, and the UUIDs of image and parent."""
        header = self.captured("header")
        if not self.format_match or len(header) < HEADER_BYTES:
            return {}
        facts: dict[str, object] = {
            "type": TYPE_NAMES.get(self._u32(0x4C), str(self._u32(0x4C))),
            "block_size": self._u32(0x178),
            "blocks": self._u32(0x180),
            "blocks_allocated": self._u32(0x184),
            "uuid": str(UUID(bytes_le=header[0x188:0x198])),
        }
        if any(header[0x1A8:0x1B8]):
            facts["parent_uuid"] = str(UUID(bytes_le=header[0x1A8:0x1B8]))
        return facts

    def checks(self) -> list[Finding]:
        """Return findings about the header, the block map, and contradictions between the two."""
        if not self.format_match or not self.filled("header"):
            return []
        if len(self.captured("header")) < HEADER_BYTES:
            return [found("truncated", "the object ends within the VDI header")]
        if self._u32(0x44) >> 16 != MAJOR_VERSION:
            return list(self._states())
        return [*self._states(), *self._contradictions(), *self._map_contradictions()]

    def _states(self) -> Iterator[Finding]:
        if not self._u32(0x44) >> 16:
            yield found("unsupported_subformat", self._variant)
            return
        kind = self._u32(0x4C)
        parent = any(self.captured("header")[0x1A8:0x1C8])
        if kind in {UNDO, DIFFERENCING} or parent:
            yield found("parent_image", "a differencing VDI stores only the changes to its parent image")
        elif kind not in TYPE_NAMES:
            yield found("unknown_features", f"VDI type {kind} is unknown")
        if self._u32(0x44) >> 16 > MAJOR_VERSION:
            yield found("unknown_features", f"VDI version {self._u32(0x44):#010x} is unknown")
        elif self._variant:
            yield found("unsupported_subformat", self._variant)

    def _contradictions(self) -> Iterator[Finding]:
        map_offset, data_offset = self._u32(0x154), self._u32(0x158)
        block_size, blocks, allocated = self._u32(0x178), self._u32(0x180), self._u32(0x184)
        room = blocks * block_size
        if not 0 <= room - self._u64(0x170) < max(block_size, 1):
            yield found(
                "size_mismatch",
                f"the header states {self._u64(0x170)} bytes, but {blocks} blocks of {block_size} bytes",
            )
        if (
            self._u64(0x170) % SECTOR
            or self._u32(0x168) != SECTOR
            or map_offset % SECTOR
            or data_offset % SECTOR
        ):
            yield found("structure", "sizes or offsets are not whole sectors")
        if block_size & (block_size - 1):
            yield found("structure", "the block size is not a power of two")
        if allocated > blocks:
            yield found("structure", f"{allocated} blocks are allocated, but the disk has {blocks}")
        end = max(map_offset + 4 * blocks, data_offset + allocated * self._block_bytes)
        if self._size is not None and end > self._size:
            yield found("truncated", f"the image needs {end} bytes, the object has {self._size}")

    def _map_contradictions(self) -> Iterator[Finding]:
        map_offset, data_offset = self._u32(0x154), self._u32(0x158)
        blocks, allocated, mapped = self._u32(0x180), self._u32(0x184), self._blocks_mapped
        # A writer puts the next allocated block right after the present blocks.
        data_end = data_offset + max(allocated, 1) * self._block_bytes
        yield from overlaps(
            [
                Part(0, HEADER_BYTES, "the header"),
                Part(map_offset, map_offset + 4 * blocks, "the block map"),
                Part(data_offset, data_end, "the data"),
            ]
        )
        places = Blocks("a block", mapped, 1)
        yield from overlaps((), places)
        if any(place >= allocated for place in mapped):
            yield found("structure", f"the block map points beyond the {allocated} allocated blocks")
        elif len(self.captured("map")) == 4 * blocks and places.distinct < allocated:
            yield found(
                "structure", f"the block map points to {len(mapped)} of the {allocated} allocated blocks"
            )

    # The held parts of the header and the map

    @property
    def _read(self) -> bool:
        """Whether the header is held, and its version has the fields of version 1.1."""
        held = self.format_match and len(self.captured("header")) == HEADER_BYTES
        return held and self._u32(0x44) >> 16 == MAJOR_VERSION

    @property
    def _variant(self) -> str:
        """The reason why Keyhole cannot judge this variant; empty if it can."""
        version = self._u32(0x44)
        if version != VERSION_1_1:
            return f"only VirtualBox reads version {version >> 16}.{version & 0xFFFF} of VDI"
        if self._u32(0x17C):
            return f"{self._u32(0x17C)} extra bytes precede each block, which QEMU does not support"
        return ""

    @property
    def _block_bytes(self) -> int:
        """The length of a block in bytes, including the extra bytes before it."""
        return self._u32(0x178) + self._u32(0x17C)

    @property
    def _blocks_mapped(self) -> "array[int]":
        """The places in the held part of the map, counted in blocks from the beginning of the data."""
        entries = little_endian("I", self.captured("map"))
        return array("I", (place for place in entries if place < NO_BLOCK))
