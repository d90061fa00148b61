"""Builds LUKS volumes, versions 1 and 2. The headers have no key, so nobody can open the volumes.

Header of version 1, 592 bytes at byte 0 (big-endian; "LUKS On-Disk Format Specification" 1.2.3, section
2.3)::

      0  "LUKS" BA BE            6  version u16 = 1
      8  cipher, 32 bytes       40  mode, 32 bytes            72  hash, 32 bytes
    104  payload offset u32, sectors                         108  key bytes u32
    112  master key digest, 20 bytes; salt, 32 bytes         164  iterations u32
    168  UUID as text, 40 bytes
    208  eight key slots of 48 bytes: 0000DEAD (unused) u32, iterations u32, salt 32 bytes,
         key material's offset u32, sectors; stripes u32 = 4000

Header of version 2, 4096 bytes at byte 0. A copy, which begins with "SKUL", follows the metadata (big-endian;
"LUKS2 On-Disk Format Specification" 1.1.1, chapter 2)::

      0  "LUKS" BA BE            6  version u16 = 2           8  size with metadata u64
     16  sequence number u64    24  label, 48 bytes          72  checksum algorithm, 32 bytes
    104  salt, 64 bytes        168  UUID as text, 40 bytes  208  subsystem, 48 bytes
    256  own offset u64        448  checksum, 64 bytes      4096  metadata as JSON
"""

import hashlib
import json
import struct
from base64 import b64encode
from collections.abc import Mapping

from keyhole.builders.guest import SECTOR
from keyhole.builders.image import Image, ceil_div, round_up

KEY_SLOTS = 8
KEY_BYTES = 32
STRIPES = 4000

#: The alignment of key material in sectors. cryptsetup also aligns key material to 4 KiB.
ALIGNMENT = 8
SLOT_SECTORS = round_up(ceil_div(KEY_BYTES * STRIPES, SECTOR), ALIGNMENT)
PAYLOAD_SECTOR = ALIGNMENT + KEY_SLOTS * SLOT_SECTORS

UNUSED_SLOT = 0x0000DEAD
VOLUME_UUID = b"4b657968-6f6c-4000-8000-6c756b732d31"

BINARY_HEADER_SIZE = 4096
#: The sizes in bytes that cryptsetup uses: 16 KiB for each header, and 16 MiB for all data before the
#: payload.
HEADER_SIZE = 16 << 10
PAYLOAD_OFFSET = 16 << 20
#: The size of a key slot's area in bytes: 4000 stripes of a key of 64 bytes, rounded up to whole pages.
AREA_SIZE = round_up(64 * STRIPES, 4096)


def luks(virtual_size: int) -> Image:
    """Return a LUKS1 volume: a header, empty key slots, and `virtual_size` bytes of payload."""
    return Image.of(PAYLOAD_SECTOR * SECTOR + virtual_size, [(0, luks_header())])


def luks_header() -> bytes:
    """Return the 592 bytes of the header.

    The key material follows the header, and the payload begins at the sector `PAYLOAD_SECTOR`.
    """
    header = struct.pack(
        ">6sH32s32s32sII20s32sI40s",
        b"LUKS\xba\xbe",
        1,
        b"aes",
        b"xts-plain64",
        b"sha256",
        PAYLOAD_SECTOR,
        KEY_BYTES,
        b"\x4b" * 20,
        b"\x4b" * 32,
        1000,
        VOLUME_UUID,
    )
    slots = b"".join(
        struct.pack(">II32xII", UNUSED_SLOT, 0, ALIGNMENT + slot * SLOT_SECTORS, STRIPES)
        for slot in range(KEY_SLOTS)
    )
    return header + slots


def luks2(
    virtual_size: int,
    *,
    header_size: int = HEADER_SIZE,
    metadata: Mapping[str, object] | None = None,
    fixed_size: bool = False,
) -> Image:
    """Return a LUKS2 volume: two headers, the empty area of a key slot, and `virtual_size` bytes of payload.

    `metadata` replaces the default metadata. With `fixed_size`, the default metadata states the size of the
    segment. Otherwise the metadata states that the segment extends to the end of the volume, which is the
    usual case.
    """
    text = json.dumps(metadata or luks2_metadata(header_size, virtual_size if fixed_size else None)).encode()
    pieces = [
        (0, luks2_header(b"LUKS\xba\xbe", 0, header_size, text)),
        (header_size, luks2_header(b"SKUL\xba\xbe", header_size, header_size, text)),
    ]
    return Image.of(PAYLOAD_OFFSET + virtual_size, pieces)


def luks2_metadata(header_size: int = HEADER_SIZE, size: int | None = None) -> dict[str, object]:
    """Return the metadata of a volume with one key slot and one segment.

    The segment has `size` bytes; `None` means that the segment extends to the volume's end.
    """
    cipher = {"encryption": "aes-xts-plain64"}
    kdf = {"type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": b64encode(b"\x4b" * 32).decode()}
    area = {"type": "raw", "offset": str(2 * header_size), "size": str(AREA_SIZE), "key_size": 64}
    keyslot = {
        "type": "luks2",
        "key_size": 64,
        "af": {"type": "luks1", "stripes": STRIPES, "hash": "sha256"},
        "area": area | cipher,
        "kdf": kdf,
    }
    segment = {
        "type": "crypt",
        "offset": str(PAYLOAD_OFFSET),
        "size": "dynamic" if size is None else str(size),
        "iv_tweak": "0",
        "sector_size": SECTOR,
    }
    digest = kdf | {"keyslots": ["0"], "segments": ["0"], "digest": kdf["salt"]}
    return {
        "keyslots": {"0": keyslot},
        "tokens": {},
        "segments": {"0": segment | cipher},
        "digests": {"0": digest},
        "config": {
            "json_size": str(header_size - BINARY_HEADER_SIZE),
            "keyslots_size": str(PAYLOAD_OFFSET - 2 * header_size),
        },
    }


def luks2_header(magic: bytes, offset: int, size: int, text: bytes) -> bytes:
    """Return the header at the offset `offset`, followed by the metadata `text`.

    The header and the metadata together have `size` bytes.
    """
    fields = (magic, 2, size, 1, b"", b"sha256", b"\x4b" * 64, VOLUME_UUID, b"", offset)
    header = struct.pack(">6sHQQ48s32s64s40s48sQ184x64x", *fields).ljust(BINARY_HEADER_SIZE, b"\0")
    area = text.ljust(size - BINARY_HEADER_SIZE, b"\0")
    checksum = hashlib.sha256(header + area).digest().ljust(64, b"\0")
    return header[:448] + checksum + header[512:] + area
