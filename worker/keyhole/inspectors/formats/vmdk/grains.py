"""The map of a sparse VMDK: two grain directories, their grain tables, and the grains in these tables.

Source: VMware, "Virtual Disk Format 5.0", sections "Grain Directory" and "Grain Table"; QEMU, block/vmdk.c,
vmdk_open_vmdk4, get_cluster_offset.

Every entry is a sector number of 4 bytes. The redundant directory comes first and points to tables of its
own. QEMU reads only the grain directory, but writes both. Writers put the tables in order right after their
directory, so Keyhole requests a directory and its tables together, and the map costs one range. Tables
elsewhere are requested once the directory is read.

What is held:

- the tables of the grain directory if there is room for them, else the first and the last of them;
- the redundant tables if there is room for both sets, else the first redundant ones;
- if a disk has both sets and there is room for neither, the first tables of both and the last redundant ones,
  because these lie right before the grain directory and cost no extra request;
- if there is a footer, which follows all tables, the tables within the last `TAIL_BYTES`;
- all tables if the inspector is `thorough`.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from keyhole.inspectors.base import THOROUGH_BYTES, Remembered
from keyhole.inspectors.effort import CALL, spend
from keyhole.inspectors.fields import SECTOR, little_endian
from keyhole.inspectors.findings import Finding
from keyhole.inspectors.formats.ascending import holds, unique
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.layout import Blocks, Part, over, overlaps
from keyhole.inspectors.formats.scattered import ScatteredRegion
from keyhole.inspectors.formats.vmdk.header import SparseHeader
from keyhole.inspectors.region import ByteRange, CaptureRegion, TailRegion

FOOTER_BYTES = 3 * SECTOR
#: The bytes after the sector count in a footer's marker: the size of the data, 0, and the type, 3.
FOOTER_MARK = bytes(4) + (3).to_bytes(4, "little")
#: How much of the end is held if there is a footer. The grain directory, 128 bytes for each GiB, lies there.
TAIL_BYTES = 8 * 1024

#: How much of a grain directory is held: 16,384 entries, half a TiB at the usual 32 MiB each.
MAX_DIRECTORY_BYTES = 64 * 1024
#: All tables are held if they and the descriptor together take at most this much. A table of 2 KiB maps
#: 32 MiB of disk. So the tables of 20 GiB fit beside a usual descriptor, or of 10 GiB if there are redundant
#: tables.
MAX_HELD_BYTES = 1400 * 1024
#: If not all tables are held, this many bytes of the first and of the last tables are held.
MAX_SAMPLE_BYTES = 64 * 1024
#: Readers use 32 bits for a sector number, so there are this many.
SECTORS = 1 << 32


class Directory(NamedTuple):
    """A grain directory, which begins at `sector`. The names of its regions begin with `prefix`.

    Findings call the directory `name`, and each of its tables `table_name`.
    """

    prefix: str
    sector: int
    name: str
    table_name: str


class GrainMapInspector(HeaderInspector):
    """Reads the map of a sparse VMDK, starting at the region `header`, which a subclass declares."""

    # Declaring what is read

    def _declare_map(self, described: int) -> None:
        """Declare the regions of the map. The image's descriptor takes `described` bytes."""
        header = self._header
        if header is None:
            return
        if header.has_footer and not self.has_region("footer"):
            self.new_region("footer", TailRegion(TAIL_BYTES))
        for directory in self._directories:
            prefix = directory.prefix
            if not self.has_region(f"{prefix}directory"):
                self._declare_directory(directory, described)
            elif self.filled(f"{prefix}directory") and not self.has_region(f"{prefix}tables_apart"):
                pieces = self._apart(directory, described)
                self.new_region(f"{prefix}tables_apart", ScatteredRegion(pieces))

    def _declare_directory(self, directory: Directory, described: int) -> None:
        """Declare a directory and the tables right after it."""
        if self._footer and not self.thorough:
            return
        place, most = directory.sector * SECTOR, THOROUGH_BYTES // 2 if self.thorough else MAX_DIRECTORY_BYTES
        self.new_region(
            f"{directory.prefix}directory", CaptureRegion(place, min(self._directory_bytes, most))
        )
        # With a footer, tables lie among the grains.
        whole = 0 if self._footer else self._tables_bytes
        start = place + -(-self._directory_bytes // SECTOR) * SECTOR
        first = whole if whole <= self._room(directory, described) else MAX_SAMPLE_BYTES
        last = MAX_SAMPLE_BYTES if first < whole and self._ends_near(directory, described) else 0
        self.new_region(f"{directory.prefix}tables", CaptureRegion(start, first))
        self.new_region(f"{directory.prefix}last_tables", CaptureRegion(start + whole - last, last))

    def _apart(self, directory: Directory, described: int) -> Iterable[ByteRange]:
        """A directory's tables if they are not where writers put them; the highest if there are too many."""
        if self._in_order(directory):
            return []
        tables = unique(self._tables(directory))
        if not tables:
            return []
        most = max(self._room(directory, described), MAX_SAMPLE_BYTES) // self._table_bytes
        return (ByteRange(table * SECTOR, self._table_bytes) for table in tables[-most:])

    def _in_order(self, directory: Directory) -> bool:
        """Whether the held part of a directory points to tables in order, right after the directory."""
        tables = self.region(f"{directory.prefix}tables")
        if not tables.length:
            return False
        entries, step = self._entries(f"{directory.prefix}directory"), self._table_bytes // SECTOR
        first = tables.offset // SECTOR
        return entries == array("I", range(first, min(first + step * len(entries), SECTORS), step))

    def _room(self, directory: Directory, described: int) -> int:
        """How many bytes of a directory's tables can be held."""
        if self.thorough:
            return THOROUGH_BYTES // 2
        room = MAX_HELD_BYTES - described
        return room - self._tables_bytes if directory.prefix else room

    def _ends_near(self, directory: Directory, described: int) -> bool:
        """Whether not all tables of a directory are held, and the last ones cost no extra request."""
        sampled = self._tables_bytes > MAX_HELD_BYTES - described
        return sampled and bool(directory.prefix) == (len(self._directories) > 1)

    # What is held

    @Remembered
    def _header(self) -> SparseHeader | None:
        """The header at the front; `None` until all of it is read."""
        return SparseHeader.parse(self.region("header").data)

    @Remembered
    def _footer(self) -> SparseHeader | None:
        """The header in the footer; `None` unless the footer has its marker and the end-of-stream marker."""
        footer = self.captured("footer")[-FOOTER_BYTES:]
        if len(footer) < FOOTER_BYTES or any(footer[2 * SECTOR :]):
            return None
        marked = footer[8:16] == FOOTER_MARK
        return SparseHeader.parse(footer[SECTOR : 2 * SECTOR]) if marked else None

    @Remembered
    def _directories(self) -> list[Directory]:
        """The directory that readers use, and the redundant one if there is one."""
        header = self._footer or self._header
        if header is None or (header.has_footer and not self._footer):
            return []
        directories = [Directory("", header.directory, "the grain directory", "a grain table")]
        if not self._footer and header.first_directory != header.directory:
            place, name = header.first_directory, "the redundant grain directory"
            directories.append(Directory("redundant_", place, name, "a redundant grain table"))
        return directories

    @property
    def _directory_bytes(self) -> int:
        return 4 * self._header.tables_needed if self._header else 0

    @property
    def _table_bytes(self) -> int:
        return self._header.table_bytes if self._header else 0

    @property
    def _tables_bytes(self) -> int:
        """The bytes of all tables of a directory."""
        return self._table_bytes * self._header.tables_needed if self._header else 0

    @property
    def _map_seen(self) -> bool:
        """Whether all regions of the map are filled."""
        return all(
            self.filled(f"{directory.prefix}{part}")
            for directory in self._directories
            for part in ("directory", "tables", "last_tables", "tables_apart")
        )

    @property
    def _map_whole(self) -> bool:
        """Whether all tables are held. Only a thorough inspector also needs the redundant ones."""
        directories = self._directories if self.thorough else self._directories[:1]
        return bool(directories) and self._map_seen and all(map(self._held_whole, directories))

    def _held_whole(self, directory: Directory) -> bool:
        prefix = directory.prefix
        if self.region(f"{prefix}directory").length < self._directory_bytes:
            return False
        if self._in_order(directory):
            return self.region(f"{prefix}tables").length == self._tables_bytes
        whole, end, length = 0, 0, self._table_bytes
        for sector in unique(self._tables(directory)):
            start, end = max(sector * SECTOR, end), sector * SECTOR + length
            whole += end - start
        return self.region(f"{prefix}tables_apart").length == whole

    def _entries(self, name: str) -> "array[int]":
        """The entries in a region that holds a grain directory or grain tables."""
        return _entries(self.captured(name) if self.has_region(name) else b"")

    def _tables(self, directory: Directory) -> "array[int]":
        """The sectors of a directory's tables, as far as the directory is held."""
        name = f"{directory.prefix}directory"
        if self.has_region(name):
            entries = self._entries(name)
        else:
            tail = self.region("footer")
            entries = _entries(tail.at(directory.sector * SECTOR, self._directory_bytes))
        return array("I", filter(None, entries))

    def _grain_entries(self, directory: Directory) -> "array[int]":
        """The entries of a directory's tables, as far as the tables are held."""
        prefix = directory.prefix
        if self.filled(f"{prefix}tables_apart") and self._in_order(directory):
            return self._entries(f"{prefix}tables") + self._entries(f"{prefix}last_tables")
        within = "footer" if not self.has_region(f"{prefix}directory") else f"{prefix}tables_apart"
        if not self.filled(within):
            return array("I")
        region, length = self.region(within), self._table_bytes
        # If there are millions of tables, most of them are not held.
        held = dict.fromkeys(table for table in self._tables(directory) if region.at(table * SECTOR, length))
        return _entries(b"".join(region.at(table * SECTOR, length) for table in held))

    # What the map says

    @Remembered
    def _grains(self) -> "array[int]":
        """The sectors of all grains that the held tables point to, one for each pointer in the first tables.

        The redundant tables should point to the same grains. Their grains are added only if the first tables
        do not point to them.
        """
        first = self._first_entries
        least = self._header.least_grain if self._header else 1
        # Most entries are zeros. `filter` drops them without running Python code for each.
        grains = array("I", (entry for entry in filter(None, first) if entry >= least))
        known = None
        for other in self._redundant_entries:
            known = unique(first) if known is None else known
            grains.extend(one for one in unique(other) if one >= least and not holds(known, one))
        return grains

    @Remembered
    def _first_entries(self) -> "array[int]":
        """The entries of the tables that readers use, as far as the tables are held."""
        return self._grain_entries(self._directories[0]) if self._directories else array("I")

    @Remembered
    def _redundant_entries(self) -> "list[array[int]]":
        """The entries of the redundant tables that are held; empty if they equal the other entries."""
        first = self._first_entries
        others = map(self._grain_entries, self._directories[1:])
        return [other for other in others if first[: len(other)] != other]

    @Remembered
    def _last_grain(self) -> int:
        """The first sector of the last grain that the held tables point to; zero if they point to none."""
        return max(self._grains, default=0)

    @property
    def _directories_differ(self) -> bool:
        """Whether one directory has a table or a grain that the other lacks."""
        if len(self._directories) < 2 or not self._map_seen:
            return False
        first, other = (self._entries(f"{one.prefix}directory") for one in self._directories)
        if len(first) != len(other):
            return False
        if [not entry for entry in first] != [not entry for entry in other]:
            return True
        first, other = map(self._grain_entries, self._directories)
        both = len(first) == len(other)
        return both and all(map(self._held_whole, self._directories)) and first != other

    def _overlaps(self, others: Iterable[Part], searched: Part) -> Iterator[Finding]:
        """Findings on structures that overlap.

        Args:
            others: Header, descriptor and footer.
            searched: The sectors in which readers look for a descriptor.
        """
        header = self._header
        if header is None:
            return
        parts, tables = list(others), []
        for directory in self._directories:
            start = directory.sector * SECTOR
            parts.append(Part(start, start + self._directory_bytes, directory.name))
            places = self._tables(directory)
            tables.append(Blocks(directory.table_name, places, self._table_bytes, unit=SECTOR))
        # The length of a compressed grain is not known, but no other grain may begin in its first sector.
        length = SECTOR if header.compressed else header.grain_bytes
        grains = Blocks("a grain", self._grains, length, unit=SECTOR)
        yield from overlaps(parts, *tables, grains)
        yield from over(grains, [searched])
        for entries in self._redundant_entries:
            least = header.least_grain
            allocated = array("I", (entry for entry in filter(None, entries) if entry >= least))
            yield from overlaps((), Blocks("a grain", allocated, length, unit=SECTOR))


def _entries(data: bytes) -> "array[int]":
    spend(CALL)
    return little_endian("I", data)
