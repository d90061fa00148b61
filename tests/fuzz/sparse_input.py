"""The encoding of the fuzzer's input: how an image is fed, its claimed size, and its pieces other than zeros.

A VHDX has its structures at 64 KiB and at 2 MiB, a VHD at its end. As plain files, such images are megabytes
of zeros, in which a random change hits nothing. So the input is the sparse image itself. Little-endian::

     0  steer u8: how the image is fed, and which inspector is run alone
     1  seed u32 of the remaining choices
     5  size u64, of which the lower 46 bits count: 64 TiB, more than S3 stores in one object
    13  pieces, one after the other: offset u64 (the lower 46 bits), length u16, data

Any bytes are a valid input: data that overlaps an earlier piece or lies past the size is dropped, and the
last piece may be short.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from keyhole.builders import Image

HEADER = struct.Struct("<BIQ")
PIECE = struct.Struct("<QH")
OFFSETS = (1 << 46) - 1
MAX_PIECE = 0xFFFF
#: A run of at least this many zeros takes fewer bytes left out than written.
GAP = re.compile(rb"\0{24,}")


@dataclass(frozen=True, slots=True)
class SparseInput:
    """An image and how to feed it."""

    image: Image
    steer: int = 0
    seed: int = 0

    @classmethod
    def decode(cls, data: bytes) -> "SparseInput":
        """The input that these bytes encode. Any bytes are valid."""
        steer, seed, size = HEADER.unpack(data[: HEADER.size].ljust(HEADER.size, b"\0"))
        return cls(image_of(size & OFFSETS, _pieces(data)), steer, seed)

    def encode(self) -> bytes:
        """The bytes that `decode` turns into this input."""
        parts = [HEADER.pack(self.steer, self.seed, self.image.size)]
        for offset, data in self.image.pieces:
            for start, end in _stored(data):
                for at in range(start, end, MAX_PIECE):
                    part = data[at : min(at + MAX_PIECE, end)]
                    parts += [PIECE.pack(offset + at, len(part)), part]
        return b"".join(parts)


def image_of(size: int, pieces: Iterable[tuple[int, bytes]]) -> Image:
    """An image of pieces that may overlap or lie outside. Where two overlap, the first one is kept."""
    kept: list[tuple[int, bytes]] = []
    reached = 0
    for offset, data in sorted(pieces, key=lambda piece: piece[0]):
        start = max(offset, reached)
        part = data[start - offset : max(0, size - offset)]
        if part:
            kept.append((start, part))
            reached = start + len(part)
    return Image.of(size, kept)


def _pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = HEADER.size
    while at + PIECE.size <= len(data):
        offset, length = PIECE.unpack_from(data, at)
        at += PIECE.size
        yield offset & OFFSETS, data[at : at + length]
        at += length


def _stored(data: bytes) -> Iterator[tuple[int, int]]:
    """The beginning and the end of each part of a piece that is worth storing."""
    start = 0
    for gap in GAP.finditer(data):
        if gap.start() > start:
            yield start, gap.start()
        start = gap.end()
    if start < len(data):
        yield start, len(data)
