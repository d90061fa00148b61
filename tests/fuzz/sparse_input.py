"""The encoding of the fuzzer's input: how to feed an image, its size, and its pieces between zeros.

A VHDX has its structures at 64 KiB and at 2 MiB, a VHD at its end. As plain files, such images are megabytes
of zeros, and random changes hit nothing else. So the input is a sparse image. Little-endian::

     0  steer u8: how the image is fed, and which inspector also runs alone
     1  seed u32 of the remaining choices
     5  size u64, of which the lower 46 bits are used: up to 64 TiB, more than S3 stores in one object
    13  pieces, one after the other: offset u64 (the lower 46 bits), length u16, data

Every sequence of bytes is a valid input. Data that overlaps an earlier piece or is beyond the size is
dropped, and the last piece can be short.
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
#: A run of at least this many zeros needs fewer bytes if a new piece begins after it.
GAP = re.compile(rb"\0{24,}")


@dataclass(frozen=True, slots=True)
class SparseInput:
    """An image and the way to feed it."""

    image: Image
    steer: int = 0
    seed: int = 0

    @classmethod
    def decode(cls, data: bytes) -> "SparseInput":
        """Decode an input. Every sequence of bytes is valid."""
        steer, seed, size = HEADER.unpack(data[: HEADER.size].ljust(HEADER.size, b"\0"))
        return cls(image_of(size & OFFSETS, _pieces(data)), steer, seed)

    def encode(self) -> bytes:
        """Encode an input so that `decode` returns it again."""
        parts = [HEADER.pack(self.steer, self.seed, self.image.size)]
        for offset, data in self.image.pieces:
            for start, end in _stored(data):
                for at in range(start, end, MAX_PIECE):
                    part = data[at : min(at + MAX_PIECE, end)]
                    parts += [PIECE.pack(offset + at, len(part)), part]
        return b"".join(parts)


def image_of(size: int, pieces: Iterable[tuple[int, bytes]]) -> Image:
    """Return an image of pieces that can overlap or be outside. Where two overlap, the first one is used."""
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
    """Yield the start and the end of each part of a piece between long runs of zeros."""
    start = 0
    for gap in GAP.finditer(data):
        if gap.start() > start:
            yield start, gap.start()
        start = gap.end()
    if start < len(data):
        yield start, len(data)
