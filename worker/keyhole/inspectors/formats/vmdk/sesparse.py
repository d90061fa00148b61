r"""Inspects VMware's SESparse, the space-efficient sparse extents that ESXi writes for snapshots.

All fields are little-endian. The format is not published.

Source: QEMU, block/vmdk.c, VMDKSESparseConstHeader, VMDKSESparseVolatileHeader, check_se_sparse_const_header,
check_se_sparse_volatile_header, get_cluster_offset. QEMU can read these extents but cannot write them. Places
and sizes are in sectors of 512 bytes.

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

An entry of the grain directory is either 0, or it has 0x10000000 in its upper half and the number of a grain
table in its lower half. The highest four bits of an entry in a grain table state the entry's type: 0 nothing,
1 unmapped, 2 zeros, 3 a grain. For a grain, bits 48 to 59 are the lowest 12 bits of the grain's number, and
bits 0 to 47 are its higher bits.

The descriptor of the disk is another object, and names the parent.

Wholeness: the object must contain all structures, and the grains that the highest-numbered grain table points
to. The wholeness is proven if the extent has only one grain table, and sampled if it has more tables. The
area for grains may end after the object's end, because it has room for all grains that the extent can ever
have.
"""

from array import array
from collections.abc import Iterator, Mapping
from struct import Struct
from typing import NamedTuple

from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.allocated import allocated
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.layout import Blocks, Part, overlaps
from keyhole.inspectors.region import CaptureRegion
from keyhole.inspectors.remembered import Remembered

HEADER_BYTES = 512
MAGIC = (0xCAFEBABE).to_bytes(8, "little")
VOLATILE_MAGIC = 0xCAFECAFE
VERSION = 0x0000000200000001
GRAIN_SECTORS, TABLE_SECTORS = 8, 64
GRAIN_BYTES, TABLE_BYTES = GRAIN_SECTORS * SECTOR, TABLE_SECTORS * SECTOR
TABLE_ENTRIES = TABLE_BYTES // 8
#: How many sectors of the disk a grain table maps.
TABLE_COVERS = TABLE_ENTRIES * GRAIN_SECTORS

#: The largest disk that ESXi supports, in sectors: 64 TiB (QEMU, block/vmdk.c, vmdk_add_extent).
MAX_CAPACITY = (64 << 40) // SECTOR
#: A volatile header that ends after this offset is not read. ESXi puts the volatile header into the second
#: sector.
MAX_VOLATILE_END = 256 * 1024
#: How many bytes of the grain directory are read: 8,192 entries, which map 128 GiB of the disk.
MAX_DIRECTORY_BYTES = 64 * 1024

VOLATILE = Struct("<4Q480s")
#: The areas, in the order in which the header states their places and sizes.
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
#: The places and sizes of the areas in the header.
PLACES, PLACES_AT = Struct("<16Q"), 80
#: The value of an entry whose table or grain does not exist.
FREE = (bytes(8),)
ALLOCATED_TABLE = 0x10000000
EMPTY, GRAIN = 0, 3


class Area(NamedTuple):
    """An area of the extent: its first sector and its number of sectors."""

    start: int
    sectors: int

    @property
    def end(self) -> int:
        """The first sector after the area."""
        return self.start + self.sectors


class SESparseInspector(HeaderInspector):
    """Inspects SESparse extents.

    The two headers state the size, and whether the journal must be replayed. The map points to the grains.
    """

    NAME = "vmdk"
    HEADER_LENGTH = HEADER_BYTES
    SIGNATURES = (MAGIC,)

    @property
    def virtual_size(self) -> int:
        """The capacity in bytes; zero until the header is read."""
        return self._capacity * SECTOR if self._present else 0

    @property
    def subformat(self) -> str | None:
        """The `createType` of disks with SESparse extents; `None` until the header is read."""
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
        """Proven if the extent has only one grain table, sampled if it has more tables.

        Unchecked if a structure is missing or the journal must be replayed.
        """
        volatile = self._volatile
        if self._size is None or not self.filled("table") or not volatile or volatile[3]:
            return Wholeness.UNCHECKED
        if max(end for _, end in self._places()) > self._size:
            return Wholeness.UNCHECKED
        seen = 8 * self._tables_needed <= MAX_DIRECTORY_BYTES and len(self._tables) <= 1
        return Wholeness.PROVEN if seen else Wholeness.SAMPLED

    def details(self) -> Mapping[str, object]:
        """Return the version, and the grain size in bytes."""
        if not self._present:
            return {}
        version = f"{self._version >> 32}.{self._version & 0xFFFFFFFF}"
        return {"version": version, "grain_size": self._u64(24) * SECTOR}

    def checks(self) -> list[Finding]:
        """Return findings about unknown features and contradictions."""
        if not self.format_match or not self.filled("header"):
            return []
        if not self._present:
            return [found("truncated", "the object ends within the SESparse header")]
        return [*self._states(), *self._contradictions(), *self._truncation()]

    def _states(self) -> Iterator[Finding]:
        yield found(
            "unsupported_subformat",
            "this is one extent of a disk, whose descriptor is a separate object",
        )
        if self._version != VERSION:
            yield found("unknown_features", f"SESparse version {self._version:#x} is unknown")
        if self._flags or any(self._rest):
            yield found("unknown_features", "flags or reserved fields of the header are not zero")
        volatile = self._volatile
        if volatile and any(volatile[4]):
            yield found("unknown_features", "reserved fields of the volatile header are not zero")
        if volatile and volatile[3]:
            yield found("log_replay", "the journal must be replayed before the content is correct")

    def _contradictions(self) -> Iterator[Finding]:
        if not self._sizes_known:
            yield found(
                "structure", "the grain size is not 8 sectors, or the grain table size is not 64 sectors"
            )
        if self._capacity > MAX_CAPACITY:
            yield found("structure", f"a capacity of {self._capacity} sectors is more than 64 TiB")
        if not self._understood:
            return
        if not self._volatile_followed:
            yield found("structure", "the volatile header is not near the front of the extent")
        elif len(self.captured("volatile")) == HEADER_BYTES and not self._volatile:
            yield found("structure", "there is no volatile header in the sector that the header states")
        yield from self._misplaced()
        if len(self._tables) < len(self._directory_entries):
            yield found("structure", "the grain directory has an entry of an unknown type")
        yield from overlaps((), Blocks("a grain table", self._tables, 1))
        yield from overlaps((), Blocks("a grain", self._grains, 1))
        kinds = {entry >> 60 for entry in self._table_entries}
        if max(kinds, default=0) > GRAIN:
            yield found("structure", "the grain table has an entry of an unknown type")
        if EMPTY in kinds:
            yield found("structure", "the grain table has an entry of type 0 that is not zero")

    def _misplaced(self) -> Iterator[Finding]:
        """Yield findings about areas that are short or overlap, and about misplaced tables and grains."""
        if self._area("grain directory").sectors * SECTOR < 8 * self._tables_needed:
            yield found("structure", "the grain directory is too short for the capacity")
        areas = ((name, self._area(name)) for name in AREAS)
        parts = [Part(area.start * SECTOR, area.end * SECTOR, f"the {name}") for name, area in areas]
        yield from overlaps([Part(0, HEADER_BYTES, "the header"), *parts])
        if self._table_end > self._area("grain tables").end * SECTOR:
            yield found(
                "structure", "the grain directory points to a table outside the area for grain tables"
            )
        if self._grains and self._grain_end > self._area("grains").end * SECTOR:
            yield found("structure", "the grain table points to a grain outside the area for grains")

    def _truncation(self) -> Iterator[Finding]:
        if self._size is None or not self._understood:
            return
        for name, end in self._places():
            if end > self._size:
                yield found("truncated", f"the {name} ends at byte {end}, the object ends at {self._size}")

    def _places(self) -> Iterator[tuple[str, int]]:
        """Yield the structures that the object must contain, each with its end in bytes."""
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
        """Whether Keyhole supports the header's version and sizes, so that it can use the other fields."""
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
        """The bytes of the header that must be zero."""
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
        """The fields of the volatile header; `None` if it was not read, or has another magic."""
        data = self.captured("volatile") if self.has_region("volatile") else b""
        fields = VOLATILE.unpack(data) if len(data) == HEADER_BYTES else None
        return fields if fields and fields[0] == VOLATILE_MAGIC else None

    def _area(self, name: str) -> Area:
        return self._areas[name]

    @Remembered
    def _areas(self) -> dict[str, Area]:
        """The areas by name."""
        numbers = PLACES.unpack_from(self.captured("header"), PLACES_AT)
        return dict(zip(AREAS, map(Area, numbers[::2], numbers[1::2]), strict=True))

    # The map of the grains

    @Remembered
    def _directory_entries(self) -> "array[int]":
        """The entries other than zero in the part of the grain directory that was read."""
        return allocated("Q", "little", self.captured("directory"), FREE)

    @Remembered
    def _table_entries(self) -> "array[int]":
        """The entries other than zero in the highest-numbered grain table."""
        return allocated("Q", "little", self.captured("table"), FREE)

    @Remembered
    def _tables(self) -> "array[int]":
        """The numbers of the grain tables, according to the part of the directory that was read."""
        entries = self._directory_entries
        return array("Q", [entry & 0xFFFFFFFF for entry in entries if entry >> 32 == ALLOCATED_TABLE])

    @Remembered
    def _grains(self) -> "array[int]":
        """The numbers of the grains that the highest-numbered grain table points to."""
        grains = [
            (entry >> 48 & 0xFFF) | (entry & 0xFFFFFFFFFFFF) << 12
            for entry in self._table_entries
            if entry >> 60 == GRAIN
        ]
        return array("Q", grains)

    @property
    def _table_end(self) -> int:
        """The end of the highest-numbered grain table in bytes; the area's start if there is no table."""
        return self._area("grain tables").start * SECTOR + (max(self._tables, default=-1) + 1) * TABLE_BYTES

    @property
    def _grain_end(self) -> int:
        """The end of the highest-numbered grain in bytes; the area's start if there is no grain."""
        return self._area("grains").start * SECTOR + (max(self._grains, default=-1) + 1) * GRAIN_BYTES
