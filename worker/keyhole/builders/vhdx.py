"""Builds images in VHDX, Hyper-V's format (little-endian; MS-VHDX, sections 2.2 to 2.6).

The structures at fixed offsets have slots of 64 KiB each::

      0 KiB  file identifier: "vhdxfile", creator UTF-16LE
     64 KiB  header 1, 4 KiB
    128 KiB  header 2, with a higher sequence number
    192 KiB  region table 1, 64 KiB
    256 KiB  region table 2, a copy

A header has "head", CRC-32C u32, sequence number u64, file write GUID, data write GUID, log GUID, log version
u16 = 0, version u16 = 1, log length u32, log offset u64.

A region table has "regi", CRC-32C u32, the number of entries u32 and, from byte 16 on, the entries of 32
bytes: GUID, offset u64, length u32, required u32.

All other structures are at multiples of 1 MiB: the log, the metadata region, the BAT and the payload blocks.

The metadata region begins with "metadata", and has the number of entries u16 at byte 10 and entries of 32
bytes from byte 32 on: item GUID, offset in the region u32, length u32, flags u32. The items themselves start
at 64 KiB.

A BAT entry u64 contains the block's state in the lowest 3 bits (0 not present, 6 fully present), and the
block's file offset in MiB from bit 20 on. A chunk is the part of the disk that one sector bitmap covers. In
the BAT, the entry for the sector bitmap of a chunk follows the entries for the blocks of the chunk. The field
of a CRC-32C contains zero while the CRC-32C is computed.
"""

import struct
from collections.abc import Mapping
from uuid import UUID

from google_crc32c import value as crc32c

from keyhole.builders.guest import SECTOR, Allocated, block_numbers, pattern
from keyhole.builders.image import Image, ceil_div, round_up

MIB = 1 << 20
SLOT = 64 << 10
HEADER_SIZE = 4 << 10
REGION_TABLE_SIZE = 64 << 10
LOG_SIZE = MIB
METADATA_SIZE = MIB

#: The offset of the first item in the metadata region, in bytes. A table of the items precedes the items.
ITEMS_OFFSET = 64 << 10

#: The number of sectors that one sector bitmap of 1 MiB covers (section 2.5).
SECTORS_OF_A_CHUNK = 1 << 23

FULLY_PRESENT = 6
HAS_PARENT = 2
REQUIRED, VIRTUAL_DISK = 4, 2

BAT_REGION = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_REGION = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VIRTUAL_DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
VIRTUAL_DISK_ID = UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR_SIZE = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR_SIZE = UUID("cda348c7-445d-4471-9cc9-e9885251c556")
PARENT_LOCATOR = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
VHDX_PARENT = UUID("b04aefb7-d19e-4a81-b789-25b8e9445913")

NO_LOG = UUID(int=0)
FILE_WRITE_ID = UUID("4b657968-6f6c-4000-8000-766864783031")
DATA_WRITE_ID = UUID("4b657968-6f6c-4000-8000-766864783032")
DISK_ID = UUID("4b657968-6f6c-4000-8000-766864783033")
PARENT_DATA_WRITE_ID = UUID("4b657968-6f6c-4000-8000-766864783034")


def vhdx(
    virtual_size: int,
    *,
    block_size: int = 32 * MIB,
    allocated: Allocated = 0,
    metadata_offset: int = 2 * MIB,
    bat_offset: int = 3 * MIB,
    parent: str | None = None,
    log_guid: UUID = NO_LOG,
) -> Image:
    """Return a dynamic VHDX of `virtual_size` bytes that stores the `allocated` blocks.

    The first sector of each stored block contains a test pattern. `parent` is the relative path of a parent.
    If `parent` is given, the image is a differencing image. `metadata_offset` and `bat_offset` are multiples
    of 1 MiB. The log is at the first free place, and the payload blocks follow the log, the metadata region
    and the BAT. If `log_guid` is not zero, the header states that a reader must replay the log, although this
    builder writes an empty log.

    Raises:
        ValueError: The metadata region and the BAT overlap.
    """
    blocks = ceil_div(virtual_size, block_size)
    written = block_numbers(allocated, blocks)
    chunk = SECTORS_OF_A_CHUNK * SECTOR // block_size
    chunks = ceil_div(blocks, chunk)
    entries = chunks * (chunk + 1) if parent else blocks + max(0, blocks - 1) // chunk
    bat_size = round_up(max(8 * entries, 1), MIB)

    spans = [(metadata_offset, METADATA_SIZE), (bat_offset, bat_size)]
    if max(offset for offset, _ in spans) < min(offset + length for offset, length in spans):
        raise ValueError(f"the metadata region and the BAT ({bat_size} bytes) overlap")
    log_offset = _first_free(spans)
    payload = max(offset + length for offset, length in [*spans, (log_offset, LOG_SIZE)])

    place = {block: payload + index * round_up(block_size, MIB) for index, block in enumerate(written)}
    bat = [
        (bat_offset + 8 * (block + block // chunk), struct.pack("<Q", offset | FULLY_PRESENT))
        for block, offset in place.items()
    ]
    locator = _parent_locator(parent) if parent else b""
    metadata = _metadata(virtual_size, block_size, locator)
    regions = _region_table({BAT_REGION: (bat_offset, bat_size), METADATA_REGION: spans[0]})
    pieces = [
        (0, b"vhdxfile" + "Keyhole sample".encode("utf-16-le")),
        (1 * SLOT, _header(1, log_guid, log_offset)),
        (2 * SLOT, _header(2, log_guid, log_offset)),
        (3 * SLOT, regions),
        (4 * SLOT, regions),
        *((metadata_offset + offset, data) for offset, data in metadata),
        *bat,
        *((offset, pattern(block)) for block, offset in place.items()),
    ]
    return Image.of(payload + len(written) * block_size, pieces)


def _first_free(spans: list[tuple[int, int]]) -> int:
    """Return the lowest offset, at least 1 MiB, at which the log does not overlap the regions in `spans`."""
    candidate = MIB
    for offset, length in sorted(spans):
        if candidate + LOG_SIZE <= offset:
            break
        candidate = max(candidate, offset + length)
    return candidate


def _header(sequence: int, log_guid: UUID, log_offset: int) -> bytes:
    header = struct.pack(
        "<4sIQ16s16s16sHHIQ",
        b"head",
        0,
        sequence,
        FILE_WRITE_ID.bytes_le,
        DATA_WRITE_ID.bytes_le,
        log_guid.bytes_le,
        0,
        1,
        LOG_SIZE,
        log_offset,
    )
    return _with_checksum(header.ljust(HEADER_SIZE, b"\0"))


def _region_table(regions: Mapping[UUID, tuple[int, int]]) -> bytes:
    entries = b"".join(
        struct.pack("<16sQII", guid.bytes_le, offset, length, 1) for guid, (offset, length) in regions.items()
    )
    table = struct.pack("<4sIII", b"regi", 0, len(regions), 0) + entries
    return _with_checksum(table.ljust(REGION_TABLE_SIZE, b"\0"))


def _with_checksum(structure: bytes) -> bytes:
    return structure[:4] + struct.pack("<I", crc32c(structure)) + structure[8:]


def _metadata(virtual_size: int, block_size: int, locator: bytes) -> list[tuple[int, bytes]]:
    """Return the metadata table and the items (section 2.6.2), each with its offset in the region."""
    disk_flags = REQUIRED | VIRTUAL_DISK
    items = [
        (FILE_PARAMETERS, REQUIRED, struct.pack("<II", block_size, HAS_PARENT if locator else 0)),
        (VIRTUAL_DISK_SIZE, disk_flags, struct.pack("<Q", virtual_size)),
        (VIRTUAL_DISK_ID, disk_flags, DISK_ID.bytes_le),
        (LOGICAL_SECTOR_SIZE, disk_flags, struct.pack("<I", SECTOR)),
        (PHYSICAL_SECTOR_SIZE, disk_flags, struct.pack("<I", 4096)),
    ]
    if locator:
        items.append((PARENT_LOCATOR, REQUIRED, locator))
    table = struct.pack("<8s2xH20x", b"metadata", len(items))
    offset = ITEMS_OFFSET
    pieces = []
    for guid, flags, data in items:
        table += struct.pack("<16sIII4x", guid.bytes_le, offset, len(data), flags)
        pieces.append((offset, data))
        offset += len(data)
    return [(0, table), *pieces]


def _parent_locator(relative_path: str) -> bytes:
    """Return the parent locator, which consists of key-value pairs (sections 2.6.2.6.1 and 2.6.2.6.3)."""
    pairs = {"parent_linkage": f"{{{PARENT_DATA_WRITE_ID}}}", "relative_path": relative_path}
    words = [(key.encode("utf-16-le"), value.encode("utf-16-le")) for key, value in pairs.items()]
    locator = struct.pack("<16s2xH", VHDX_PARENT.bytes_le, len(words))
    strings = b""
    start = len(locator) + 12 * len(words)
    for key, value in words:
        at = start + len(strings)
        locator += struct.pack("<IIHH", at, at + len(key), len(key), len(value))
        strings += key + value
    return locator + strings
