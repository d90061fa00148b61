"""What makes an object without a header of its own a disk: a partition table, MBR ("dos") or GPT.

Source: UEFI Specification 2.10, sections 5.2 (MBR) and 5.3 (GPT). All fields are little-endian.

| at | bytes | field |
|---|---|---|
| 446 | 4 x 16 | MBR partitions: status u8 (0x00 or 0x80), type u8@4, first sector u32@8, sectors u32@12 |
| 510 | 2 | 55 AA |
| sector 1 | 92 | GPT header: `EFI PART`, header size u32@12, CRC-32 u32@16 (of the header with this field zero), its own sector u64@24, the backup's u64@32, the entries' first sector u64@72, their number u32@80 and length u32@84, their CRC-32 u32@88 |
| by the GPT header | 128 | GPT entry: type GUID (zero: unused), first sector u64@32, last sector u64@40 |
| last sector | 92 | backup GPT header, its own sector and the other's exchanged |

A sector has 512 bytes, with GPT also 4,096. Boot sectors of FAT, NTFS, exFAT and HPFS volumes carry 55 AA,
too, and code where the partitions would stand; they are no partition tables.

Wholeness: with GPT the backup header at the last sector, with MBR the end of the last partition.
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Iterator, Mapping
from struct import unpack_from
from typing import NamedTuple
from zlib import crc32

from worker.inspectors.base import FileInspector
from worker.inspectors.facts import Wholeness
from worker.inspectors.findings import Finding, found
from worker.inspectors.region import CaptureRegion

MBR_BYTES = 512
MBR_SECTOR = 512
GPT_SECTORS = (512, 4096)
GPT_SIGNATURE = b"EFI PART"
GPT_HEADER_BYTES = 92
GPT_ENTRY_BYTES = 128
#: What is held of the entries: all of the 128 that partitioning tools make room for, and four times as many.
MAX_ENTRIES_BYTES = 64 * 1024
PROTECTIVE = 0xEE

#: What volumes' boot sectors state about themselves, by where they state it.
VOLUME_NAMES = {3: (b"NTFS", b"EXFAT", b"IBM", b"OS2"), 54: (b"FAT", b"HPFS"), 82: (b"FAT",)}


class Partition(NamedTuple):
    """A partition of the MBR, in sectors of 512 bytes."""

    status: int
    kind: int
    first: int
    sectors: int


class RawDiskInspector(FileInspector):
    """A raw disk, recognised by its partition table."""

    NAME = "raw"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self.new_region("mbr", CaptureRegion(0, MBR_BYTES))
        for sector in GPT_SECTORS:
            self.new_region(f"gpt_{sector}", CaptureRegion(sector, GPT_HEADER_BYTES))

    @property
    def format_match(self) -> bool:
        """Whether a partition table was recognised."""
        return bool(self.content)

    @property
    def content(self) -> tuple[str, ...]:
        """`gpt`, `dos`, or nothing."""
        if self._gpt is not None:
            return ("gpt",)
        return ("dos",) if self._partitions else ()

    def post_process(self) -> None:
        """Once the GPT header is here, declare its backup and its entries."""
        gpt = self._gpt
        if gpt is not None and not self.has_region("backup"):
            sector, header = gpt
            self.new_region("backup", CaptureRegion(_u64(header, 32) * sector, GPT_HEADER_BYTES))
            length = min(self._entries_bytes(header), MAX_ENTRIES_BYTES)
            self.new_region("entries", CaptureRegion(_u64(header, 72) * sector, length))

    @property
    def wholeness(self) -> Wholeness:
        """Proven when the backup GPT header, or the end of the last MBR partition, lies inside the object."""
        if self._gpt is not None:
            return Wholeness.PROVEN if self._backup_intact else Wholeness.UNCHECKED
        return Wholeness.PROVEN if self._partitions and self._size is not None else Wholeness.UNCHECKED

    def details(self) -> Mapping[str, object]:
        """The partition table's kind, and sector size or partitions."""
        if self._gpt is not None:
            return {"partition_table": "gpt", "sector_size": self._gpt[0]}
        if self._partitions:
            return {"partition_table": "dos", "partitions": len(self._partitions)}
        return {}

    def checks(self) -> list[Finding]:
        """Whether the partition table is intact and the disk as long as it says."""
        return [*self._gpt_checks()] if self._gpt is not None else [*self._mbr_checks()]

    def _gpt_checks(self) -> Iterator[Finding]:
        if self._gpt is None or self._size is None:
            return
        sector, header = self._gpt
        if not _gpt_intact(header):
            yield found("checksum_mismatch", "the GPT header does not have the checksum that it states")
        end = (_u64(header, 32) + 1) * sector
        if end > self._size:
            yield found("truncated", f"the GPT is of a disk of {end} bytes, the object has {self._size}")
        elif self.filled("backup") and not self._backup_intact:
            yield found("structure", "the backup GPT header is not where the GPT says")
        if sector == MBR_SECTOR and _is_gpt(self.captured("gpt_4096")):
            yield found("structure", "there are two GPTs, for sectors of 512 and of 4096 bytes")
        yield from self._entry_checks(sector, header)

    def _entry_checks(self, sector: int, header: bytes) -> Iterator[Finding]:
        length, entry_length = self._entries_bytes(header), _u32(header, 84)
        if not length or length > MAX_ENTRIES_BYTES or entry_length % GPT_ENTRY_BYTES:
            yield found(
                "structure", f"GPT entries of {entry_length} bytes, {length} together, are out of bounds"
            )
            return
        entries = self.captured("entries")
        if len(entries) < length:
            yield found("truncated", "the GPT entries end beyond the object's end")
            return
        if crc32(entries) != _u32(header, 88):
            yield found(
                "checksum_mismatch", "the GPT entries do not have the checksum that the header states"
            )
        used = [at for at in range(0, length, entry_length) if any(entries[at : at + 16])]
        end = max(((_u64(entries, at + 40) + 1) * sector for at in used), default=0)
        if end > self.actual_size:
            yield found("truncated", f"a partition ends at byte {end}, the object at {self.actual_size}")

    def _mbr_checks(self) -> Iterator[Finding]:
        if self._size is None:
            return
        if any(partition.kind == PROTECTIVE for partition in self._partitions):
            yield found("structure", "the MBR says that there is a GPT, but its header is not there")
            return
        for number, partition in enumerate(self._partitions, 1):
            end = (partition.first + partition.sectors) * MBR_SECTOR
            if end > self._size:
                yield found("truncated", f"partition {number} ends at byte {end}, the object at {self._size}")

    @property
    def _partitions(self) -> list[Partition]:
        """The partitions of a real MBR; none if the sector is something else."""
        sector = self.captured("mbr")
        if len(sector) < MBR_BYTES or sector[510:] != b"\x55\xaa" or _is_boot_sector(sector):
            return []
        entries = [
            Partition(sector[at], sector[at + 4], *unpack_from("<II", sector, at + 8))
            for at in range(446, 510, 16)
        ]
        used = [entry for entry in entries if entry.kind]
        sound = all(entry.status in {0x00, 0x80} for entry in entries) and all(
            entry.first and entry.sectors for entry in used
        )
        return used if sound else []

    @property
    def _gpt(self) -> tuple[int, bytes] | None:
        """The sector size and the primary header of a GPT behind a protective or hybrid MBR."""
        if not any(partition.kind == PROTECTIVE for partition in self._partitions):
            return None
        for sector in GPT_SECTORS:
            if not self.filled(f"gpt_{sector}"):
                return None
            header = self.captured(f"gpt_{sector}")
            if _is_gpt(header):
                return sector, header
        return None

    def _entries_bytes(self, header: bytes) -> int:
        return _u32(header, 80) * _u32(header, 84)

    @property
    def _backup_intact(self) -> bool:
        if self._gpt is None:
            return False
        primary, backup = self._gpt[1], self.captured("backup")
        return (
            len(backup) == GPT_HEADER_BYTES
            and backup.startswith(GPT_SIGNATURE)
            and _u64(backup, 24) == _u64(primary, 32)
            and _gpt_intact(backup)
        )


def _u32(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")


def _u64(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 8], "little")


def _is_gpt(header: bytes) -> bool:
    """Whether this is a GPT's primary header."""
    return len(header) == GPT_HEADER_BYTES and header.startswith(GPT_SIGNATURE) and _u64(header, 24) == 1


def _gpt_intact(header: bytes) -> bool:
    """Whether a GPT header has its checksum. One that states another length than 92 bytes is not known to."""
    zeroed = header[:16] + bytes(4) + header[20:GPT_HEADER_BYTES]
    return _u32(header, 12) == GPT_HEADER_BYTES and crc32(zeroed) == _u32(header, 16)


def _is_boot_sector(sector: bytes) -> bool:
    """Whether a sector that ends in 55 AA says that it is a volume's boot sector."""
    jump = sector[0] in {0xEB, 0xE9}
    return jump and any(
        sector[at : at + len(name)] == name for at, names in VOLUME_NAMES.items() for name in names
    )
