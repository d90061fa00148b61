"""Builds DMGs with any chunks: compressed, in several tables as `hdiutil` writes them, or invalid."""

import bz2
import lzma
import struct
import zlib
from base64 import encodebytes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keyhole.builders import Image
from keyhole.inspectors.formats.dmg_map import CHUNK, END, RAW

SECTOR = 512
ZERO, ADC, ZLIB, BZIP2, LZFSE, XZ = 0, 0x80000004, 0x80000005, 0x80000006, 0x80000007, 0x80000008
PACK: dict[int, Callable[[bytes], bytes]] = {
    RAW: lambda data: data,
    ZLIB: zlib.compress,
    BZIP2: bz2.compress,
    XZ: lzma.compress,
}


@dataclass(frozen=True, slots=True)
class Stored:
    """A chunk as a table states it."""

    kind: int
    sector: int
    sectors: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table of chunks: the first disk sector that it maps, and the number of sectors."""

    first: int
    sectors: int
    chunks: tuple[Stored, ...]
    count: int | None = None
    mark: bytes = b"mish"

    def to_bytes(self) -> bytes:
        """The table's bytes, which the property list contains as base64."""
        entries = [
            *self.chunks,
            Stored(END, self.sectors, 0, 0, 0),
        ]
        count = len(entries) if self.count is None else self.count
        head = struct.pack(">4sI3Q2I24x136xI", self.mark, 1, self.first, self.sectors, 0, 0, 0, count)
        return head + b"".join(
            CHUNK.pack(one.kind, one.sector, one.sectors, one.offset, one.length) for one in entries
        )


def plist_of(tables: Sequence[Table]) -> bytes:
    """A property list with these tables."""
    each = b"".join(
        b"<dict><key>Attributes</key><string>0x0050</string><key>Data</key><data>\n"
        + encodebytes(table.to_bytes())
        + b"</data><key>ID</key><string>0</string></dict>"
        for table in tables
    )
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        b'<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" '
        b'"http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n'
        b'<plist version="1.0"><dict><key>resource-fork</key><dict><key>blkx</key><array>'
        + each
        + b"</array><key>plst</key><array><dict><key>Data</key><data>AAAA</data></dict></array>"
        b"</dict></dict></plist>\n"
    )


def assembled(
    fork: bytes,
    plist: bytes,
    sectors: int,
    *,
    resource_fork: tuple[int, int] = (0, 0),
    fork_length: int | None = None,
) -> Image:
    """An image that consists of a data fork, a property list and a trailer."""
    length = len(fork) if fork_length is None else fork_length
    trailer = struct.pack(
        ">4s3I5Q2I16s2I128s2Q120x2I128sIQ12x",
        b"koly",
        *(4, 512, 1),
        *(0, 0, length, *resource_fork),
        *(1, 1),
        bytes(range(16)),
        *(0, 0, b""),
        *(len(fork), len(plist)),
        *(0, 0, b""),
        1,
        sectors,
    )
    data = fork + plist + trailer
    return Image.of(len(data), [(0, data)])


def packed(disk: bytes, kind: int, *, chunk: int = 128 * SECTOR, cuts: Sequence[int] = ()) -> Image:
    """A disk whose chunks have one kind, except chunks of zeros. `cuts` are sectors where tables end."""
    fork, tables = bytearray(), []
    ends = [*cuts, len(disk) // SECTOR]
    first = 0
    for end in ends:
        chunks = []
        for at in range(first * SECTOR, end * SECTOR, chunk):
            data = disk[at : min(at + chunk, end * SECTOR)]
            place = (at // SECTOR - first, len(data) // SECTOR)
            if any(data):
                stored = PACK[kind](data)
                chunks.append(Stored(kind, *place, len(fork), len(stored)))
                fork += stored
            else:
                chunks.append(Stored(ZERO, *place, 0, 0))
        tables.append(Table(first, end - first, tuple(chunks)))
        first = end
    return assembled(bytes(fork), plist_of(tables), len(disk) // SECTOR)
