"""Parses the metadata items of a VHDX, which describe the disk and its parent. All fields are little-endian.

Source: Microsoft, [MS-VHDX], section 2.6 (metadata region). In the metadata table, a GUID identifies each
item.
"""

from collections.abc import Iterator, Mapping
from struct import unpack_from
from typing import Final, NamedTuple

from keyhole.inspectors.formats.vhdx.tables import KIB, MIB
from keyhole.inspectors.text import printable

#: At most this many bytes of an item are read. Only a parent locator can be longer. If a parent locator is
#: longer, the report contains only the beginnings of its paths.
MAX_ITEM_BYTES = 64 * KIB
#: At most this many entries of a parent locator are read. A parent locator usually has about five entries.
MAX_LOCATOR_ENTRIES = 16
#: The size of the largest disk, 64 TiB (2.6.2.2).
MAX_DISK_BYTES = 64 * 1024 * 1024 * MIB

VIRTUAL_DISK_SIZE = "2FA54224-CD1B-4876-B211-5DBED83BF4B8"
FILE_PARAMETERS = "CAA16737-FA36-4D43-B3B6-33F0AA44E76B"
LOGICAL_SECTOR_SIZE = "8141BF1D-A96F-4709-BA47-F233A8FAAB5F"
PHYSICAL_SECTOR_SIZE = "CDA348C7-445D-4471-9CC9-E9885251C556"
VIRTUAL_DISK_ID = "BECA12AB-B2E6-4523-93EF-C309E000C746"
PARENT_LOCATOR = "A8D35F2D-B30B-454D-ABF7-D3D84834AB0C"

#: The items that are read. Each item is mapped to the number of its bytes that are read.
READ_ITEMS: Final[Mapping[str, int]] = {
    VIRTUAL_DISK_SIZE: 8,
    FILE_PARAMETERS: 8,
    LOGICAL_SECTOR_SIZE: 4,
    PARENT_LOCATOR: MAX_ITEM_BYTES,
}
#: The items that every image must have. Each item is mapped to its length in bytes (2.6.2).
REQUIRED_ITEMS: Final[Mapping[str, int]] = {
    FILE_PARAMETERS: 8,
    VIRTUAL_DISK_SIZE: 8,
    VIRTUAL_DISK_ID: 16,
    LOGICAL_SECTOR_SIZE: 4,
    PHYSICAL_SECTOR_SIZE: 4,
}
KNOWN_ITEMS = frozenset({*REQUIRED_ITEMS, PARENT_LOCATOR})

#: Flags of the file parameters.
LEAVE_ALLOCATED, HAS_PARENT = 1, 2
FIXED, DYNAMIC, DIFFERENCING = "fixed", "dynamic", "differencing"


class Disk(NamedTuple):
    """The disk that the metadata describe.

    Sizes are in bytes. A size is zero if it is unknown or out of bounds.
    """

    size: int
    stated_block_size: int
    stated_sector_size: int
    subformat: str | None

    @classmethod
    def of(cls, size: bytes, parameters: bytes, sector: bytes) -> "Disk":
        """Return the disk that three items describe: size, file parameters, and logical sector size."""
        block_size, flags = unpack_from("<II", parameters) if len(parameters) == 8 else (0, None)
        return cls(
            int.from_bytes(size, "little") if len(size) == 8 else 0,
            block_size,
            int.from_bytes(sector, "little"),
            None if flags is None else _subformat(flags),
        )

    @property
    def block_size(self) -> int:
        """The block size; zero unless it is a power of two from 1 MiB to 256 MiB (2.6.2.1)."""
        block = self.stated_block_size
        return block if MIB <= block <= 256 * MIB and not block & (block - 1) else 0

    @property
    def sector_size(self) -> int:
        """The logical sector size; zero unless it is 512 or 4,096."""
        return self.stated_sector_size if self.stated_sector_size in {512, 4096} else 0

    @property
    def chunk_ratio(self) -> int:
        """How many data blocks share one sector bitmap block (2.5.1); zero if a size is unknown."""
        return (1 << 23) * self.sector_size // self.block_size if self.block_size else 0

    @property
    def bat_entries(self) -> int:
        """How many BAT entries the disk needs, including the entries of bitmap blocks; zero if unknown."""
        ratio = self.chunk_ratio
        if not ratio or not self.size:
            return 0
        blocks = -(-self.size // self.block_size)
        if self.subformat == DIFFERENCING:
            return -(-blocks // ratio) * (ratio + 1)
        return blocks + (blocks - 1) // ratio


def _subformat(flags: int) -> str:
    if flags & HAS_PARENT:
        return DIFFERENCING
    return FIXED if flags & LEAVE_ALLOCATED else DYNAMIC


def parent_locator(item: bytes) -> Iterator[tuple[str, str]]:
    """Yield the keys and values of a parent locator (2.6.2.6), which are stored in UTF-16LE.

    The locator has its number of entries as a u16 at byte 18, and entries of 12 bytes from byte 20 on.
    """
    if len(item) < 20:
        return
    count = min(unpack_from("<H", item, 18)[0], MAX_LOCATOR_ENTRIES)
    for at in range(20, min(20 + 12 * count, len(item) - 11), 12):
        key_at, value_at, key_length, value_length = unpack_from("<IIHH", item, at)
        key, value = item[key_at : key_at + key_length], item[value_at : value_at + value_length]
        yield printable(key, "utf-16-le"), printable(value, "utf-16-le")
