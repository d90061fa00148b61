"""Builds images of optical discs: ISO 9660, UDF, or both.

ISO 9660 (ECMA-119) has descriptors of 2,048 bytes from the offset 32768 on. Most numbers are stored twice,
first little-endian and then big-endian::

      0  type u8: 0 boot, 1 primary, 2 supplementary, 255 end    1  "CD001" 01
     40  name, 32 bytes     80  blocks u32     88  escape sequences (Joliet: %/E)
    120  volumes in the set u16   124  this volume's number u16   128  block size u16
    132  path table's bytes u32   140  path tables: u32 little-endian, 0, u32 big-endian, 0
    156  the root directory's record: 34 bytes                        881  version u8 = 1

UDF (ECMA-167) has recognition descriptors with the identifiers `BEA01`, `NSR02` and `TEA01`, each in 2,048
bytes (or in a block, if blocks are larger), from the offset 32768 on. Block 256 contains an anchor, which
states where all other descriptors are. The anchor and each of these descriptors begin with a tag: identifier
u16, version u16, sum u8, one unused byte, serial number u16, CRC u16, the number of bytes that the CRC covers
u16, block u32. This builder writes a partition descriptor (identifier 5), a logical volume descriptor (6) and
a terminating descriptor (8).
"""

import struct
from binascii import crc_hqx

from keyhole.builders.image import Image

SECTOR = 2048
SET_BLOCK = 16
ROOT_BLOCK, PATH_TABLE_BLOCK, BIG_PATH_TABLE_BLOCK, BOOT_CATALOG_BLOCK = 24, 25, 26, 27
ANCHOR_BLOCK = 256
MAIN_BLOCK, RESERVE_BLOCK, PARTITION_BLOCK = 96, 128, 257
SEQUENCE_BLOCKS = 16
ROCK_RIDGE = b"SP\x07\x01\xbe\xef\0"


def iso(
    blocks: int = 200,
    *,
    name: str = "KEYHOLE",
    joliet: bool = False,
    rock_ridge: bool = False,
    el_torito: bool = False,
    udf: bool = False,
) -> Image:
    """Return an ISO 9660 volume of `blocks` blocks with an empty root directory.

    With `udf`, the volume is a bridge disc, which is valid as ISO 9660 and as UDF.
    """
    pieces = []
    descriptors = [_volume_descriptor(1, blocks, name)]
    if el_torito:
        descriptors.append(
            b"\0CD001\x01" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", 25)
        )
    if joliet:
        descriptors.append(_volume_descriptor(2, blocks, name))
    descriptors.append(b"\xffCD001\x01")
    if udf:
        descriptors += [b"\0BEA01\x01", b"\0NSR02\x01", b"\0TEA01\x01"]
        pieces += _udf_pieces(blocks, SECTOR, name)
    pieces += [((SET_BLOCK + index) * SECTOR, data) for index, data in enumerate(descriptors)]
    system_use = ROCK_RIDGE if rock_ridge else b""
    root = _record(b"\0", system_use) + _record(b"\x01", b"")
    pieces.append((ROOT_BLOCK * SECTOR, root))
    pieces.append((PATH_TABLE_BLOCK * SECTOR, struct.pack("<2BIHx", 1, 0, ROOT_BLOCK, 1)))
    pieces.append((BIG_PATH_TABLE_BLOCK * SECTOR, struct.pack(">2BIHx", 1, 0, ROOT_BLOCK, 1)))
    return Image.of(blocks * SECTOR, pieces)


def udf(blocks: int = 400, *, block_size: int = SECTOR, name: str = "KEYHOLE") -> Image:
    """Return a UDF volume of `blocks` blocks with an empty partition.

    The volume has the recognition descriptors, an anchor, and the main and the reserve descriptor sequence.
    """
    step = max(block_size, SECTOR)
    recognition = [
        (32768 + index * step, b"\0" + what + b"\x01")
        for index, what in enumerate((b"BEA01", b"NSR02", b"TEA01"))
    ]
    return Image.of(blocks * block_size, [*recognition, *_udf_pieces(blocks, block_size, name)])


def _volume_descriptor(kind: int, blocks: int, name: str) -> bytes:
    text = name.encode("ascii" if kind == 1 else "utf-16-be")
    padding = b" " if kind == 1 else b"\0 "
    field = (text + padding * 32)[:32]
    escapes = b"%/E" if kind == 2 else b""
    descriptor = (
        struct.pack("<B5sBx32s32s8x", kind, b"CD001", 1, bytes(32), field)
        + _both(blocks, 4)
        + escapes.ljust(32, b"\0")
        + _both(1, 2)
        + _both(1, 2)
        + _both(SECTOR, 2)
        + _both(10, 4)
        + PATH_TABLE_BLOCK.to_bytes(8, "little")
        + BIG_PATH_TABLE_BLOCK.to_bytes(4, "big")
        + bytes(4)
        + _record(b"\0", b"")
    )
    return descriptor.ljust(881, b"\0") + b"\x01"


def _record(identifier: bytes, system_use: bytes) -> bytes:
    """Return the record in a directory for the directory itself (identifier 00) or for its parent (01)."""
    rest = (
        _both(ROOT_BLOCK, 4) + _both(SECTOR, 4) + bytes(7) + b"\x02\0\0" + _both(1, 2) + b"\x01" + identifier
    )
    return bytes([2 + len(rest) + len(system_use), 0]) + rest + system_use


def _both(value: int, length: int) -> bytes:
    return value.to_bytes(length, "little") + value.to_bytes(length, "big")


def _udf_pieces(blocks: int, block_size: int, name: str) -> list[tuple[int, bytes]]:
    length = SEQUENCE_BLOCKS * block_size
    anchor = struct.pack("<4I", length, MAIN_BLOCK, length, RESERVE_BLOCK)
    pieces = [(ANCHOR_BLOCK * block_size, _tagged(2, ANCHOR_BLOCK, anchor))]
    text = b"\x08" + name.encode("latin-1")
    partition = struct.pack(
        "<IHH32s128sI2I", 1, 1, 0, b"\0+NSR02", b"", 1, PARTITION_BLOCK, blocks - PARTITION_BLOCK
    )
    logical = struct.pack("<I64s127sB", 2, b"", text, len(text)) + struct.pack("<I", block_size)
    for first in (MAIN_BLOCK, RESERVE_BLOCK):
        for index, (identifier, data) in enumerate(((5, partition), (6, logical), (8, b""))):
            pieces.append(((first + index) * block_size, _tagged(identifier, first + index, data)))
    return pieces


def _tagged(identifier: int, block: int, data: bytes) -> bytes:
    """Return a UDF descriptor of 512 bytes: the tag with its sum and CRC, and the data."""
    body = data.ljust(496, b"\0")
    tag = bytearray(struct.pack("<HHBxHHHI", identifier, 2, 0, 0, crc_hqx(body, 0), len(body), block))
    tag[4] = sum(tag) & 0xFF
    return bytes(tag) + body
