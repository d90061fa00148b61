"""LUKS version 1: a header without any key in it. Nobody can open the volume, and anybody can recognise it.

Header, 592 bytes at byte 0 (big-endian; "LUKS On-Disk Format Specification" 1.2.3, section 2.3)::

      0  "LUKS" BA BE            6  version u16 = 1
      8  cipher, 32 bytes       40  mode, 32 bytes            72  hash, 32 bytes
    104  payload offset u32, sectors                         108  key bytes u32
    112  master key digest, 20 bytes; salt, 32 bytes         164  iterations u32
    168  UUID as text, 40 bytes
    208  eight key slots of 48 bytes: 0000DEAD (unused) u32, iterations u32, salt 32 bytes,
         key material's offset u32, sectors; stripes u32 = 4000
"""

import struct

from worker.demo.images.guest import SECTOR
from worker.demo.images.image import Image, ceil_div, round_up

KEY_SLOTS = 8
KEY_BYTES = 32
STRIPES = 4000

#: Key material is aligned to 4 KiB, as cryptsetup does.
ALIGNMENT = 8
SLOT_SECTORS = round_up(ceil_div(KEY_BYTES * STRIPES, SECTOR), ALIGNMENT)
PAYLOAD_SECTOR = ALIGNMENT + KEY_SLOTS * SLOT_SECTORS

UNUSED_SLOT = 0x0000DEAD
VOLUME_UUID = b"4b657968-6f6c-4000-8000-6c756b732d31"


def luks(virtual_size: int) -> Image:
    """A LUKS volume: header, empty key slots, and `virtual_size` bytes of payload."""
    return Image.of(PAYLOAD_SECTOR * SECTOR + virtual_size, [(0, luks_header())])


def luks_header() -> bytes:
    """The 592 bytes of the header; key slots and payload follow at `PAYLOAD_SECTOR`."""
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
