r"""Inspects VMware's COWD, the copy-on-write extents that ESX writes for vmfsSparse disks.

All fields are little-endian.

Source: VMware, "Virtual Disk Format 5.0", section "ESX Server Sparse Extents"; libvmdk's documentation,
section "The COWD sparse extent data file"; QEMU, block/vmdk.c, vmdk_open_vmfs_sparse. A sector has 512 bytes.

| offset | bytes | field |
|---|---|---|
| 0 | 4 | magic `COWD` |
| 4 | 4 | version, 1 |
| 8 | 4 | flags: 1 root, 2 can be checked, 4 inconsistent |
| 12 | 4 | capacity in sectors |
| 16 | 4 | grain size in sectors |
| 20 | 4 | first sector of the grain directory, 4 |
| 24 | 4 | number of entries in the grain directory |
| 28 | 4 | next free sector |
| 32 | 12 | in a root extent: cylinders, heads, sectors; zeros up to 1056 |
| 32 | 1024 | in any other extent: the parent's file name |
| 1056 | 4 | the parent's generation |
| 1060 | 4 | generation |
| 1064 | 60 | name |
| 1124 | 512 | description |
| 1648 | 4 | not zero if the extent was not closed cleanly |
| 2048 | | end of the header |

The grain directory points to grain tables of 4,096 entries, and the tables point to grains. Every entry is a
sector number of 4 bytes, or 0 if there is no table or grain.

The descriptor of the disk is another object. In newer disks only the descriptor names the parent, so an
extent can have a parent that the extent does not name. Nevertheless, QEMU searches the 20 sectors after the
first sector of the extent for a descriptor, and opens the parent that this descriptor names.

Wholeness: the object must contain the grains that the table at the highest sector points to. Writers append
tables and grains, so this table most probably points to the last grain. The wholeness is proven if the extent
has only one table, and sampled if it has more tables.
"""

from array import array
from collections.abc import Iterator, Mapping

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.allocated import allocated
from keyhole.inspectors.formats.ascending import largest
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.layout import Blocks, Part, overlaps
from keyhole.inspectors.formats.vmdk import descriptor as vmdk_descriptor
from keyhole.inspectors.formats.vmdk.descriptor import SHOWN_NAME
from keyhole.inspectors.region import CaptureRegion
from keyhole.inspectors.remembered import Remembered
from keyhole.inspectors.text import printable

MAGIC = b"COWD"
HEADER_BYTES = 2048
VERSION = 1
ROOT, CHECK_CAPABLE, INCONSISTENT = 1, 2, 4

NAME_AT, NAME_END = 32, 1056
#: The length in bytes of the geometry in a root extent. Other extents contain the parent's name in this
#: place.
GEOMETRY_BYTES = 12

#: The bytes that QEMU searches for the name of a parent (block/vmdk.c, vmdk_parent_open).
MENTIONS_AT, MENTIONS_BYTES = SECTOR, 20 * SECTOR

TABLE_ENTRIES = 4096
TABLE_BYTES = 4 * TABLE_ENTRIES
#: The largest grain that QEMU accepts (block/vmdk.c, vmdk_add_extent). The grain size must be a power of two.
MAX_GRAIN_SECTORS = 0x200000
#: The largest number of entries in a grain directory that QEMU accepts (block/vmdk.c, vmdk_add_extent).
MAX_ENTRIES = 32 * 1024 * 1024
#: How many bytes of the grain directory are read: 16,384 entries, which map 32 GiB of the disk at the usual
#: grain size of one sector.
MAX_DIRECTORY_BYTES = 64 * 1024

#: The value of an entry whose table or grain does not exist.
FREE = (bytes(4),)
VMFS_SPARSE = "vmfsSparse"


class COWDInspector(HeaderInspector):
    """Inspects COWD extents: the header states the size and the parent, and a map points to the grains."""

    NAME = "vmdk"
    HEADER_LENGTH = HEADER_BYTES
    SIGNATURES = (MAGIC,)

    @property
    def virtual_size(self) -> int:
        """The capacity in bytes; zero until the header is read."""
        return self._u32(12) * SECTOR if self._present else 0

    @property
    def subformat(self) -> str | None:
        """The `createType` of disks with COWD extents; `None` until the header is read."""
        return VMFS_SPARSE if self._present else None

    def post_process(self) -> None:
        """Declare the sectors that QEMU searches, the grain directory, then the grain table to read."""
        if not self._present:
            return
        if not self.has_region("mentions"):
            self.new_region("mentions", CaptureRegion(MENTIONS_AT, MENTIONS_BYTES))
        if self._grain_in_bounds and not self.has_region("directory"):
            length = min(4 * self._entries_used, MAX_DIRECTORY_BYTES)
            self.new_region("directory", CaptureRegion(self._u32(20) * SECTOR, length))
        elif self.filled("directory") and not self.has_region("table"):
            highest = largest(self._tables)
            self.new_region("table", CaptureRegion(highest * SECTOR, TABLE_BYTES if highest else 0))

    @property
    def wholeness(self) -> Wholeness:
        """Proven if the extent has only one grain table, sampled if it has more tables.

        Unchecked if a structure is missing or the extent was not closed cleanly.
        """
        if self._size is None or not self.filled("table") or self._unclean:
            return Wholeness.UNCHECKED
        if max(end for _, end in self._places()) > self._size:
            return Wholeness.UNCHECKED
        seen = 4 * self._entries_used <= MAX_DIRECTORY_BYTES and len(self._tables) <= 1
        return Wholeness.PROVEN if seen else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """Return the version, the grain size, whether the extent is a root, and the name of its parent."""
        if not self._present:
            return {}
        facts: dict[str, object] = {
            "version": self._u32(4),
            "grain_size": self._u32(16) * SECTOR,
            "root": bool(self._u32(8) & ROOT),
        }
        if parent := self._parent:
            facts["parent_file_name"] = parent
        return facts

    def checks(self) -> list[Finding]:
        """Return findings about other files that the image needs, unknown features, and contradictions."""
        if not self.format_match or not self.filled("header"):
            return []
        if not self._present:
            return [found("truncated", "the object ends within the COWD header")]
        return [*self._leads_outside(), *self._states(), *self._contradictions(), *self._truncation()]

    def _leads_outside(self) -> Iterator[Finding]:
        mentioned = vmdk_descriptor.parse(self.captured("mentions")).parent()
        if self._parent is not None:
            named = f": {self._parent[:SHOWN_NAME]!r}" if self._parent else ", which it does not name"
            yield found("parent_image", f"the extent stores only the changes to its parent image{named}")
        if mentioned:
            yield found("parent_image", f"QEMU reads a descriptor in the extent: {mentioned.message}")

    def _states(self) -> Iterator[Finding]:
        yield found(
            "unsupported_subformat",
            "this is one extent of a disk, whose descriptor is a separate object",
        )
        if self._u32(4) != VERSION:
            yield found("unknown_features", f"COWD version {self._u32(4)} is unknown")
        if unknown := self._u32(8) & ~(ROOT | CHECK_CAPABLE | INCONSISTENT):
            yield found("unknown_features", f"flags {unknown:#x} are unknown")
        if self._unclean:
            yield found("dirty", "the extent was not closed cleanly")

    def _contradictions(self) -> Iterator[Finding]:
        if not self._grain_in_bounds:
            yield found("structure", f"a grain of {self._u32(16)} sectors is out of bounds")
            return
        entries, start = self._u32(24), self._u32(20) * SECTOR
        if not self._entries_needed <= entries <= MAX_ENTRIES:
            needed = self._entries_needed
            yield found(
                "structure", f"the grain directory has {entries} entries, the capacity needs {needed}"
            )
        yield from overlaps(
            [
                Part(0, HEADER_BYTES, "the header"),
                Part(start, start + 4 * entries, "the grain directory"),
            ],
            Blocks("a grain table", self._tables, TABLE_BYTES, unit=SECTOR),
            Blocks("a grain", self._grains, self._u32(16) * SECTOR, unit=SECTOR),
        )

    def _truncation(self) -> Iterator[Finding]:
        if self._size is None:
            return
        for name, end in self._places():
            if end > self._size:
                yield found("truncated", f"the {name} ends at byte {end}, the object ends at {self._size}")

    def _places(self) -> Iterator[tuple[str, int]]:
        """Yield the structures that the object must contain, each with its end in bytes."""
        yield "grain directory", self._u32(20) * SECTOR + 4 * self._u32(24)
        yield "part in use", self._u32(28) * SECTOR
        if last := largest(self._tables):
            yield "last grain table", last * SECTOR + TABLE_BYTES
        if last := largest(self._grains):
            yield "last grain", (last + self._u32(16)) * SECTOR

    # The header's fields

    @property
    def _present(self) -> bool:
        return self.format_match and len(self.captured("header")) == HEADER_BYTES

    @property
    def _parent(self) -> str | None:
        """The parent's name, which can be empty; `None` if a root extent contains only its geometry here."""
        area = self.captured("header")[NAME_AT:NAME_END]
        if self._u32(8) & ROOT:
            # A root extent has a geometry here, followed by zeros. If there are other bytes after the
            # geometry, report them as a name, because a reader that ignores the flag for root extents opens a
            # parent of this name.
            return printable(area.split(b"\0", 1)[0]) if any(area[GEOMETRY_BYTES:]) else None
        return printable(area.split(b"\0", 1)[0])

    @property
    def _unclean(self) -> bool:
        return bool(self._u32(1648) or self._u32(8) & INCONSISTENT)

    @property
    def _grain_in_bounds(self) -> bool:
        grain = self._u32(16)
        return 1 <= grain <= MAX_GRAIN_SECTORS and not grain & (grain - 1)

    @property
    def _entries_needed(self) -> int:
        """How many entries the grain directory needs for the capacity."""
        return -(-self._u32(12) // (self._u32(16) * TABLE_ENTRIES))

    @property
    def _entries_used(self) -> int:
        return min(self._entries_needed, self._u32(24))

    # The map of the grains

    @Remembered
    def _tables(self) -> "array[int]":
        """The first sectors of the grain tables, according to the part of the directory that was read."""
        return self._allocated("directory")

    @Remembered
    def _grains(self) -> "array[int]":
        """The first sectors of the grains that the table at the highest sector points to."""
        return self._allocated("table")

    def _allocated(self, name: str) -> "array[int]":
        """Return the u32 entries in a region, which contains the grain directory or a grain table."""
        return allocated("I", "little", self.captured(name), FREE)
