r"""VMware SESparse, the space-efficient sparse extent that ESXi writes for snapshots.

All fields are little-endian. The format is not published.

Source: QEMU, block/vmdk.c, VMDKSESparseConstHeader, VMDKSESparseVolatileHeader,
check_se_sparse_const_header, check_se_sparse_volatile_header, get_cluster_offset. QEMU reads such extents but
does not write them. Places and sizes are in sectors of 512 bytes.

| offset | bytes | field of the constant header |
|---|---|---|
| 0 | 8 | magic 0xCAFEBABE |
| 8 | 8 | version 0x0000000200000001 |
| 16 | 8 | capacity |
| 24 | 8 | grain size, 8 |
| 32 | 8 | grain table size, 64 |
| 40 | 8 | flags, 0 |
| 48 | 32 | reserved |
| 80 | 16 | volatile header: place, size |
| 96 | 16 | journal header: place, size |
| 112 | 16 | journal: place, size |
| 128 | 16 | grain directory: place, size |
| 144 | 16 | grain tables: place, size |
| 160 | 16 | bitmap of free grains: place, size |
| 176 | 16 | back map: place, size |
| 192 | 16 | grains: place, size |
| 208 | 304 | zeros |

| offset | bytes | field of the volatile header |
|---|---|---|
| 0 | 8 | magic 0xCAFECAFE |
| 8 | 8 | number of the next free grain table |
| 16 | 8 | number of the next transaction |
| 24 | 8 | not zero if the journal must be replayed |
| 32 | 480 | zeros |

A directory entry is 0, or it has 0x10000000 in its upper half and the number of a grain table in its lower
half. The highest four bits of a grain table's entry state its kind: 0 nothing, 1 unmapped, 2 zeros, 3 a
grain. Bits 48 to 59 of that entry are the lowest 12 bits of the grain's number; bits 0 to 47 are the others.

The descriptor, which names a parent, is another object.

Wholeness: the structures must lie in the object, and so must the grains that the highest-numbered grain table
points to. This is a proof if it is the only table, and a sample if there are more. The area of the grains may
end beyond the object, because the header states room for as many grains as there may ever be.
"""

from array import array
from collections.abc import Iterator, Mapping
from struct import Struct
from typing import NamedTuple

from keyhole.inspectors.base import Remembered
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR, little_endian
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.layout import Blocks, Part, overlaps
from keyhole.inspectors.region import CaptureRegion

HEADER_BYTES = 512
MAGIC = (0xCAFEBABE).to_bytes(8, "little")
VOLATILE_MAGIC = 0xCAFECAFE
VERSION = 0x0000000200000001
GRAIN_SECTORS, TABLE_SECTORS = 8, 64
GRAIN_BYTES, TABLE_BYTES = GRAIN_SECTORS * SECTOR, TABLE_SECTORS * SECTOR
TABLE_ENTRIES = TABLE_BYTES // 8
#: The sectors that a grain table maps.
TABLE_COVERS = TABLE_ENTRIES * GRAIN_SECTORS

#: The largest disk that ESXi supports, 64 TiB (QEMU, block/vmdk.c, vmdk_add_extent).
MAX_CAPACITY = (64 << 40) // SECTOR
#: ESXi puts the volatile header into the second sector. A volatile header that ends beyond this is not read.
MAX_VOLATILE_END = 256 * 1024
#: How much of the grain directory is held: 8,192 entries, 128 GiB of disk.
MAX_DIRECTORY_BYTES = 64 * 1024

VOLATILE = Struct("<4Q480s")
#: The areas in the order in which the header states them, each as place and size.
AREAS = (
    "volatile header",
    "journal header",
    "journal",
    "grain directory",
    "grain tables",
    "bitmap of free grains",
    "back map",
    "grains",
)
ALLOCATED_TABLE = 0x10000000
EMPTY, GRAIN = 0, 3


class Area(NamedTuple):
    """A part of the extent, in sectors."""

    start: int
    sectors: int

    @property
    def end(self) -> int:
        """The first sector after the area."""
        return self.start + self.sectors


class SESparseInspector(HeaderInspector):
    """VMware SESparse: two headers give size and state, the grain map tells whether the extent is whole."""

    NAME = "vmdk"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self.new_region("header", CaptureRegion(0, HEADER_BYTES))

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Whether an object that begins with `prefix` has SESparse's magic."""
        return prefix.startswith(MAGIC)

    @property
    def virtual_size(self) -> int:
        """The capacity in bytes; zero until the header is read."""
        return self._capacity * SECTOR if self._present else 0

    @property
    def subformat(self) -> str | None:
        """The `createType` of the disks that have such extents; `None` until the header is read."""
        return "seSparse" if self._present else None

    def post_process(self) -> None:
        """Declare the volatile header and the grain directory, then the highest-numbered grain table."""
        if not self._present or not self._understood:
            return
        if not self.has_region("volatile"):
            length = HEADER_BYTES if self._volatile_followed else 0
            self.new_region("volatile", CaptureRegion(self._area("volatile header").start * SECTOR, length))
            directory = self._area("grain directory")
            length = min(8 * self._tables_needed, directory.sectors * SECTOR, MAX_DIRECTORY_BYTES)
            self.new_region("directory", CaptureRegion(directory.start * SECTOR, length))
        elif self.filled("directory") and not self.has_region("table"):
            place = self._table_end - TABLE_BYTES
            self.new_region("table", CaptureRegion(max(place, 0), TABLE_BYTES if self._tables else 0))

    @property
    def wholeness(self) -> Wholeness:
        """Proven if the only table was read, sampled if there are more; unchecked if anything is missing."""
        volatile = self._volatile
        if self._size is None or not self.filled("table") or not volatile or volatile[3]:
            return Wholeness.UNCHECKED
        if max(end for _, end in self._places()) > self._size:
            return Wholeness.UNCHECKED
        seen = 8 * self._tables_needed <= MAX_DIRECTORY_BYTES and len(self._tables) <= 1
        return Wholeness.PROVEN if seen else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """Version and grain size."""
        if not self._present:
            return {}
        version = f"{self._version >> 32}.{self._version & 0xFFFFFFFF}"
        return {"version": version, "grain_size": self._u64(24) * SECTOR}

    def checks(self) -> list[Finding]:
        """Findings on unknown features and contradictions."""
        if not self.format_match or not self.filled("header"):
            return []
        if not self._present:
            return [found("truncated", "the object ends within the SESparse header")]
        return [*self._states(), *self._contradictions(), *self._truncation()]

    def _states(self) -> Iterator[Finding]:
        yield found(
            "unsupported_subformat", "this is one extent of a disk; the other parts are named in a descriptor"
        )
        if self._version != VERSION:
            yield found("unknown_features", f"SESparse version {self._version:#x} is unknown")
        if self._flags or any(self._rest):
            yield found("unknown_features", "flags or reserved fields of the header are unknown")
        volatile = self._volatile
        if volatile and any(volatile[4]):
            yield found("unknown_features", "reserved fields of the volatile header are unknown")
        if volatile and volatile[3]:
            yield found("log_replay", "the journal must be replayed before the content is right")

    def _contradictions(self) -> Iterator[Finding]:
        if not self._sizes_known:
            yield found("structure", "the grain size is not 8 sectors, or that of a grain table not 64")
        if self._capacity > MAX_CAPACITY:
            yield found("structure", f"a capacity of {self._capacity} sectors is more than 64 TiB")
        if not self._understood:
            return
        if not self._volatile_followed:
            yield found("structure", "the volatile header does not lie near the front")
        elif len(self.captured("volatile")) == HEADER_BYTES and not self._volatile:
            yield found("structure", "the volatile header is not where it should be")
        yield from self._misplaced()
        if any(entry and entry >> 32 != ALLOCATED_TABLE for entry in self._entries("directory")):
            yield found("structure", "the grain directory has an entry of an unknown kind")
        yield from overlaps((), Blocks("a grain table", self._tables, 1))
        yield from overlaps((), Blocks("a grain", self._grains, 1))
        kinds = {entry >> 60 for entry in self._entries("table")}
        if kinds and max(kinds) > GRAIN:
            yield found("structure", "the grain table has an entry of an unknown kind")
        if any(entry >> 60 == EMPTY and entry for entry in self._entries("table")):
            yield found("structure", "the grain table has an entry of no kind")

    def _misplaced(self) -> Iterator[Finding]:
        """Findings on areas that are too small or overlap, and on tables and grains outside their areas."""
        if self._area("grain directory").sectors * SECTOR < 8 * self._tables_needed:
            yield found("structure", "the grain directory is too short for the capacity")
        areas = ((name, self._area(name)) for name in AREAS)
        parts = [Part(area.start * SECTOR, area.end * SECTOR, f"the {name}") for name, area in areas]
        yield from overlaps([Part(0, HEADER_BYTES, "the header"), *parts])
        if self._table_end > self._area("grain tables").end * SECTOR:
            yield found("structure", "the grain directory leads to a table outside the grain tables")
        if self._grains and self._grain_end > self._area("grains").end * SECTOR:
            yield found("structure", "the grain table leads to a grain outside the grains")

    def _truncation(self) -> Iterator[Finding]:
        if self._size is None or not self._understood:
            return
        for name, end in self._places():
            if end > self._size:
                yield found("truncated", f"the {name} ends at byte {end}, the object at {self._size}")

    def _places(self) -> Iterator[tuple[str, int]]:
        """The structures that the object must hold, each with its end in bytes."""
        for name in AREAS:
            if name != "grains":
                yield name, self._area(name).end * SECTOR
        if self._tables:
            yield "highest grain table", self._table_end
        if self._grains:
            yield "last grain", self._grain_end

    # The headers' fields

    @property
    def _present(self) -> bool:
        return self.format_match and len(self.captured("header")) == HEADER_BYTES

    @property
    def _understood(self) -> bool:
        """Whether the header's version and sizes are the known ones, so that its other fields can be used."""
        return self._version == VERSION and self._sizes_known and self._capacity <= MAX_CAPACITY

    @property
    def _sizes_known(self) -> bool:
        return self._u64(24) == GRAIN_SECTORS and self._u64(32) == TABLE_SECTORS

    @property
    def _version(self) -> int:
        return self._u64(8)

    @property
    def _capacity(self) -> int:
        return self._u64(16)

    @property
    def _flags(self) -> int:
        return self._u64(40)

    @property
    def _rest(self) -> bytes:
        """The reserved bytes of the header."""
        header = self.captured("header")
        return header[48:80] + header[208:]

    @property
    def _tables_needed(self) -> int:
        """How many grain tables the capacity needs."""
        return -(-self._capacity // TABLE_COVERS)

    @property
    def _volatile_followed(self) -> bool:
        return (self._area("volatile header").start * SECTOR) + HEADER_BYTES <= MAX_VOLATILE_END

    @property
    def _volatile(self) -> tuple[int, int, int, int, bytes] | None:
        """The fields of the volatile header; `None` if it is not there."""
        data = self.captured("volatile") if self.has_region("volatile") else b""
        fields = VOLATILE.unpack(data) if len(data) == HEADER_BYTES else None
        return fields if fields and fields[0] == VOLATILE_MAGIC else None

    def _area(self, name: str) -> Area:
        at = 80 + 16 * AREAS.index(name)
        return Area(self._u64(at), self._u64(at + 8))

    # The map of the grains

    @Remembered
    def _tables(self) -> list[int]:
        """The numbers of the grain tables, as far as the directory is held."""
        return [entry & 0xFFFFFFFF for entry in self._entries("directory") if entry >> 32 == ALLOCATED_TABLE]

    @Remembered
    def _grains(self) -> list[int]:
        """The numbers of the grains that the highest-numbered grain table points to."""
        return [
            (entry >> 48 & 0xFFF) | (entry & 0xFFFFFFFFFFFF) << 12
            for entry in self._entries("table")
            if entry >> 60 == GRAIN
        ]

    @property
    def _table_end(self) -> int:
        """The end of the highest-numbered grain table in bytes; if there is none, the tables' start."""
        return self._area("grain tables").start * SECTOR + (max(self._tables, default=-1) + 1) * TABLE_BYTES

    @property
    def _grain_end(self) -> int:
        """The end of the highest-numbered grain in bytes; if there is none, the grains' start."""
        return self._area("grains").start * SECTOR + (max(self._grains, default=-1) + 1) * GRAIN_BYTES

    def _entries(self, name: str) -> "array[int]":
        """The u64 entries in a region that holds the grain directory or a grain table."""
        return little_endian("Q", self.captured(name) if self.has_region(name) else b"")
