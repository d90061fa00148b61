"""Builds partition tables by their specifications. A test can set every field.

Tools cannot make invalid tables, and write some labels wrongly: parted 3.5 computes a wrong checksum for a
BSD disklabel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from struct import pack, pack_into, unpack, unpack_from
from zlib import crc32

from keyhole.builders import Image

SECTOR = 512
MIB = 1024**2
SIZE = 8 * MIB
LINUX = bytes.fromhex("af3dc60f838472478e793d69d8477de4")

#: Status, type, first sector, sectors.
MBREntry = tuple[int, int, int, int]
PLAIN: MBREntry = (0, 0x83, 2048, 4096)
PROTECTIVE: MBREntry = (0, 0xEE, 1, SIZE // SECTOR - 1)


def mbr(*entries: MBREntry, size: int = SIZE, boot: bytes = b"") -> Image:
    """A disk with an MBR of up to four entries. Boot code precedes the entries."""
    sector = bytearray(SECTOR)
    sector[: len(boot)] = boot
    for number, (status, kind, first, sectors) in enumerate(entries):
        pack_into("<B3sB3sII", sector, 446 + 16 * number, status, b"\0\2\0", kind, b"\0\3\0", first, sectors)
    sector[510:] = b"\x55\xaa"
    return Image.of(size, [(0, bytes(sector))])


@dataclass(frozen=True)
class GPT:
    """A GPT built from its fields, with correct checksums. Partitions are given as first and last sector."""

    size: int = SIZE
    sector: int = SECTOR
    header_bytes: int = 92
    count: int = 128
    entry_bytes: int = 128
    own: int = 1
    first_usable: int | None = None
    last_usable: int | None = None
    backup: int | None = None
    partitions: tuple[tuple[int, int], ...] = ()
    protective: tuple[MBREntry, ...] = (PROTECTIVE,)

    def image(self, **changes: object) -> Image:
        """The disk with the changed fields."""
        changed = replace(self, **changes)  # type: ignore[arg-type]  # fields by name
        return Image.of(changed.size, [*mbr(*changed.protective).pieces, *changed.pieces()])

    def pieces(self) -> list[tuple[int, bytes]]:
        """The pieces of the disk except the MBR."""
        entries, sectors = self._entries(), -(-self.count * self.entry_bytes // self.sector)
        last = self.size // self.sector - 1 if self.backup is None else self.backup
        return [
            (self.sector, self._header(self.own, last, 2, entries)),
            (2 * self.sector, entries),
            ((last - sectors) * self.sector, entries),
            (last * self.sector, self._header(last, self.own, last - sectors, entries)),
        ]

    def _entries(self) -> bytes:
        partitions = self.partitions or ((MIB // self.sector, 2 * MIB // self.sector - 1),)
        entries = [
            pack("<16s16sQQ", LINUX, bytes(15) + bytes([number + 1]), first, last).ljust(
                self.entry_bytes, b"\0"
            )
            for number, (first, last) in enumerate(partitions)
        ]
        return b"".join(entries).ljust(self.count * self.entry_bytes, b"\0")

    def _header(self, own: int, other: int, entries_at: int, entries: bytes) -> bytes:
        sectors = -(-len(entries) // self.sector)
        end = max(own, other)
        usable = (
            2 + sectors if self.first_usable is None else self.first_usable,
            end - sectors - 1 if self.last_usable is None else self.last_usable,
        )
        header = bytearray(max(92, self.header_bytes))
        pack_into("<8sIIII", header, 0, b"EFI PART", 0x10000, self.header_bytes, 0, 0)
        pack_into("<QQQQ16sQ", header, 24, own, other, *usable, b"a disk's own id.", entries_at)
        pack_into("<III", header, 80, self.count, self.entry_bytes, crc32(entries))
        pack_into("<I", header, 16, crc32(header[: self.header_bytes]))
        return bytes(header[: self.sector])


def bsd_disk(
    size: int, *, at: int = 512, first: int = 2048, whole: int | None = None, count: int = 3
) -> Image:
    """A disk with a BSD disklabel and one partition, from sector `first` to its end.

    `whole` is the size of the partition for the whole disk, in sectors; by default, the disk's size.
    """
    label = bytearray(404)
    sectors = size // SECTOR
    pack_into("<I", label, 0, 0x82564557)
    pack_into("<I", label, 40, SECTOR)
    pack_into("<I", label, 60, sectors)
    pack_into("<I", label, 132, 0x82564557)
    pack_into("<H", label, 138, count)
    pack_into("<IIIBBH", label, 148, sectors - first, first, 0, 7, 0, 0)
    pack_into("<IIIBBH", label, 148 + 2 * 16, sectors if whole is None else whole, 0, 0, 0, 0, 0)
    return Image.of(size, [(at, bsd_summed(label))])


def bsd_summed(label: bytearray) -> bytes:
    """A BSD disklabel with its checksum."""
    label[136:138] = bytes(2)
    checksum = 0
    for offset in range(0, 148 + unpack_from("<H", label, 138)[0] * 16, 2):
        checksum ^= unpack_from("<H", label, offset)[0]
    pack_into("<H", label, 136, checksum)
    return bytes(label)


def mac_disk(block: int = 512, *, count: int = 2, marks: Sequence[bytes] = (b"PM", b"PM")) -> Image:
    """A disk with a partition map in blocks. The map lists itself and one partition."""
    first, blocks = MIB // block, MIB // block
    map_entry = pack(">2sHIII32s32s", marks[0], 0, count, 1, 63, b"Apple", b"Apple_partition_map")
    entry = pack(">2sHIII32s32s", marks[1], 0, count, first, blocks, b"disk", b"Apple_HFS")
    driver = pack(">2sHI", b"ER", block, SIZE // block)
    return Image.of(SIZE, [(0, driver), (block, map_entry.ljust(136, b"\0")), (2 * block, entry)])


def sun_disk(*, vtoc: tuple[int, int, int] = (1, 8, 0x600DDEEE), wrong: int = 0) -> Image:
    """A disk with a SunOS label and one partition. The bits of `wrong` are flipped in its checksum."""
    label = bytearray(SECTOR)
    for at, form, value in zip((128, 140, 188), (">I", ">H", ">I"), vtoc, strict=True):
        pack_into(form, label, at, value)
    pack_into(">HH", label, 436, 16, 63)
    pack_into(">II", label, 444, 2, 4096)
    label[508:510] = b"\xda\xbe"
    checksum = 0
    for (word,) in (unpack_from(">H", label, at) for at in range(0, SECTOR, 2)):
        checksum ^= word
    pack_into(">H", label, 510, checksum ^ wrong)
    return Image.of(SIZE, [(0, bytes(label))])


def sgi_disk(*, wrong: int = 0) -> Image:
    """A disk with an IRIX volume header and one partition. `wrong` is added to its checksum."""
    label = bytearray(SECTOR)
    label[:4] = b"\x0b\xe5\xa9\x41"
    pack_into(">III", label, 312, 4096, 2048, 3)
    pack_into(">III", label, 312 + 10 * 12, SIZE // SECTOR, 0, 6)
    pack_into(">I", label, 504, -sum(unpack(">128I", label)) + wrong & 0xFFFFFFFF)
    return Image.of(SIZE, [(0, bytes(label))])
