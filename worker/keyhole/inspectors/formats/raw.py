"""Recognises raw disks, which have no header, by a partition table or a volume.

Keyhole searches the first sectors for a partition table (`partitions`), and the places that libblkid searches
for a volume (`volumes`). If there is a table, Keyhole also searches the first partition for a volume. If the
front contains neither a table nor a volume, Keyhole reads the superblocks that are further into the object.

If the object begins with another format, two types of readers can still find a table or a volume in its first
bytes: readers that are configured to treat the object as a raw disk, and readers that detect formats like
libblkid. So Keyhole also searches the first bytes of other formats, but only the bytes that cannot contain
guest data.

Wholeness: a disk with a GPT is whole if the backup header is intact. A disk with another table is whole if
the last partition ends inside the object. A volume without a table is whole if the length that its superblock
states is not larger than the object. If the superblock states no length, the wholeness is unchecked.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from keyhole.inspectors.base import FileInspector, Layer, Remembered
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import used_bytes
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.formats.udf import IDENTIFIERS
from keyhole.inspectors.partitions import dos, gpt, mac
from keyhole.inspectors.partitions.front import DiskFront
from keyhole.inspectors.partitions.gpt import GPTHeader
from keyhole.inspectors.partitions.table import Partition, Table, odd
from keyhole.inspectors.region import ByteRange, CaptureRegion, TailRegion
from keyhole.inspectors.volumes import volumes
from keyhole.inspectors.volumes.lengths import stated_length
from keyhole.inspectors.volumes.view import RegionsView

#: Two sectors of 4,096 bytes. They contain the headers of all tables, except of some Apple partition maps.
TABLES_BYTES: Final = 8192
#: How many bytes of a volume's front are kept. The first GET fetches them.
FRONT: Final = volumes.FRONT
#: How many first bytes of another format are searched for superblocks. The one of btrfs is at 64 KiB.
HEADERS: Final = 68 * 1024
#: The magic of a sparse VMDK, and the field of its header that states the length of its overhead in sectors.
#: After the overhead, guest data can follow within the first 68 KiB.
VMDK: Final = b"KDMV"
VMDK_OVERHEAD: Final = slice(64, 72)
#: How many bytes at the object's end are searched for superblocks. The superblock of Linux RAID 0.90 is up to
#: 128 KiB before the end.
END_BYTES: Final = 128 * 1024
#: A length in bytes that is large enough for every type of volume.
LONGEST: Final = 2**63
#: How many first bytes of an unrecognised object are reported.
FRONT_REPORTED: Final = 4096
#: The ranges of the superblocks that are neither at the front nor at the end of a volume.
BEHIND: Final = volumes.far(None)
#: The prefix of the names of the regions that capture these ranges.
BETWEEN: Final = "volume_between_"
#: The offset and the possible values of the identifier in the first descriptor of an ISO 9660 or UDF disc.
DISC_AT: Final = 32_769
DISCS: Final = frozenset(IDENTIFIERS)
#: The tables of an object whose first bytes are not all held yet.
UNKNOWN: Final = DiskFront()
#: Volumes whose boot sector ends like an MBR, but contains code where an MBR contains partition entries.
BOOT_SECTORS: Final = {"vfat", "ntfs", "exfat"}
#: The signature of LUKS and the type of a LUKS volume. LUKS is both an image format and a type of volume, and
#: an image that has the format `luks` is not also reported as a volume.
OWN_MARK: Final = b"LUKS\xba\xbe"
OWN_NAME: Final = "crypto_LUKS"


class RawDiskInspector(FileInspector):
    """Inspects a raw disk, which is recognised by its partition table or by the volume that fills it.

    Args:
        tracing: See `FileInspector`.
        volumes: Whether to search all places for superblocks. Callers pass false if the object begins with
            another format.
    """

    NAME = "raw"
    LAYER = Layer.DISK
    is_bare = True

    def __init__(self, tracing: bool = False, *, volumes: bool = False) -> None:
        super().__init__(tracing)
        self._volumes = volumes
        # The tables at the front; `None` until all bytes that they need are held.
        self._in_front: DiskFront | None = None
        # The regions that are searched for superblocks of the whole disk.
        self._volume_regions: list[CaptureRegion] = []
        # The object's length and the number of held bytes at the last search, and the volumes found then.
        self._held: tuple[tuple[int | None, int], tuple[str, ...]] | None = None
        self.new_region("front", CaptureRegion(0, TABLES_BYTES))
        self._new_volume_region("volume", CaptureRegion(0, FRONT if volumes else HEADERS))

    @property
    def format_match(self) -> bool:
        """Whether a partition table or a volume was recognised."""
        return bool(self.content)

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
            self._look_behind()

    @property
    def front(self) -> bytes:
        """The first 4,096 bytes. If they are zeros: all held bytes if all are zeros, or else no bytes."""
        held = self.region("volume").data
        first = held[:FRONT_REPORTED]
        return first if used_bytes(first) else b"" if used_bytes(held) else held

    def missing_but_between(self) -> list[ByteRange]:
        """Return the missing ranges, except between front and end, where superblocks are rare."""
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
        """Proven if the backup GPT header is intact, or another table or the superblock states an end."""
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
            yield from self._volume_checks(self._size)
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

    def _volume_checks(self, size: int) -> Iterator[Finding]:
        holds = self._holds
        if volumes.ambivalent(holds):
            yield found("ambiguous_format", f"the volume has the superblocks of {' and '.join(holds)}")
        for name in volumes.damaged(self._view) if holds else ():
            yield found("checksum_mismatch", f"the {name} superblock does not match its checksum")
        if self._volume_length is not None and self._volume_length > size:
            yield found("truncated", f"the {holds[0]} has {self._volume_length} bytes, the object has {size}")

    # The table

    @property
    def _tables(self) -> DiskFront:
        """The tables at the front. They can change until all bytes of an Apple partition map are held."""
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
        """The primary GPT header. On a volume, a header that no MBR announces is old and is ignored."""
        _, header, announced = self._tables
        return header if header is None or announced or not self._holds else None

    @Remembered
    def _gpt_table(self) -> Table | None:
        """The table with the entries of the GPT. It has no partitions until its entries are held."""
        header = self._tables.header
        return None if header is None else header.table(self.captured("entries"))

    @Remembered
    def _found_table(self) -> Table | None:
        """The partition table, for every disk length."""
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
        """Return whether the sector that looks like an MBR belongs to a volume, so there is no table."""
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
        """The length in bytes that the superblock of the volume states, if the whole disk is one volume.

        If a member of an array or a group also contains a file system, the length is the member's length.
        """
        holds = self._holds
        return stated_length(holds[0], self._view) if holds and not volumes.ambivalent(holds) else None

    @Remembered
    def _holds(self) -> tuple[str, ...]:
        """The volumes that fill the whole disk, by libblkid's names."""
        if not self.filled("volume"):
            return ()
        # The result changes only if more bytes are held or the object's length becomes known.
        known = self._size, sum(region.held for region in self._volume_regions)
        if self._held is None or self._held[0] != known:
            own = not self._volumes and self.captured("front").startswith(OWN_MARK)
            names = tuple(name for name in volumes.names(self._view) if not own or name != OWN_NAME)
            self._held = known, names
        return self._held[1]

    @property
    def _view(self) -> RegionsView:
        """The whole disk as one volume. If the image has another format, only bytes without guest data."""
        front = b"" if self._volumes else self.captured("front")
        if front.startswith(VMDK):
            overhead = int.from_bytes(front[VMDK_OVERHEAD], "little") * dos.SECTOR
            return RegionsView(self._volume_regions, 0, self._size, max(overhead, TABLES_BYTES))
        return RegionsView(self._volume_regions, 0, self._size)

    @property
    def _explained(self) -> bool:
        """Whether the front contains a volume, or an optical disc's descriptor, which is at 32 KiB.

        The object's length is not used, because it can still be unknown.
        """
        front = RegionsView([self.region("volume")], 0, LONGEST)
        return self.captured("volume")[DISC_AT : DISC_AT + 5] in DISCS or bool(volumes.names(front))

    def _look_behind(self) -> None:
        """Declare the end and the ranges between front and end, if the front is held and shows no format."""
        if not self.region("volume").complete or self.has_region("volume_end") or self._explained:
            return
        self._new_volume_region("volume_end", TailRegion(END_BYTES))
        for number, part in enumerate(BEHIND):
            self._new_volume_region(f"{BETWEEN}{number}", CaptureRegion(*part))

    def _new_volume_region(self, name: str, region: CaptureRegion) -> None:
        self.new_region(name, region)
        self._volume_regions.append(region)
