"""Reads the map of a sparse VMDK: two grain directories, their grain tables, and the grains in these tables.

Source: VMware, "Virtual Disk Format 5.0", sections "Grain Directory" and "Grain Table"; QEMU, block/vmdk.c,
vmdk_open_vmdk4, get_cluster_offset.

Every entry is a sector number of 4 bytes. A usual image has two sets of tables: the redundant grain directory
with its tables, and after them the grain directory with its tables. QEMU reads only the grain directory, but
writes both directories. Writers put the tables in order right after their directory. So Keyhole requests a
directory and its tables as one range. If the directory points to tables elsewhere, Keyhole requests these
tables after it has read the directory.

The inspector keeps (holds) these tables in memory:

- the tables of the grain directory if there is room for all of them, otherwise the first and the last tables;
- the redundant tables if there is room for both sets, otherwise the first redundant tables;
- if there are two sets and there is no room even for one set: the first tables of both sets, and the last
  redundant tables, because the last redundant tables are right before the grain directory and need no extra
  request;
- if there is a footer: the tables within the last `TAIL_BYTES`, because the footer is after all tables;
- if the inspector is `thorough`: all tables, as far as they fit into `THOROUGH_BYTES`.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from keyhole.inspectors.base import THOROUGH_BYTES
from keyhole.inspectors.fields import SECTOR, little_endian
from keyhole.inspectors.findings import Finding
from keyhole.inspectors.formats.allocated import allocated
from keyhole.inspectors.formats.ascending import is_range, lacking, largest, unique
from keyhole.inspectors.formats.header import HeaderInspector
from keyhole.inspectors.formats.layout import Blocks, Part, over, overlaps
from keyhole.inspectors.formats.scattered import ScatteredRegion
from keyhole.inspectors.formats.vmdk.header import SparseHeader
from keyhole.inspectors.region import ByteRange, CaptureRegion, TailRegion
from keyhole.inspectors.remembered import Remembered

FOOTER_BYTES = 3 * SECTOR
#: Bytes 8 to 15 of the marker that begins a footer: the size of the data (0) and the type (3). Bytes 0 to 7
#: are the number of sectors.
FOOTER_MARK = bytes(4) + (3).to_bytes(4, "little")
#: How many bytes of the object's end are held if there is a footer. The grain directory is before the footer,
#: and has 128 bytes for each GiB of disk. So these bytes usually contain the whole directory of a disk of up
#: to 50 GiB.
TAIL_BYTES = 8 * 1024

#: How many bytes of a grain directory are held: 16,384 entries, which map 512 GiB of disk at the usual 32 MiB
#: per entry.
MAX_DIRECTORY_BYTES = 64 * 1024
#: All tables are held if the tables and the descriptor together have at most this many bytes. A table of 2
#: KiB maps 32 MiB of disk. So beside a usual descriptor, there is room for the tables of 20 GiB of disk, or
#: of 10 GiB if there are redundant tables.
MAX_HELD_BYTES = 1400 * 1024
#: If not all tables are held, this many bytes of the first tables and of the last tables are held.
MAX_SAMPLE_BYTES = 64 * 1024
#: The regions of a directory; see `Directory`.
PARTS = ("directory", "tables", "last_tables", "tables_apart")
#: The value of an entry whose table or grain does not exist.
FREE = (bytes(4),)


class Directory(NamedTuple):
    """A grain directory, which begins at `sector`. The names of its regions begin with `prefix`.

    `name` and `table_name` are the names of the directory and of one of its tables in findings.
    """

    prefix: str
    sector: int
    name: str
    table_name: str


class GrainMapInspector(HeaderInspector):
    """Reads the map of a sparse VMDK. A subclass must declare the region `header`."""

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self._front: SparseHeader | None = None
        #: For each directory whose region is filled, whether it points to tables in order.
        self._decided: dict[Directory, bool] = {}

    # The declared regions

    def _declare_map(self, described: int) -> None:
        """Declare the regions of the map. `described` is the length of the image's descriptor in bytes."""
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
        """Declare the regions of a directory and of the tables right after it."""
        if self._footer and not self.thorough:
            return
        place, most = directory.sector * SECTOR, THOROUGH_BYTES // 2 if self.thorough else MAX_DIRECTORY_BYTES
        self.new_region(
            f"{directory.prefix}directory", CaptureRegion(place, min(self._directory_bytes, most))
        )
        # In an image with a footer, the tables are between the grains, so do not request them as one range.
        whole = 0 if self._footer else self._tables_bytes
        start = place + -(-self._directory_bytes // SECTOR) * SECTOR
        first = whole if whole <= self._room(directory, described) else MAX_SAMPLE_BYTES
        last = MAX_SAMPLE_BYTES if first < whole and self._ends_near(directory, described) else 0
        self.new_region(f"{directory.prefix}tables", CaptureRegion(start, first))
        self.new_region(f"{directory.prefix}last_tables", CaptureRegion(start + whole - last, last))

    def _apart(self, directory: Directory, described: int) -> Iterable[ByteRange]:
        """Return the ranges of a directory's tables if these tables are not in order after the directory.

        If there are too many tables, return only the ranges of the tables with the highest sectors.
        """
        if directory in self._in_order:
            return []
        tables = unique(self._tables[directory])
        if not tables:
            return []
        most = max(self._room(directory, described), MAX_SAMPLE_BYTES) // self._table_bytes
        return (ByteRange(table * SECTOR, self._table_bytes) for table in tables[-most:])

    def _room(self, directory: Directory, described: int) -> int:
        """Return how many bytes of a directory's tables can be held."""
        if self.thorough:
            return THOROUGH_BYTES // 2
        room = MAX_HELD_BYTES - described
        return room - self._tables_bytes if directory.prefix else room

    def _ends_near(self, directory: Directory, described: int) -> bool:
        """Return whether to hold a directory's last tables although there is no room for all of its tables.

        This is the case if the last tables need no extra request.
        """
        sampled = self._tables_bytes > MAX_HELD_BYTES - described
        return sampled and bool(directory.prefix) == (len(self._directories) > 1)

    # The held parts of the map

    @property
    def _header(self) -> SparseHeader | None:
        """The header at the front; `None` until all of the header is read."""
        if self._front is None:
            self._front = SparseHeader.parse(self.region("header").data)
        return self._front

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
        """The directory that readers use, and the redundant directory if the image has one."""
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
        """The length in bytes of all tables of a directory."""
        return self._table_bytes * self._header.tables_needed if self._header else 0

    @property
    def _map_seen(self) -> bool:
        """Whether all regions of the map are filled."""
        return all(
            map(
                self.filled,
                [f"{directory.prefix}{part}" for directory in self._directories for part in PARTS],
            )
        )

    @property
    def _map_whole(self) -> bool:
        """Whether all tables of the grain directory are held.

        A thorough inspector must also hold all redundant tables.
        """
        directories = self._directories if self.thorough else self._directories[:1]
        return bool(directories) and self._map_seen and all(map(self._held_whole, directories))

    def _held_whole(self, directory: Directory) -> bool:
        prefix = directory.prefix
        if self.region(f"{prefix}directory").length < self._directory_bytes:
            return False
        if directory in self._in_order:
            return self.region(f"{prefix}tables").length == self._tables_bytes
        whole, end, length = 0, 0, self._table_bytes
        for sector in unique(self._tables[directory]):
            start, end = max(sector * SECTOR, end), sector * SECTOR + length
            whole += end - start
        return self.region(f"{prefix}tables_apart").length == whole

    @Remembered
    def _held_directories(self) -> dict[Directory, bytes]:
        """The held entries of each directory."""
        return {directory: self._held_entries(directory) for directory in self._directories}

    def _held_entries(self, directory: Directory) -> bytes:
        name = f"{directory.prefix}directory"
        if self.has_region(name):
            return self.captured(name)
        return self.region("footer").at(directory.sector * SECTOR, self._directory_bytes)

    @Remembered
    def _in_order(self) -> set[Directory]:
        """The directories whose held part points to tables in order, right after the directory."""
        return {directory for directory in self._directories if self._points_right_after(directory)}

    def _points_right_after(self, directory: Directory) -> bool:
        name = f"{directory.prefix}tables"
        if directory in self._decided or not self.has_region(name) or not self.region(name).length:
            return self._decided.get(directory, False)
        entries = little_endian("I", self._held_directories[directory])
        in_order = is_range(entries, self.region(name).offset // SECTOR, self._table_bytes // SECTOR)
        if self.filled(f"{directory.prefix}directory"):
            self._decided[directory] = in_order
        return in_order

    @Remembered
    def _tables(self) -> "dict[Directory, array[int]]":
        """The sectors of each directory's tables, according to the held part of the directory."""
        return {
            directory: allocated("I", "little", entries, FREE)
            for directory, entries in self._held_directories.items()
        }

    @Remembered
    def _held_tables(self) -> dict[Directory, bytes]:
        """The entries in the held tables of each directory."""
        tables = {directory: self._joined_tables(directory) for directory in self._directories}
        # If the object ends within an entry, leave out the partial entry.
        return {directory: held[: len(held) // 4 * 4] for directory, held in tables.items()}

    def _joined_tables(self, directory: Directory) -> bytes:
        prefix = directory.prefix
        if self.filled(f"{prefix}tables_apart") and directory in self._in_order:
            return self.captured(f"{prefix}tables") + self.captured(f"{prefix}last_tables")
        within = "footer" if not self.has_region(f"{prefix}directory") else f"{prefix}tables_apart"
        if not self.filled(within):
            return b""
        # There can be millions of tables, and most of them are not held. So join only the held tables.
        region, length, first = self.region(within), self._table_bytes, self.region(within).offset // SECTOR
        tables = (table for table in self._tables[directory] if table >= first)
        held = dict.fromkeys(table for table in tables if region.at(table * SECTOR, length))
        return b"".join(region.at(table * SECTOR, length) for table in held)

    # The content of the map

    @Remembered
    def _grains(self) -> "array[int]":
        """The sectors of all grains that the held tables point to.

        If two entries of the grain directory's tables point to the same grain, the grain is listed twice, so
        that `_overlaps` finds the error. The redundant tables usually point to the same grains. So a grain in
        the redundant tables is added only if the grain directory's tables lack the grain.
        """
        grains = array("I")
        for directory in self._directories[:1]:
            grains = self._allocated(self._held_tables[directory])
        for other in self._redundant_grains:
            grains += lacking(unique(grains), unique(other))
        return grains

    @Remembered
    def _redundant_grains(self) -> "list[array[int]]":
        """The grains of the held redundant tables; empty if both directories have the same tables."""
        tables = list(self._held_tables.values())
        return [self._allocated(other) for other in tables[1:] if not tables[0].startswith(other)]

    def _allocated(self, tables: bytes) -> "array[int]":
        """Return the sectors of the grains that these tables point to."""
        entries, least = (
            allocated("I", "little", tables, FREE),
            self._header.least_grain if self._header else 1,
        )
        return entries if least == 1 else array("I", [entry for entry in entries if entry >= least])

    @Remembered
    def _last_grain(self) -> int:
        """The first sector of the last grain that the held tables point to; zero if there is no grain."""
        return largest(self._grains)

    @property
    def _directories_differ(self) -> bool:
        """Whether one directory has a table or a grain that the other directory lacks."""
        if len(self._directories) < 2 or not self._map_seen:
            return False
        first, other = (little_endian("I", self._held_directories[one]) for one in self._directories)
        if len(first) != len(other):
            return False
        full = all(len(tables) == len(first) for tables in self._tables.values())
        if not full and [not entry for entry in first] != [not entry for entry in other]:
            return True
        first_tables, other_tables = (self._held_tables[one] for one in self._directories)
        both = len(first_tables) == len(other_tables)
        return both and first_tables != other_tables and all(map(self._held_whole, self._directories))

    def _overlaps(self, others: Iterable[Part], searched: Part) -> Iterator[Finding]:
        """Yield findings about structures that overlap.

        Args:
            others: The header, the descriptor and the footer.
            searched: The sectors that QEMU searches for a descriptor.
        """
        header = self._header
        if header is None:
            return
        parts, tables = list(others), []
        for directory in self._directories:
            start = directory.sector * SECTOR
            parts.append(Part(start, start + self._directory_bytes, directory.name))
            places = self._tables[directory]
            tables.append(Blocks(directory.table_name, places, self._table_bytes, unit=SECTOR))
        # The length of a compressed grain is unknown. So compare only its first sector: another grain that
        # begins in this sector is an error.
        length = SECTOR if header.compressed else header.grain_bytes
        grains = Blocks("a grain", self._grains, length, unit=SECTOR)
        yield from overlaps(parts, *tables, grains)
        yield from over(grains, [searched])
        for redundant in self._redundant_grains:
            yield from overlaps((), Blocks("a grain", redundant, length, unit=SECTOR))
