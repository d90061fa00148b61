"""Builds EWF files, EnCase's evidence files: a chain of sections that store the data in chunks of 32 KiB.

File header (little-endian; libewf, "Expert Witness Compression Format")::

     0  "EVF" 09 0D 0A FF 00    8  01    9  segment u16    11  0000

A section is a descriptor of 76 bytes, followed by the section's data::

     0  type, 16 bytes    16  next descriptor's offset u64    24  size u64
    72  Adler-32 of bytes 0 to 71 u32

This builder writes these sections, in this order:

- `volume`, 1,052 bytes: medium u8; number of chunks u32 at 4, sectors per chunk u32, bytes per sector u32,
  sectors u64; GUID at 64; Adler-32 at the end.
- `sectors`: the chunks, each followed by its Adler-32.
- `table`: number of entries u32; base offset u64 at 8; Adler-32 at 20; the chunks' offsets u32; Adler-32.
- `table2`: a copy of `table`.
- `done`, or `next` if another file follows. In the descriptor of this last section, the offset of the next
  descriptor is the descriptor's own offset.

A file of version 2 begins with "EVF2" 0D 0A 81 00, the version 2.1, compression u16, segment u32 and GUID. In
version 2, the descriptor of a section has 64 bytes and follows the section's data: type u32, flags u32,
offset of the previous descriptor u64, size u64, size of the descriptor u32 = 64, padding u32, MD5, and
Adler-32 at 60.
"""

import struct
from uuid import UUID
from zlib import adler32, compress

from keyhole.builders.guest import SECTOR, Allocated, block_numbers, pattern
from keyhole.builders.image import Image

CHUNK_SIZE = 32 << 10
STORED_CHUNK = CHUNK_SIZE + 4
SET_UUID = UUID("4b657968-6f6c-4000-8000-6577662d3031")
DEVICE, DONE, NEXT = 1, 15, 13


def ewf(
    virtual_size: int, *, allocated: Allocated = 0, segment: int = 1, last: str = "done", first: bytes = b""
) -> Image:
    """Return an E01 file of `virtual_size` bytes, which stores all chunks.

    The first sector of each `allocated` chunk contains a test pattern, and all other sectors are zeros.
    `virtual_size` is a multiple of 32 KiB. `segment` is the number of this file in an image that is split
    into several files. `last` is the type of the last section: `done`, or `next` if another file follows.
    `first` is the content of a section `header`, which precedes all other sections. If `first` is empty, the
    file has no section `header`.
    """
    chunks = virtual_size // CHUNK_SIZE
    written = block_numbers(allocated, chunks)
    volume = struct.pack(
        "<B3x3IQ40x16s968x",
        1,
        chunks,
        CHUNK_SIZE // SECTOR,
        SECTOR,
        chunks * CHUNK_SIZE // SECTOR,
        SET_UUID.bytes_le,
    )
    pieces = [(0, b"EVF\t\r\n\xff\0" + struct.pack("<BHH", 1, segment, 0))]
    at = 13
    for kind, data in ((b"header", first), (b"volume", volume + _sum(volume))):
        if data:
            pieces.append((at, _descriptor(kind, at, len(data)) + data))
            at += 76 + len(data)
    pieces.append((at, _descriptor(b"sectors", at, chunks * STORED_CHUNK)))
    at += 76
    offsets = [at + chunk * STORED_CHUNK for chunk in range(chunks)]
    for chunk in range(chunks):
        data = pattern(chunk) if chunk in written else b""
        pieces.append((offsets[chunk], data))
        pieces.append((offsets[chunk] + CHUNK_SIZE, _sum(data.ljust(CHUNK_SIZE, b"\0"))))
    at += chunks * STORED_CHUNK
    head = struct.pack("<I16x", chunks)
    entries = struct.pack(f"<{chunks}I", *offsets)
    table = head + _sum(head) + entries + _sum(entries)
    for kind in (b"table", b"table2"):
        pieces.append((at, _descriptor(kind, at, len(table)) + table))
        at += 76 + len(table)
    pieces.append((at, _descriptor(last.encode(), at, None)))
    return Image.of(at + 76, pieces)


def ewf2(*, segment: int = 1, last: int = DONE) -> Image:
    """Return an Ex01 file of an empty medium.

    `segment` is the number of the file. `last` is the type of the last section: 13 (next) or 15 (done).
    """
    header = b"EVF2\r\n\x81\0" + struct.pack("<2BHI16s", 2, 1, 1, segment, SET_UUID.bytes_le)
    device = compress("1\nmain\nsn\tts\tbp\n\t0\t512\n\n".encode("utf-16"))
    padding = -len(device) % 16
    data = device + bytes(padding)
    first = len(header) + len(data)
    file = header + data + _descriptor_2(DEVICE, 0, len(data), padding)
    return Image.of(len(file) + 64, [(0, file + _descriptor_2(last, first, 0, 0))])


def _descriptor(kind: bytes, at: int, length: int | None) -> bytes:
    """Return the descriptor of a section that has `length` bytes of data.

    `at` is the offset of the descriptor. `None` as `length` means that the section is the last section of the
    file.
    """
    following, size = (at, 0) if length is None else (at + 76 + length, 76 + length)
    fields = struct.pack("<16sQQ40x", kind, following, size)
    return fields + _sum(fields)


def _descriptor_2(kind: int, before: int, length: int, padding: int) -> bytes:
    fields = struct.pack("<2I2Q2I28x", kind, 0, before, length, 64, padding)
    return fields + _sum(fields)


def _sum(data: bytes) -> bytes:
    return struct.pack("<I", adler32(data))
