"""The GUID partition table, `gpt`: a header after a protective MBR, entries, and a copy of both at the end.

Source: UEFI Specification 2.10, section 5.3. All fields are little-endian.

| at | bytes | field |
|---|---|---|
| sector 1 | 92 … sector | header: `EFI PART`, its size u32@12, CRC-32 u32@16 (of the header with this field zero), its own sector u64@24, the backup's u64@32, the first usable sector u64@40, the last u64@48, the entries' first sector u64@72, their number u32@80 and length u32@84, their CRC-32 u32@88 |
| by the header | 128 x 2^n | entry: type GUID (zero: unused), first sector u64@32, last sector u64@40 |
| last sector | the same | backup header: as the header, with its own sector and the backup's exchanged |

A sector has 512 or 4,096 bytes; the header's place shows which. A disk may have a table for each size. The
disk's content then depends on the sector size with which it is attached; Keyhole uses the first intact table.
Keyhole looks for the backup where the header says. That need not be the object's last sector, because disks
grow.

Linux and libblkid accept only entries of 128 bytes. sgdisk accepts a header without a protective MBR.
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Iterator
from dataclasses import dataclass
from struct import unpack_from
from zlib import crc32

from keyhole.inspectors.fields import Fields
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.partitions.table import Partition, Table, odd
from keyhole.inspectors.region import ByteRange

SECTORS = (512, 4096)
SIGNATURE = b"EFI PART"
SMALLEST_HEADER = 92
ENTRY_BYTES = 128
#: The type GUID of an entry that is not in use.
UNUSED = bytes(16)
#: The sector of the primary header, which the header states itself.
PRIMARY = 1
#: The most bytes of entries that are held: 64 times the 128 entries that partitioning tools make room for.
MAX_ENTRIES_BYTES = 1024**2


@dataclass(frozen=True, slots=True)
class GPTHeader:
    """A header: the bytes of its sector (`data`), and the size of a sector in bytes (`sector`)."""

    sector: int
    data: Fields

    @property
    def own(self) -> int:
        """The sector in which the header says that it lies."""
        return self.data.le(24, 8)

    @property
    def backup(self) -> ByteRange:
        """The sector of the backup header."""
        return ByteRange(self.data.le(32, 8) * self.sector, self.sector)

    @property
    def entries(self) -> ByteRange:
        """The range of the entries, as far as they are held."""
        return ByteRange(self.data.le(72, 8) * self.sector, min(self.entries_bytes, MAX_ENTRIES_BYTES))

    @property
    def entries_bytes(self) -> int:
        """How long the entries are, by their number and length."""
        return self.data.le(80, 4) * self.entry_bytes

    @property
    def entry_bytes(self) -> int:
        """How long an entry is."""
        return self.data.le(84, 4)

    @property
    def in_bounds(self) -> bool:
        """Whether the length of the entries is valid, and all of them are held."""
        return 0 < self.entries_bytes <= MAX_ENTRIES_BYTES and self._entry_is_sound

    @property
    def _entry_is_sound(self) -> bool:
        return self.entry_bytes >= ENTRY_BYTES and self.entry_bytes.bit_count() == 1

    @property
    def has_size(self) -> bool:
        """Whether the header states a valid size for itself."""
        return SMALLEST_HEADER <= self.data.le(12, 4) <= self.sector

    @property
    def intact(self) -> bool:
        """Whether the header's checksum is right. It covers the size that the header states for itself."""
        if not self.has_size or not self.data.startswith(SIGNATURE):
            return False
        size = self.data.le(12, 4)
        zeroed = self.data[:16] + bytes(4) + self.data[20:size]
        return len(zeroed) == size and crc32(zeroed) == self.data.le(16, 4)

    def intact_backup(self, backup: bytes) -> bool:
        """Whether these bytes are this header's backup."""
        header = GPTHeader(self.sector, Fields(backup))
        return header.intact and header.own == self.data.le(32, 8)

    def table(self, entries: bytes) -> Table:
        """The table, with the partitions that the entries say are in use."""
        if not self.in_bounds or len(entries) < self.entries_bytes:
            return Table("gpt", self.sector, ())
        places = range(0, self.entries_bytes, self.entry_bytes)
        used = [at for at in places if not entries.startswith(UNUSED, at)]
        spans = [unpack_from("<QQ", entries, at + 32) for at in used]
        partitions = tuple(
            Partition(first * self.sector, (last - first + 1) * self.sector)
            for first, last in spans
            if last >= first
        )
        table = Table("gpt", self.sector, partitions)
        return table._replace(findings=tuple(table.overlapping()))

    def checks(self, entries: bytes, backup: bytes | None, size: int) -> Iterator[Finding]:
        """Check whether the table is intact, and whether the object of `size` bytes is as long as it says."""
        if not self.has_size:
            yield found(
                "structure", f"a GPT header of {self.data.le(12, 4)} bytes, in a sector of {self.sector}"
            )
        elif not self.intact:
            yield found("checksum_mismatch", "the GPT header does not match its checksum")
        if self.own != PRIMARY:
            yield found("structure", f"the GPT header says that it lies in sector {self.own}, not 1")
        first, last = self.data.le(40, 8), self.data.le(48, 8)
        end = (max(self.data.le(32, 8), last) + 1) * self.sector
        if end > size:
            yield found("truncated", f"the GPT describes a disk of {end} bytes, the object has {size}")
        elif backup is not None and not self.intact_backup(backup):
            yield found("structure", "the backup GPT header is not where the GPT says")
        if first > last:
            yield found("structure", f"the GPT's usable sectors begin at {first} and end at {last}")
        yield from self._entries_checks(entries, size)

    def _entries_checks(self, entries: bytes, size: int) -> Iterator[Finding]:
        if not self.entries_bytes or not self._entry_is_sound:
            yield found(
                "structure",
                f"GPT entries of {self.entry_bytes} bytes, {self.entries_bytes} together, are not possible",
            )
        elif not self.in_bounds:
            check = "structure" if self.entries_bytes > size else "unsupported_subformat"
            yield found(check, f"GPT entries of {self.entries_bytes} bytes are more than Keyhole reads")
        elif len(entries) < self.entries_bytes:
            yield found("truncated", "the GPT entries end beyond the object's end")
        elif crc32(entries) != self.data.le(88, 4):
            yield found("checksum_mismatch", "the GPT entries do not match the checksum in the header")
        elif self.entry_bytes != ENTRY_BYTES:
            yield odd(f"GPT entries of {self.entry_bytes} bytes, which Linux does not accept")


def parse(front: bytes, *, protected: bool) -> GPTHeader | None:
    """The primary header of an object that begins with `front`, if possible an intact one; `None` if none.

    Args:
        front: The first two sectors, of 4,096 bytes.
        protected: Whether the MBR announces a GPT. Even if it does not, sgdisk looks for a header in a sector
            of 512 bytes, and accepts it if it is intact.
    """
    headers = [
        GPTHeader(sector, Fields(front[sector : 2 * sector]))
        for sector in SECTORS
        if front.startswith(SIGNATURE, sector) and len(front) >= 2 * sector
    ]
    sound = [header for header in headers if header.intact and header.own == PRIMARY]
    if protected:
        return next(iter([*sound, *headers]), None)
    return next((header for header in sound if header.sector == SECTORS[0]), None)


def at_end(end: bytes, size: int) -> GPTHeader | None:
    """The backup header in the last sector of an object of `size` bytes that ends with `end`; else `None`."""
    for sector in SECTORS:
        header = GPTHeader(sector, Fields(end[-sector:]))
        if header.intact and header.own == size // sector - 1:
            return header
    return None
