"""Inspects Connectix and Microsoft VHD ("vpc"): fixed, dynamic and differencing. All fields are big-endian.

Source: Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0, sections "Hard Disk Footer
Format" and "Dynamic Disk Header Format". The module `readers` states which readers use the current size as
the virtual size, and which readers use the geometry.

The footer is the last 512 bytes of the object, or the last 511 bytes if an old version of Virtual PC wrote
the image. Dynamic and differencing images also have a copy of the footer at offset 0. The module `vhd_footer`
lists the fields of the footer.

A dynamic or differencing image has a dynamic header, 1,024 bytes, at the offset that the footer states.

| offset | bytes | field of the dynamic header |
|---|---|---|
| 0 | 8 | cookie `cxsparse` |
| 16 | 8 | offset of the block table |
| 28 | 4 | number of entries in the block table |
| 32 | 4 | block size in bytes, a power of two |
| 36 | 4 | checksum, computed like the checksum of the footer |

The block table has a u32 for each block: the sector of the block's bitmap, or all ones if the block is not
allocated. The data of the block follow the bitmap.

Wholeness: programs that create a VHD write the footer last, at the end of the file. A fixed image is whole if
the number of bytes before the footer is the size that the footer states. A dynamic or differencing image is
whole if the footer equals its copy at offset 0, and no block ends after the beginning of the footer,
according to the part of the block table that has been read.
"""

from collections.abc import Iterator, Mapping
from uuid import UUID

from keyhole.inspectors.base import THOROUGH_BYTES, FileInspector, Layer
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.layout import Part, overlaps
from keyhole.inspectors.formats.vhd_blocks import BlockTable, place_of_table
from keyhole.inspectors.formats.vhd_footer import (
    COOKIE,
    DIFFERENCING,
    DYNAMIC,
    FIXED,
    FOOTER_BYTES,
    TYPE_NAMES,
    Footer,
    checksum,
    footer_checksum,
)
from keyhole.inspectors.readers import READERS
from keyhole.inspectors.region import CaptureRegion, TailRegion
from keyhole.inspectors.remembered import Remembered
from keyhole.inspectors.text import printable

DYNAMIC_COOKIE = b"cxsparse"
DYNAMIC_HEADER_BYTES = 1024

#: The largest virtual size, 2,040 GiB, according to QEMU (block/vpc.c, VHD_MAX_SECTORS) and Microsoft.
MAX_SECTORS = 0xFF000000
#: How many bytes of the block table are read and kept in memory (held). The table follows the dynamic header.
#: This many bytes contain 32,768 entries, which map 64 GiB of the disk at the usual block size of 2 MiB.
MAX_TABLE_BYTES = 128 * 1024


class VHDInspector(FileInspector):
    """Inspects VHD images: the footer of 512 bytes at the end, and its copy at the front if there is one."""

    NAME = "vhd"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self.new_region("header", CaptureRegion(0, FOOTER_BYTES))
        self.new_region("footer", TailRegion(FOOTER_BYTES))

    @property
    def head_match(self) -> bool:
        """Whether the object begins with a copy of a footer, as dynamic and differencing images do."""
        return self.region("header").data.startswith(COOKIE)

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Return whether `prefix`, the object's first bytes, begins with a copy of a footer."""
        return prefix.startswith(COOKIE)

    @property
    def format_match(self) -> bool:
        """Whether there is a footer at the front or at the end."""
        return self.head_match or bool(self._end_footer)

    @property
    def mark(self) -> str:
        """The footer at the end, or its copy at the front."""
        return f"footer at byte {self._end_offset}" if self._end_footer else "copy of the footer at byte 0"

    @property
    def is_bare(self) -> bool:
        """Whether the object begins with the disk's first sector, and not with a copy of the footer."""
        return self.subformat not in {"dynamic", "differencing"}

    def explains(self, other: FileInspector) -> bool:
        """Return whether `other` recognises the content of the VHD's disk.

        If so, `other` is not a second format of the object.
        """
        return self.is_bare and other.LAYER in {Layer.DISK, Layer.DISC}

    @property
    def virtual_size(self) -> int:
        """The virtual size in bytes that the first reader in `READERS` uses; zero if it is unknown."""
        return self._sizes_by_reader.get(READERS[0], 0)

    def other_sizes(self) -> Mapping[str, int]:
        """Return the virtual size of each reader that uses a size other than `virtual_size`; see `Facts`."""
        usual = self.virtual_size
        return {reader: size for reader, size in self._sizes_by_reader.items() if size != usual}

    @property
    def subformat(self) -> str | None:
        """`fixed`, `dynamic` or `differencing`."""
        return TYPE_NAMES.get(self._footer.kind)

    def post_process(self) -> None:
        """If the object begins with a copy of a footer, declare the dynamic header, then the block table."""
        if self.has_region("table") or not self.head_match:
            return
        if not self.filled("header") or len(self._footer.raw) < FOOTER_BYTES:
            return
        if not self.has_region("dynamic_header"):
            offset = self._footer.dynamic_header
            self.new_region("dynamic_header", CaptureRegion(offset, DYNAMIC_HEADER_BYTES))
        if self._dynamic_header:
            most = THOROUGH_BYTES if self.thorough else MAX_TABLE_BYTES
            offset, length = place_of_table(self._dynamic_header)
            self.new_region("table", CaptureRegion(offset, min(length, most)))

    @property
    def wholeness(self) -> Wholeness:
        """Proven if the footer at the end matches the object's length (fixed) or the copy at the front.

        A thorough inspection must read the whole block table. If it read only a part of this table, the
        result is sampled instead of proven.
        """
        if not self.filled("footer") or not self._end_footer:
            return Wholeness.UNCHECKED
        fixed = self._footer.kind == FIXED
        proven = self._fixed_length_fits if fixed else self._footers_equal and self._apart
        if not proven:
            return Wholeness.UNCHECKED
        return Wholeness.SAMPLED if self.thorough and not self._table_held else Wholeness.PROVEN

    @property
    def _table_held(self) -> bool:
        """Whether the whole block table is held; true for fixed images, which have no block table."""
        if self._footer.kind == FIXED:
            return True
        held = self.filled("table")
        return held and len(self.captured("table")) == place_of_table(self._dynamic_header).length

    def details(self) -> Mapping[str, object]:
        """Return the type, the creator, the sizes and the unique id that the footer states."""
        footer = self._footer
        if not footer.whole:
            return {}
        return {
            "type": TYPE_NAMES.get(footer.kind, str(footer.kind)),
            "creator": printable(footer.creator.rstrip(b"\0 ")),
            "current_size": footer.current_size,
            "geometry_size": footer.geometry_size,
            "original_size": footer.original_size,
            "unique_id": str(UUID(bytes=footer.unique_id)),
        }

    def checks(self) -> list[Finding]:
        """Return findings about the footers, the dynamic header and the block table."""
        if not self.format_match:
            return []
        if not self._footer.whole:
            return (
                [found("truncated", "the object ends within the VHD footer")]
                if self._size is not None
                else []
            )
        return [*self._states(), *self._sizes(), *self._agreement(), *self._blocks()]

    def _states(self) -> Iterator[Finding]:
        footer = self._footer
        if footer.kind == DIFFERENCING:
            yield found("parent_image", "a differencing VHD stores only the changes to its parent image")
        elif footer.kind not in TYPE_NAMES:
            yield found("unknown_features", f"VHD type {footer.kind} is unknown")
        if footer.saved_state:
            yield found(
                "saved_state", "the image belongs to a machine in saved state; resume and shut it down"
            )
        if footer.checksum != footer_checksum(footer.raw):
            yield found("checksum_mismatch", "the VHD footer does not match its checksum")

    def _sizes(self) -> Iterator[Finding]:
        sizes, current = self._sizes_by_reader, self._footer.current_size
        # Writers state the largest geometry that fits into the size. So the geometry can be smaller than the
        # size, but the difference must be less than a cylinder.
        cylinder = self._footer.cylinder_bytes
        wrong = tuple(
            reader
            for reader, size in sizes.items()
            if not size or (size != current and not 0 <= current - size < cylinder)
        )
        if wrong:
            message = (
                f"the footer states {current} bytes, but a geometry of {self._footer.geometry_size} bytes"
            )
            yield found("size_mismatch", message, readers=() if len(wrong) == len(sizes) else wrong)
        if max(sizes.values()) > MAX_SECTORS * SECTOR:
            size = max(sizes.values())
            yield found(
                "structure", f"the VHD has {size} bytes, but at most {MAX_SECTORS * SECTOR} are allowed"
            )

    def _agreement(self) -> Iterator[Finding]:
        if self._size is None or not self.filled("footer"):
            return
        kind = self._footer.kind
        if not self._end_footer or (kind != FIXED and not self._apart):
            yield found("truncated", "the object does not end with a VHD footer")
        elif self.head_match and not self._footers_equal:
            same_size = self.region("header").data[48:60] == self._end_footer[48:60]
            check = "structure" if same_size else "size_mismatch"
            yield found(check, "the VHD footer at the end differs from its copy at the front")
        elif kind == FIXED and self.head_match:
            yield found("structure", "the fixed VHD begins with a footer, which only other types have there")
        elif kind == FIXED and not self._fixed_length_fits:
            size, end = self._footer.current_size, self._end_offset
            yield found("size_mismatch", f"the footer states {size} bytes, but {end} bytes precede it")
        if kind in {DYNAMIC, DIFFERENCING} and not self.head_match:
            yield found("structure", "the dynamic VHD does not begin with a copy of its footer")

    def _blocks(self) -> Iterator[Finding]:
        """Yield findings about the dynamic header and the block table, which QEMU reads to open an image."""
        if self._size is None or not self.filled("dynamic_header"):
            return
        header = self._dynamic_header
        if not header:
            if len(self.captured("dynamic_header")) < DYNAMIC_HEADER_BYTES:
                yield found("truncated", f"the dynamic header ends beyond the object's end at {self._size}")
            else:
                yield found("structure", "there is no dynamic header at the offset that the footer states")
            return
        if int.from_bytes(header[36:40], "big") != checksum(header, 36):
            yield found("checksum_mismatch", "the dynamic header does not match its checksum")
        table = BlockTable.of(header, self.captured("table"))
        if not table.block_is_sound:
            yield found(
                "structure", f"the block size {table.block} is less than 512 bytes or not a power of two"
            )
        else:
            yield from self._table(table)
        if table.end > self._size:
            yield found("truncated", f"the block table ends beyond the object's end at {self._size}")

    def _table(self, table: BlockTable) -> Iterator[Finding]:
        """Yield findings about the block table of an image with a valid block size."""
        if table.blocks_count * table.block < max(self.virtual_size, self._footer.current_size):
            yield found(
                "size_mismatch",
                f"{table.blocks_count} blocks of {table.block} bytes cannot hold the virtual size",
            )
        elif table.blocks_end > self._end_offset:
            end = self._end_offset
            yield found("truncated", f"blocks end at byte {table.blocks_end}, but the data must end at {end}")
        place = self._footer.dynamic_header
        parts = [
            Part(0, FOOTER_BYTES, "the copy of the footer"),
            Part(place, place + DYNAMIC_HEADER_BYTES, "the dynamic header"),
            *table.parts(),
        ]
        if self._end_footer and table.blocks_end <= self.actual_size:
            # If a block ends after the object's end, the object is truncated, and the finding above reports
            # this. So compare the blocks with the footer only if the object is not truncated.
            parts.append(Part(self._end_offset, self.actual_size, "the footer"))
        yield from overlaps(parts, table.blocks)

    @Remembered
    def _dynamic_header(self) -> bytes:
        """The dynamic header; empty unless all of it is held and it begins with its cookie."""
        header = self.captured("dynamic_header")
        return header if len(header) == DYNAMIC_HEADER_BYTES and header.startswith(DYNAMIC_COOKIE) else b""

    # The footers

    @Remembered
    def _footer(self) -> Footer:
        """The footer that Keyhole uses: the copy at the front, as in QEMU, or else the footer at the end."""
        return Footer.parse(self.region("header").data if self.head_match else self._end_footer)

    @Remembered
    def _end_footer(self) -> bytes:
        """The footer at the object's end, 512 or 511 bytes; empty if there is no footer.

        Until the object's length is known, the last bytes read so far are treated as the object's end.
        """
        tail = self.region("footer").data
        for start in (0, 1):
            if tail.startswith(COOKIE, start) and len(tail) - start >= FOOTER_BYTES - 1:
                return tail[start:]
        return b""

    @Remembered
    def _sizes_by_reader(self) -> dict[str, int]:
        return self._footer.sizes

    @property
    def _end_offset(self) -> int:
        return self.actual_size - len(self._end_footer)

    @property
    def _apart(self) -> bool:
        """Whether there is room for a dynamic header between the copy at the front and the footer at the end.

        If there is no room, the footer found at the end may be the copy at the front.
        """
        return self._end_offset >= FOOTER_BYTES + DYNAMIC_HEADER_BYTES

    @property
    def _footers_equal(self) -> bool:
        # A footer of 511 bytes lacks only its last byte, which is reserved. So compare only the bytes that
        # the footer at the end has.
        end = self._end_footer
        return bool(end) and self.region("header").data[: len(end)] == end

    @property
    def _fixed_length_fits(self) -> bool:
        return self._footer.current_size == self._end_offset
