"""Parses the GUID partition table, `gpt`: a header after a protective MBR, the entries, and a backup of both.

Source: UEFI Specification 2.10, section 5.3. All fields are little-endian.

| at | bytes | field |
|---|---|---|
| sector 1 | 92 … sector | header: `EFI PART`, its size u32@12, CRC-32 u32@16 (of the header with this field zero), its own sector u64@24, the backup's u64@32, the first usable sector u64@40, the last u64@48, the entries' first sector u64@72, their number u32@80 and length u32@84, their CRC-32 u32@88 |
| the sector that the header states | 128 x 2^n each | entries: type GUID (zero: unused), first sector u64@32, last sector u64@40 |
| last sector | 92 … sector | backup header: like the primary header, but the fields for its own sector and for the backup's sector are exchanged |

A sector has 512 or 4,096 bytes. The offset of the header shows the sector size. A disk can have one table for
each sector size. Which table is used then depends on the sector size with which the disk is attached. Keyhole
uses an intact table, and prefers the table for sectors of 512 bytes if both tables are intact. Keyhole reads
the backup header from the sector that the primary header states. After a disk has grown, this sector is no
longer the object's last sector.

Linux and libblkid accept only entries of 128 bytes. sgdisk accepts a header without a protective MBR.
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Iterator
from struct import Struct, unpack_from
from typing import NamedTuple
from zlib import crc32

from keyhole.inspectors.fields import used_bytes
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.partitions.table import Partition, Table, odd, overlapping
from keyhole.inspectors.region import ByteRange

SECTORS = (512, 4096)
SIGNATURE = b"EFI PART"
SMALLEST_HEADER = 92
#: Unpacks the fields of a header, beginning with its size; `GPTHeader` explains the fields.
FIELDS = Struct("<12xII4xQQQQ16xQIII")
ENTRY_BYTES = 128
#: The type GUID of an entry that is not in use.
UNUSED = bytes(16)
#: The sector number of the primary header. The primary header also states this number.
PRIMARY = 1
#: Keyhole reads at most this many bytes of entries. Partitioning tools usually reserve 16 KiB, which is
#: enough for 128 entries.
MAX_ENTRIES_BYTES = 1024**2


class GPTHeader(NamedTuple):
    """A primary or backup header.

    Attributes:
        sector: The sector size in bytes.
        intact: Whether the signature and the checksum are correct, and the stated size is valid.
        size: The size in bytes that the header states for itself.
        own: The sector number that the header states for itself.
        backup_sector: The sector number of the other header.
        first: The first usable sector.
        last: The last usable sector.
        entries_sector: The first sector of the entries.
        entry_count: The number of entries.
        entry_bytes: The length of one entry in bytes.
        entries_crc: The checksum of the entries.
    """

    sector: int
    intact: bool
    size: int
    own: int
    backup_sector: int
    first: int
    last: int
    entries_sector: int
    entry_count: int
    entry_bytes: int
    entries_crc: int

    @classmethod
    def parse(cls, sector: int, data: bytes) -> "GPTHeader":
        """Return the header in `data`, the content of a sector.

        If the sector does not have the signature of a header, `intact` is false.
        """
        size, checksum, *fields = FIELDS.unpack_from(data.ljust(FIELDS.size, b"\0"))
        intact = (
            data.startswith(SIGNATURE)
            and SMALLEST_HEADER <= size <= min(sector, len(data))
            and crc32(data[:16] + bytes(4) + data[20:size]) == checksum
        )
        return cls(sector, intact, size, *fields)

    @property
    def backup(self) -> ByteRange:
        """The byte range of the backup header, one sector."""
        return ByteRange(self.backup_sector * self.sector, self.sector)

    @property
    def entries(self) -> ByteRange:
        """The byte range of the entries, cut to the first `MAX_ENTRIES_BYTES`."""
        return ByteRange(self.entries_sector * self.sector, min(self.entries_bytes, MAX_ENTRIES_BYTES))

    @property
    def entries_bytes(self) -> int:
        """The length of all entries in bytes: their number times the length of one entry."""
        return self.entry_count * self.entry_bytes

    @property
    def in_bounds(self) -> bool:
        """Whether the stated length of an entry is valid, and all entries fit into `MAX_ENTRIES_BYTES`."""
        return 0 < self.entries_bytes <= MAX_ENTRIES_BYTES and self._entry_is_sound

    @property
    def _entry_is_sound(self) -> bool:
        return self.entry_bytes >= ENTRY_BYTES and self.entry_bytes.bit_count() == 1

    @property
    def has_size(self) -> bool:
        """Whether the header states a valid size for itself."""
        return SMALLEST_HEADER <= self.size <= self.sector

    def intact_backup(self, backup: bytes) -> bool:
        """Return whether `backup`, the content of a sector, is an intact backup of this header."""
        header = GPTHeader.parse(self.sector, backup)
        return header.intact and header.own == self.backup_sector

    def table(self, entries: bytes) -> Table:
        """Return the table with all partitions whose entries are in use.

        The table has no partitions if `entries` does not contain all entries.
        """
        if not self.in_bounds or len(entries) < self.entries_bytes:
            return Table("gpt", self.sector, ())
        # Usually most entries are unused, all zeros, and at the end. So leave out the zeros at the end.
        places = range(0, used_bytes(entries[: self.entries_bytes]), self.entry_bytes)
        used = [at for at in places if not entries.startswith(UNUSED, at)]
        spans = [unpack_from("<QQ", entries, at + 32) for at in used]
        partitions = tuple(
            Partition(first * self.sector, (last - first + 1) * self.sector)
            for first, last in spans
            if last >= first
        )
        return Table("gpt", self.sector, partitions, tuple(overlapping(partitions)))

    def checks(self, entries: bytes, backup: bytes | None, size: int) -> Iterator[Finding]:
        """Yield findings if the table is damaged or if the object of `size` bytes is shorter than the disk.

        Args:
            entries: The bytes of the entries.
            backup: The content of the backup header's sector, or `None` if it was not read.
            size: The length of the object in bytes.
        """
        if not self.has_size:
            yield found(
                "structure",
                f"a GPT header of {self.size} bytes is invalid in a sector of {self.sector} bytes",
            )
        elif not self.intact:
            yield found("checksum_mismatch", "the GPT header does not match its checksum")
        if self.own != PRIMARY:
            yield found("structure", f"the GPT header states that it is in sector {self.own}, not 1")
        end = (max(self.backup_sector, self.last) + 1) * self.sector
        if end > size:
            yield found("truncated", f"the GPT describes a disk of {end} bytes, the object has {size}")
        elif backup is not None and not self.intact_backup(backup):
            yield found("structure", "there is no intact backup GPT header in the sector that the GPT states")
        if self.first > self.last:
            message = f"the GPT's usable sectors begin at {self.first} and end at {self.last}"
            yield found("structure", message)
        yield from self._entries_checks(entries, size)

    def _entries_checks(self, entries: bytes, size: int) -> Iterator[Finding]:
        if not self.entries_bytes or not self._entry_is_sound:
            yield found(
                "structure",
                f"GPT entries of {self.entry_bytes} bytes each, {self.entries_bytes} in total, are invalid",
            )
        elif not self.in_bounds:
            check = "structure" if self.entries_bytes > size else "unsupported_subformat"
            yield found(check, f"GPT entries of {self.entries_bytes} bytes are more than Keyhole reads")
        elif len(entries) < self.entries_bytes:
            yield found("truncated", "the GPT entries end beyond the object's end")
        elif crc32(entries) != self.entries_crc:
            yield found("checksum_mismatch", "the GPT entries do not match the checksum in the header")
        elif self.entry_bytes != ENTRY_BYTES:
            yield odd(f"GPT entries of {self.entry_bytes} bytes, which Linux does not accept")


def parse(front: bytes, *, protected: bool) -> GPTHeader | None:
    """Return the primary header of an object that begins with `front`, or `None` if there is no header.

    If the object has two headers, one for each sector size, an intact header is preferred.

    Args:
        front: The object's first 8,192 bytes: two sectors of 4,096 bytes.
        protected: Whether the MBR announces a GPT. If the MBR does not announce a GPT, the function returns
            only an intact header for sectors of 512 bytes, because sgdisk accepts such a header without a
            protective MBR.
    """
    headers = [
        GPTHeader.parse(sector, front[sector : 2 * sector])
        for sector in SECTORS
        if front.startswith(SIGNATURE, sector) and len(front) >= 2 * sector
    ]
    sound = [header for header in headers if header.intact and header.own == PRIMARY]
    if protected:
        return next(iter([*sound, *headers]), None)
    return next((header for header in sound if header.sector == SECTORS[0]), None)


def at_end(end: bytes, size: int) -> GPTHeader | None:
    """Return the intact backup header in the last sector of an object, or `None` if there is none.

    Args:
        end: The last bytes of the object.
        size: The length of the object in bytes.
    """
    for sector in SECTORS:
        header = GPTHeader.parse(sector, end[-sector:])
        if header.intact and header.own == size // sector - 1:
            return header
    return None
