"""Compressed data for tests, made by Python's libraries, or by hand if no tool would write it."""

import bz2
import gzip
import lzma
import random
import struct
import sys
import zlib
from collections.abc import Callable, Iterator

import lz4.frame

from keyhole.inspectors.compression.bzip2 import Bzip2Inspector
from keyhole.inspectors.compression.gzip import GzipInspector
from keyhole.inspectors.compression.inspector import CompressedInspector
from keyhole.inspectors.compression.lz4 import Lz4Inspector
from keyhole.inspectors.compression.lzma_alone import LzmaInspector
from keyhole.inspectors.compression.xz import XzInspector
from keyhole.inspectors.compression.zstd import ZstdInspector

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KIB, MIB, GIB = 1024, 1024**2, 1024**3


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def _zstd(data: bytes) -> bytes:
    """Compress with a checksum, as the command `zstd` does."""
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": _gzip,
    "xz": lambda data: lzma.compress(data, preset=0),
    "zstd": _zstd,
    "bzip2": lambda data: bz2.compress(data, 1),
    "lz4": lambda data: lz4.frame.compress(data, content_checksum=True, store_size=False),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE, preset=0),
}
#: Formats in which a file can contain several streams.
IN_A_ROW = [name for name in PACKED if name != "lzma"]
UNPACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: zlib.decompress(data, wbits=31),
    "xz": lzma.decompress,
    "zstd": zstd.decompress,
    "bzip2": bz2.decompress,
    "lz4": lz4.frame.decompress,
    "lzma": lambda data: lzma.decompress(data, lzma.FORMAT_ALONE),
}
ERRORS = (zlib.error, lzma.LZMAError, zstd.ZstdError, OSError, EOFError, ValueError, RuntimeError)
KINDS: dict[str, type[CompressedInspector]] = {
    kind.NAME: kind
    for kind in (GzipInspector, XzInspector, ZstdInspector, Bzip2Inspector, Lz4Inspector, LzmaInspector)
}


def noise(seed: int, length: int) -> bytes:
    """Bytes that cannot be compressed. They are the same in every run."""
    return random.Random(seed).randbytes(length)  # noqa: S311 - not a secret


def zeros(name: str, size: int) -> bytes:
    """This many zeros, compressed piece by piece to save memory."""
    makers: dict[str, Callable[[], tuple[Callable[[bytes], bytes], Callable[[], bytes]]]] = {
        "gzip": lambda: _calls(zlib.compressobj(9, wbits=31)),
        "xz": lambda: _calls(lzma.LZMACompressor(preset=0)),
        "zstd": lambda: _calls(zstd.ZstdCompressor()),
        "bzip2": lambda: _calls(bz2.BZ2Compressor(9)),
        "lz4": lambda: _calls(_Lz4()),
        "lzma": lambda: _calls(lzma.LZMACompressor(lzma.FORMAT_ALONE, preset=0)),
    }
    compress, flush = makers[name]()
    piece = bytes(MIB)
    return b"".join(compress(piece) for _ in range(size // MIB)) + flush()


def gzip_zeros(size: int) -> bytes:
    """This many zeros as one gzip stream. Its blocks are copies of one, so that 4 GiB take two seconds."""
    compressor = zlib.compressobj(9, wbits=-15)
    piece = bytes(MIB)
    # After a full flush, the next block refers to nothing before it, and begins at a byte.
    block = compressor.compress(piece) + compressor.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(size // MIB):
        checksum = zlib.crc32(piece, checksum)
    header = b"\x1f\x8b\x08" + bytes(7)
    trailer = struct.pack("<2L", checksum, size % (4 * GIB))
    return header + block * (size // MIB) + compressor.flush() + trailer


def _calls(compressor: object) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    return compressor.compress, compressor.flush  # type: ignore[attr-defined] # all have both


class _Lz4:
    """A compressor that writes the frame's header with the first data."""

    def __init__(self) -> None:
        self._lz4 = lz4.frame.LZ4FrameCompressor(block_size=lz4.frame.BLOCKSIZE_MAX4MB)
        self._header = self._lz4.begin()

    def compress(self, data: bytes) -> bytes:
        header, self._header = self._header, b""
        return bytes(header + self._lz4.compress(data))

    def flush(self) -> bytes:
        return bytes(self._lz4.flush())


def skippable(data: bytes, number: int = 0) -> bytes:
    """A frame that Zstandard and LZ4 skip."""
    return struct.pack("<II", 0x184D2A50 + number, len(data)) + data


def zstd_frame(*, window_descriptor: int, dictionary: int | None = None) -> bytes:
    """A Zstandard frame with a window of any size and one byte of content."""
    block = (1 | 1 << 3).to_bytes(3, "little") + b"x"
    header = [0, window_descriptor] if dictionary is None else [1, window_descriptor, dictionary]
    return b"\x28\xb5\x2f\xfd" + bytes(header) + block


def lz4_frame(*, dictionary: int) -> bytes:
    """The header of an LZ4 frame that needs a dictionary, and the end of its blocks."""
    return b"\x04\x22\x4d\x18\x61\x40" + dictionary.to_bytes(4, "little") + bytes(5)


def xz_with_dictionary(packed: bytes, size_byte: int) -> bytes:
    """An xz stream whose first block states this dictionary size (LZMA2: 2^(byte / 2 + 12))."""
    header_bytes = 4 * (packed[12] + 1)
    header = bytearray(packed[12 : 12 + header_bytes - 4])
    # A block header without sizes: flags, then the filter's id, the length of its properties, and the
    # properties.
    assert header[1:4] == b"\0\x21\1"
    header[4] = size_byte
    checksum = struct.pack("<I", zlib.crc32(header))
    return packed[:12] + bytes(header) + checksum + packed[12 + header_bytes :]


def bzip2_of_blocks(blocks: int) -> bytes:
    """A bzip2 stream of this many blocks of one byte each. The checksum at its end is wrong."""
    bits = bin(int.from_bytes(b"\1" + bz2.compress(b"x"), "big"))[3:]
    # The stream: level, blocks, end mark (48 bits), checksum (32 bits), padding to a byte.
    end = bits.rindex(f"{0x177245385090:048b}")
    head, block = bits[:32], bits[32:end]
    stream = head + block * blocks + bits[end : end + 80]
    stream += "0" * (-len(stream) % 8)
    return int(stream, 2).to_bytes(len(stream) // 8, "big")


def places(packed: bytes) -> Iterator[int]:
    """Offsets at which tests cut or change data: all offsets of short data, otherwise a selection."""
    if len(packed) < 100:
        yield from range(len(packed))
    else:
        yield from (
            *range(20),
            *range(20, len(packed) - 20, len(packed) // 40),
            *range(len(packed) - 20, len(packed)),
        )
