"""Recognises raw disks, which have no header, by a partition table or a volume.

Keyhole searches the first sectors for a partition table (`partitions`), and the places that libblkid searches
for a volume (`volumes`). If there is a table, Keyhole also searches the first partition for a volume. If the
front contains neither a table nor a volume, Keyhole reads the superblocks that are further into the object.

If the object begins with another format, two types of readers can still find a table or a volume in its first
bytes: readers that are configured to treat the object as a raw disk, and readers that detect formats in the
same way as libblkid. So Keyhole also searches the first bytes of other formats, but only the bytes that
cannot contain guest data.

Wholeness: a disk with a GPT is whole if the backup header is intact. A disk with another table is whole if
the last partition ends inside the object. A volume without a table is whole if the length that its superblock
states is not larger than the object. If the superblock states no length, the wholeness is unchecked.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from keyhole.inspectors.base import FileInspector, Layer
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import used_bytes
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.disk_volume import BETWEEN, FRONT, DiskVolume
from keyhole.inspectors.partitions import dos, gpt, mac
from keyhole.inspectors.partitions.front import DiskFront
from keyhole.inspectors.partitions.gpt import GPTHeader
from keyhole.inspectors.partitions.table import Partition, Table, odd
from keyhole.inspectors.region import ByteRange, CaptureRegion, TailRegion
from keyhole.inspectors.remembered import Remembered
from keyhole.inspectors.volumes import volumes
from keyhole.inspectors.volumes.view import RegionsView

#: The length of two sectors of 4,096 bytes. Two such sectors contain the headers of all types of partition
#: tables, except the headers of some Apple partition maps.
TABLES_BYTES: Final = 8192
#: The report on an unrecognised object contains this many of its first bytes.
FRONT_REPORTED: Final = 4096
#: The tables of an object whose first bytes have not all been read yet.
UNKNOWN: Final = DiskFront()
#: Volumes whose boot sector ends like an MBR, but contains code where an MBR contains partition entries.
BOOT_SECTORS: Final = {"vfat", "ntfs", "exfat"}


class RawDiskInspector(FileInspector):
    """Inspects a raw disk, which is recognised by its partition table or by the volume that fills it.

    Args:
        tracing: See `FileInspector`.
        volumes: Whether to search all places for superblocks. Callers pass false if the object begins with
            the header of another format.
    """

    NAME = "raw"
    LAYER = Layer.DISK
    is_bare = True

    def __init__(self, tracing: bool = False, *, volumes: bool = False) -> None:
        super().__init__(tracing)
        self._volumes = volumes
        # The tables at the front; `None` until all bytes that contain them have been read.
        self._in_front: DiskFront | None = None
        self.new_region("front", CaptureRegion(0, TABLES_BYTES))
        self._volume = DiskVolume(self, everywhere=volumes)

    @property
    def format_match(self) -> bool:
        """Whether a partition table or a volume was recognised."""
        return bool(self.content)

    @property
    def mark(self) -> str:
        """The partition table, or the superblock of the volume."""
        if self._table is not None and not self._is_volume:
            return f"{self._table.name} partition table at the front"
        return self._volume.mark(self._size)

    @Remembered
    def content(self) -> tuple[str, ...]:
        """The table, the volumes in the first partition, and the volumes that fill the whole disk.

        If the disk is a volume that leaves its first sector free, and that sector contains an MBR, the volume
        comes before the table.
        """
        table, holds = self._table, self._holds
        if table is None:
            return holds
        if not self._is_volume:
            return tuple(dict.fromkeys((table.name, *self._first_holds, *holds)))
        return (*holds, table.name)

    def post_process(self) -> None:
        """Declare the rest of the GPT, the front of the first partition, and superblocks after the front."""
        if not self.filled("front"):
            return
        if mac.reaches(self.captured("front")) and not self.has_region("map"):
            self.new_region("map", CaptureRegion(TABLES_BYTES, mac.REACH - TABLES_BYTES))
        if self.has_region("map") and not self.filled("map"):
            return
        table, header, _ = self._tables
        if header is not None and not self.has_region("entries"):
            self.new_region("backup", CaptureRegion(*header.backup))
            self.new_region("entries", CaptureRegion(*header.entries))
        if not self._volumes:
            return
        if header is None and table is not None and table.name == dos.PMBR and not self.has_region("end"):
            self.new_region("end", TailRegion(gpt.SECTORS[-1]))
        if (header is None or self.filled("entries")) and not self.has_region("first"):
            first = self._first
            if first is not None:
                self.new_region("first", CaptureRegion(first.offset, min(first.length, FRONT)))
        if header is None and (table is None or table.doubtful or not table.partitions):
            self._volume.look_behind()

    @property
    def front(self) -> bytes:
        """The first bytes for the report on an unrecognised object: usually the first 4,096 bytes.

        If these bytes are zeros, but other bytes that have been read are not, the result is empty. If all
        bytes that have been read are zeros, the result is all of them.
        """
        held = self.region("volume").data
        first = held[:FRONT_REPORTED]
        return first if used_bytes(first) else b"" if used_bytes(held) else held

    def missing_but_between(self) -> list[ByteRange]:
        """Return the missing ranges, except the ranges between front and end.

        Disks with a superblock in those ranges are rare.
        """
        return [gap for name in self._but_between for gap in self.region(name).gaps(self._size)]

    @property
    def complete_but_between(self) -> bool:
        """Whether all regions are filled, except the regions between front and end."""
        return all(self.filled(name) for name in self._but_between)

    @property
    def _but_between(self) -> list[str]:
        return [name for name in self._regions if not name.startswith(BETWEEN)]

    @property
    def wholeness(self) -> Wholeness:
        """Proven if the backup GPT header is intact, or if another table or a superblock states the end."""
        table, header = self._table, self._gpt
        if header is not None:
            proven = self.filled("backup") and header.intact_backup(self.captured("backup"))
        elif table is not None and table.partitions:
            proven = self._size is not None
        else:
            proven = self._volume_length is not None
        return Wholeness.PROVEN if proven else Wholeness.UNCHECKED

    def details(self) -> Mapping[str, object]:
        """Return the volume's length, facts about the table, and the offset of the first partition."""
        table = self._table
        details: dict[str, object] = {}
        if self._is_volume and self._volume_length is not None:
            details["volume_length"] = self._volume_length
        if table is None:
            return details
        details |= {
            "partition_table": table.name,
            "sector_size": table.sector,
            "partitions": len(table.partitions),
        }
        if self._first_holds and self._first is not None:
            details["first_partition_offset"] = self._first.offset
        return details

    def checks(self) -> list[Finding]:
        """Return findings about the partition table, the volumes, and a disk that is too short for them."""
        return [*self._checks()]

    def _checks(self) -> Iterator[Finding]:
        if self._size is None:
            return
        table, header = self._table, self._gpt
        if self._is_volume:
            yield from self._volume.checks(self._size)
        if table is None:
            return
        if header is not None:
            backup = self.captured("backup") if self.filled("backup") else None
            yield from header.checks(self.captured("entries"), backup, self._size)
            yield from dos.protective_findings(self.captured("front"))
        elif self._tables.announced:
            where = "but its backup exists" if table.name == "gpt" else "and so is its backup"
            yield found("structure", f"the header of the GPT that the MBR announces is missing, {where}")
            return
        elif table.name == "dos" and gpt.parse(self.captured("front"), protected=False):
            yield odd("a GPT header follows an MBR that has partitions but does not announce a GPT")
        yield from table.findings
        yield from table.beyond(self._size)

    # The table

    @property
    def _tables(self) -> DiskFront:
        """The tables at the front.

        The result can change until all bytes of an Apple partition map have been read.
        """
        if self._in_front is not None:
            return self._in_front
        if not self.filled("front"):
            return UNKNOWN
        tables = DiskFront.parse(self.captured("front") + self.captured("map"))
        if not self.has_region("map") or self.filled("map"):
            self._in_front = tables
        return tables

    @property
    def _gpt(self) -> GPTHeader | None:
        """The primary GPT header.

        If a volume fills the disk and no MBR announces the header, the header is left over from an earlier
        use of the disk, and Keyhole ignores it.
        """
        _, header, announced = self._tables
        return header if header is None or announced or not self._holds else None

    @Remembered
    def _gpt_table(self) -> Table | None:
        """The table with the entries of the GPT. It has no partitions until its entries have been read."""
        header = self._tables.header
        return None if header is None else header.table(self.captured("entries"))

    @Remembered
    def _found_table(self) -> Table | None:
        """The partition table that was found.

        It has not been compared with the object's length; see `_table`.
        """
        table, header = self._tables.table, self._gpt
        if header is not None:
            return self._gpt_table
        if table is None or (table.name in dos.NAMES and self._yields_to_volume(table)):
            return None
        return table

    @Remembered
    def _table(self) -> Table | None:
        """The partition table, if Keyhole accepts it for an object of this length."""
        table = self._found_table
        if table is None or not table.stands(self._size):
            return None
        if table.name == dos.PMBR and self._size is not None and gpt.at_end(self.captured("end"), self._size):
            return table._replace(name="gpt")
        return table

    def _yields_to_volume(self, table: Table) -> bool:
        """Return whether the sector that looks like an MBR belongs to a volume.

        If so, the disk has no partition table.
        """
        holds = self._holds
        return not BOOT_SECTORS.isdisjoint(holds) or bool(holds and table.doubtful)

    @Remembered
    def _first(self) -> Partition | None:
        """The first partition, among the partitions that begin inside the object but not at offset 0."""
        table = self._gpt_table or self._tables.table
        if table is None or table.doubtful:
            return None
        within = [
            one
            for one in table.partitions
            if one.offset and one.length and (self._size is None or one.offset < self._size)
        ]
        return min(within, default=None)

    @Remembered
    def _first_holds(self) -> tuple[str, ...]:
        first = self._first
        if first is None or not self.filled("first"):
            return ()
        return volumes.names(RegionsView([self.region("first")], first.offset, first.length))

    # The volume

    @property
    def _is_volume(self) -> bool:
        """Whether Keyhole treats the whole disk as one volume, because the disk has no partitions."""
        table = self._table
        return table is None or not (table.partitions or self._gpt is not None)

    @Remembered
    def _volume_length(self) -> int | None:
        """The length in bytes that the superblock of the volume states, if the whole disk is one volume."""
        return self._volume.length(self._size)

    @Remembered
    def _holds(self) -> tuple[str, ...]:
        """The volumes that fill the whole disk: the names that libblkid has for their types."""
        return self._volume.names(self._size)
