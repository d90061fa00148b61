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
Keyhole reports these images as unsupported, and does not decide whether they are whole.

Wholeness: VirtualBox appends a block to the data area when it allocates the block. So the data area has as
many blocks as are allocated according to the header. The object must contain the whole data area, and the map
must not point beyond this area. Keyhole checks the part of the map that it has read.
"""

from collections.abc import Iterator, Mapping
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from keyhole.inspectors.base import THOROUGH_BYTES
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.allocated import allocated
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.layout import Blocks, Part, overlaps
from keyhole.inspectors.region import CaptureRegion
from keyhole.inspectors.remembered import Remembered

SIGNATURE = (0xBEDA107F).to_bytes(4, "little")
HEADER_BYTES = 512
#: The end of the field for the virtual size.
VIRTUAL_SIZE_END = 0x178
VERSION_1_1 = 0x00010001
#: The major version whose header fields Keyhole uses. Higher major versions are unknown.
MAJOR_VERSION = 1
#: How many bytes of the block map are read and kept in memory (held). The map follows the header. This many
#: bytes contain the entries of 32,768 blocks, which have 32 GiB at the usual block size of 1 MiB.
MAX_MAP_BYTES = 128 * 1024
#: Map entries of a free block, and of a block that contains only zeros (VDICore.h, VDI_IMAGE_BLOCK_FREE and
#: _ZERO).
NO_BLOCK = (b"\xff\xff\xff\xff", b"\xfe\xff\xff\xff")

DYNAMIC, STATIC, UNDO, DIFFERENCING = 1, 2, 3, 4
TYPE_NAMES = {DYNAMIC: "dynamic", STATIC: "static", UNDO: "undo", DIFFERENCING: "differencing"}


#: The fields of the header from 0x40 on; see the table above.
FIELDS = Struct("<64x 4sI 4xI 260x II 12xI 4xQ IIII 16s 16x 16s16s 56x")


class VDIHeader(NamedTuple):
    """The fields of the header; see the table above. Bytes that have not been read are treated as zeros."""

    signature: bytes
    version: int
    kind: int
    map_offset: int
    data_offset: int
    sector: int
    virtual_size: int
    block: int
    extra: int
    blocks: int
    allocated: int
    uuid: bytes
    parent: bytes
    parent_modified: bytes

    @property
    def major(self) -> int:
        """The major version."""
        return self.version >> 16

    @property
    def map_bytes(self) -> int:
        """The length of the block map in bytes."""
        return 4 * self.blocks

    @property
    def stored_block(self) -> int:
        """The length of a block in bytes, including the extra bytes before it."""
        return self.block + self.extra

    @property
    def variant(self) -> str:
        """The reason why Keyhole does not support this variant of VDI; empty if Keyhole supports it."""
        if self.version != VERSION_1_1:
            return f"only VirtualBox reads version {self.major}.{self.version & 0xFFFF} of VDI"
        if self.extra:
            return f"{self.extra} extra bytes precede each block, which QEMU does not support"
        return ""


class VDIInspector(HeaderInspector):
    """Inspects VirtualBox VDI images. The header in the first 512 bytes states all sizes and offsets."""

    NAME = "vdi"
    HEADER_LENGTH = HEADER_BYTES

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Return whether `prefix`, the object's first bytes, has VDI's signature at 0x40."""
        return prefix[0x40:0x44] == SIGNATURE

    @property
    def format_match(self) -> bool:
        """Whether VDI's signature is at 0x40."""
        return self._header.signature == SIGNATURE

    @property
    def virtual_size(self) -> int:
        """The virtual size that the header states, in bytes.

        It is zero until this field has been read, and in versions that do not have the field.
        """
        header = self._header
        known = self.format_match and header.major == MAJOR_VERSION
        return header.virtual_size if known and len(self.region("header").data) >= VIRTUAL_SIZE_END else 0

    @property
    def subformat(self) -> str | None:
        """`dynamic`, `static`, `undo` or `differencing`."""
        return TYPE_NAMES.get(self._header.kind) if self.format_match else None

    def post_process(self) -> None:
        """Declare the block map once the header is held."""
        if not self.has_region("map") and self._read:
            most = THOROUGH_BYTES if self.thorough else MAX_MAP_BYTES
            header = self._header
            self.new_region("map", CaptureRegion(header.map_offset, min(header.map_bytes, most)))

    @property
    def wholeness(self) -> Wholeness:
        """Proven once the header and the object's length are known.

        The block map is not needed, because the header states how many blocks the object contains. But a
        thorough inspection must read the whole block map. If it read only a part of the map, the result is
        sampled. If the object is too short for the blocks, `checks` reports this, and `Inspection` then does
        not report the image as whole.
        """
        header = self._header
        if not self._read or self._size is None or header.variant:
            return Wholeness.UNCHECKED
        held = self.region("map").length == header.map_bytes
        return Wholeness.SAMPLED if self.thorough and not held else Wholeness.PROVEN

    def details(self) -> Mapping[str, object]:
        """Return the type, the block size, the numbers of blocks, and the UUIDs of image and parent."""
        if not self._header_held:
            return {}
        header = self._header
        facts: dict[str, object] = {
            "type": TYPE_NAMES.get(header.kind, str(header.kind)),
            "block_size": header.block,
            "blocks": header.blocks,
            "blocks_allocated": header.allocated,
            "uuid": str(UUID(bytes_le=header.uuid)),
        }
        if any(header.parent):
            facts["parent_uuid"] = str(UUID(bytes_le=header.parent))
        return facts

    def checks(self) -> list[Finding]:
        """Return findings about the header, the block map, and contradictions between the two."""
        if not self.format_match or not self.filled("header"):
            return []
        if not self._header_held:
            return [found("truncated", "the object ends within the VDI header")]
        header = self._header
        if header.major != MAJOR_VERSION:
            return list(self._states(header))
        return [*self._states(header), *self._contradictions(header), *self._map_contradictions(header)]

    def _states(self, header: VDIHeader) -> Iterator[Finding]:
        if not header.major:
            yield found("unsupported_subformat", header.variant)
            return
        if header.kind in {UNDO, DIFFERENCING} or any(header.parent) or any(header.parent_modified):
            yield found("parent_image", "a differencing VDI stores only the changes to its parent image")
        elif header.kind not in TYPE_NAMES:
            yield found("unknown_features", f"VDI type {header.kind} is unknown")
        if header.major > MAJOR_VERSION:
            yield found("unknown_features", f"VDI version {header.version:#010x} is unknown")
        elif header.variant:
            yield found("unsupported_subformat", header.variant)

    def _contradictions(self, header: VDIHeader) -> Iterator[Finding]:
        block, blocks, size = header.block, header.blocks, header.virtual_size
        if not 0 <= blocks * block - size < max(block, 1):
            yield found(
                "size_mismatch", f"the header states {size} bytes, but {blocks} blocks of {block} bytes"
            )
        if (
            size % SECTOR
            or header.sector != SECTOR
            or header.map_offset % SECTOR
            or header.data_offset % SECTOR
        ):
            yield found("structure", "sizes or offsets are not whole sectors")
        if block & (block - 1):
            yield found("structure", "the block size is not a power of two")
        if header.allocated > blocks:
            yield found("structure", f"{header.allocated} blocks are allocated, but the disk has {blocks}")
        data_end = header.data_offset + header.allocated * header.stored_block
        end = max(header.map_offset + header.map_bytes, data_end)
        if self._size is not None and end > self._size:
            yield found("truncated", f"the image needs {end} bytes, the object has {self._size}")

    def _map_contradictions(self, header: VDIHeader) -> Iterator[Finding]:
        map_offset, data_offset, count = header.map_offset, header.data_offset, header.allocated
        # If no block is allocated yet, a writer puts the first block at the beginning of the data. So the
        # header and the map must not overlap this place.
        data_end = data_offset + max(count, 1) * header.stored_block
        yield from overlaps(
            [
                Part(0, HEADER_BYTES, "the header"),
                Part(map_offset, map_offset + header.map_bytes, "the block map"),
                Part(data_offset, data_end, "the data"),
            ]
        )
        # A map entry counts blocks from the beginning of the data. So each block has the length 1 here.
        held = self.captured("map")
        places = Blocks("a block", allocated("I", "little", held, NO_BLOCK), 1)
        yield from overlaps((), places)
        if places.end > count:
            yield found("structure", f"the block map points beyond the {count} allocated blocks")
        elif len(held) == header.map_bytes and places.distinct < count:
            yield found("structure", f"the block map points to {len(places)} of the {count} allocated blocks")

    # The header

    @Remembered
    def _header(self) -> VDIHeader:
        return VDIHeader(*FIELDS.unpack(self.region("header").data.ljust(HEADER_BYTES, b"\0")))

    @property
    def _header_held(self) -> bool:
        return self.format_match and len(self.captured("header")) == HEADER_BYTES

    @property
    def _read(self) -> bool:
        """Whether the header has been read, and its version has the same fields as version 1.1."""
        return self._header.major == MAJOR_VERSION and self._header_held
