"""The GUID partition table, `gpt`: a header behind a protective MBR, entries, and both again at the end.

Source: UEFI Specification 2.10, section 5.3. All fields are little-endian.

| at | bytes | field |
|---|---|---|
| sector 1 | 92 | header: `EFI PART`, its size u32@12, CRC-32 u32@16 (of the header with this field zero), its own sector u64@24, the backup's u64@32, the entries' first sector u64@72, their number u32@80 and length u32@84, their CRC-32 u32@88 |
| by the header | 128 | entry: type GUID (zero: unused), first sector u64@32, last sector u64@40 |
| last sector | 92 | backup header, its own sector and the other's exchanged |

A sector has 512 or 4,096 bytes: it is where the header stands.
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from worker.inspectors.findings import Finding, found
from worker.inspectors.region import ByteRange
from worker.inspectors.tables import dos
from worker.inspectors.tables.table import Partition, Table

SECTORS = (512, 4096)
SIGNATURE = b"EFI PART"
HEADER_BYTES = 92
ENTRY_BYTES = 128
#: What is held of the entries: all of the 128 that partitioning tools make room for, and four times as many.
MAX_ENTRIES_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class GPTHeader:
    """A primary header, and the size of a sector in bytes."""

    sector: int
    data: bytes

    @property
    def backup(self) -> ByteRange:
        """Where the backup header lies."""
        return ByteRange(_u64(self.data, 32) * self.sector, HEADER_BYTES)

    @property
    def entries(self) -> ByteRange:
        """Where the entries lie, as far as they are held."""
        return ByteRange(_u64(self.data, 72) * self.sector, min(self.entries_bytes, MAX_ENTRIES_BYTES))

    @property
    def entries_bytes(self) -> int:
        """How long the entries are, by their number and length."""
        return _u32(self.data, 80) * self.entry_bytes

    @property
    def entry_bytes(self) -> int:
        """How long an entry is."""
        return _u32(self.data, 84)

    @property
    def in_bounds(self) -> bool:
        """Whether the entries are of a sound length, and all of them are held."""
        return bool(0 < self.entries_bytes <= MAX_ENTRIES_BYTES and not self.entry_bytes % ENTRY_BYTES)

    def intact_backup(self, backup: bytes) -> bool:
        """Whether these bytes are this header's backup."""
        return (
            len(backup) == HEADER_BYTES
            and backup.startswith(SIGNATURE)
            and _u64(backup, 24) == _u64(self.data, 32)
            and _intact(backup)
        )

    def table(self, entries: bytes) -> Table:
        """The table, with the partitions that the entries say are in use."""
        if not self.in_bounds or len(entries) < self.entries_bytes:
            return Table("gpt", self.sector, ())
        used = [at for at in range(0, self.entries_bytes, self.entry_bytes) if any(entries[at : at + 16])]
        spans = [(_u64(entries, at + 32), _u64(entries, at + 40)) for at in used]
        return Table(
            "gpt",
            self.sector,
            tuple(
                Partition(first * self.sector, (last - first + 1) * self.sector)
                for first, last in spans
                if last >= first
            ),
        )

    def checks(self, front: bytes, entries: bytes, backup: bytes | None, size: int) -> Iterator[Finding]:
        """Whether the table is intact, and the disk of `size` bytes as long as it says."""
        if not _intact(self.data):
            yield found("checksum_mismatch", "the GPT header does not have the checksum that it states")
        end = (_u64(self.data, 32) + 1) * self.sector
        if end > size:
            yield found("truncated", f"the GPT is of a disk of {end} bytes, the object has {size}")
        elif backup is not None and not self.intact_backup(backup):
            yield found("structure", "the backup GPT header is not where the GPT says")
        if self.sector == SECTORS[0] and _header(front, SECTORS[1]) is not None:
            yield found("structure", "there are two GPTs, for sectors of 512 and of 4096 bytes")
        if not self.in_bounds:
            yield found(
                "structure",
                f"GPT entries of {self.entry_bytes} bytes, {self.entries_bytes} together, are out of bounds",
            )
        elif len(entries) < self.entries_bytes:
            yield found("truncated", "the GPT entries end beyond the object's end")
        elif crc32(entries) != _u32(self.data, 88):
            yield found(
                "checksum_mismatch", "the GPT entries do not have the checksum that the header states"
            )


def parse(front: bytes) -> GPTHeader | None:
    """The primary header of an object that begins so; `None` if there is none behind a protective MBR."""
    if not dos.is_protective(front):
        return None
    for sector in SECTORS:
        header = _header(front, sector)
        if header is not None:
            return GPTHeader(sector, header)
    return None


def _header(front: bytes, sector: int) -> bytes | None:
    header = front[sector : sector + HEADER_BYTES]
    primary = len(header) == HEADER_BYTES and header.startswith(SIGNATURE) and _u64(header, 24) == 1
    return header if primary else None


def _intact(header: bytes) -> bool:
    """Whether a header has its checksum. One that states another length than 92 bytes is not known to."""
    zeroed = header[:16] + bytes(4) + header[20:HEADER_BYTES]
    return _u32(header, 12) == HEADER_BYTES and crc32(zeroed) == _u32(header, 16)


def _u32(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")


def _u64(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 8], "little")
