"""Objects that are made to take as much memory or CPU as they can."""

import gzip
import lzma
import struct
from collections.abc import Callable

from tests.inspectors.compression.packed import PACKED, noise, zeros, zstd
from tests.inspectors.dmgs import RAW, Stored, Table, plist_of
from worker.demo.images import (
    Image,
    OVADisk,
    gpt_disk,
    iso,
    ova,
    ovf,
    qcow2,
    tar,
    udf,
    vhdx,
    vmdk_sparse,
    vmdk_stream_optimized,
)
from worker.demo.images.tar import tar_header

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
#: More than is decompressed by default, so that all of a window that may be filled is.
LONG = 70
#: A record of a pax header that nobody reads.
RECORD = b"30 SCHILY.xattr.user.a=aaaaaa\n"
MORE_FILTERS = {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 96 * MIB}


def _plain(data: bytes) -> Image:
    return Image.of(len(data), [(0, data)])


def _repeated(compress: Callable[[bytes], bytes], flush: Callable[[], bytes]) -> bytes:
    piece = noise(5, MIB // 16) * 16
    return b"".join(compress(piece) for _ in range(LONG)) + flush()


def _zstd() -> bytes:
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.compression_level: 1}
    compressor = zstd.ZstdCompressor(options=options)
    return _repeated(compressor.compress, compressor.flush)


def _xz() -> bytes:
    compressor = lzma.LZMACompressor(filters=[MORE_FILTERS])
    return _repeated(compressor.compress, compressor.flush)


def _archive(*members: bytes) -> bytes:
    return tar([(f"{number}.tar", _plain(one)) for number, one in enumerate(members)]).to_bytes()


def _empty_files(count: int) -> bytes:
    return b"".join(tar_header(b"f%d" % number) for number in range(count)) + bytes(1024)


def _long_headers() -> bytes:
    records = RECORD * (MIB // len(RECORD))
    header = tar_header(b"x", len(records), kind=b"x") + records + bytes(-len(records) % 512)
    return (header + tar_header(b"f")) * 20


def _dmg(plist: bytes, sectors: int = 8, fork: int = 0) -> Image:
    """A DMG with a property list behind a data fork of so many bytes."""
    trailer = bytearray(512)
    struct.pack_into(">4sII", trailer, 0, b"koly", 4, 512)
    struct.pack_into(">QQ", trailer, 24, 0, fork)
    struct.pack_into(">II", trailer, 56, 1, 1)
    struct.pack_into(">QQ", trailer, 216, fork, len(plist))
    struct.pack_into(">Q", trailer, 492, sectors)
    return Image.of(fork + len(plist) + 512, [(fork, plist), (fork + len(plist), bytes(trailer))])


def _dmg_of_chunks() -> Image:
    count = 70_000
    chunks = tuple(Stored(RAW, number * 8, 8, number * 4096, 4096) for number in range(count))
    return _dmg(plist_of([Table(0, count * 8, chunks)]), count * 8, count * 4096)


def _dmg_of_elements() -> Image:
    begin, end = b'<?xml version="1.0"?><plist>', b"</plist>"
    return _dmg(begin + b"<a/>" * ((4 * MIB - len(begin) - len(end)) // 4) + end)


def _machine_of_items() -> Image:
    disk = OVADisk("disk.vmdk", vmdk_stream_optimized(GIB, allocated=3), GIB)
    text = ovf([disk])
    items = "<Item><x/></Item>" * ((MIB - len(text)) // 18)
    return ova([disk], descriptor=text.replace("</References>", f"</References>{items}"))


GREEDY: dict[str, Callable[[], Image]] = {
    "zstd with a long window": lambda: _plain(_zstd()),
    "xz with a large dictionary": lambda: _plain(_xz()),
    "zstd around xz and zstd": lambda: _plain(PACKED["zstd"](_archive(_zstd(), _xz()))),
    "bzip2": lambda: _plain(zeros("bzip2", LONG * MIB)),
    "lz4": lambda: _plain(PACKED["lz4"](gpt_disk(LONG * MIB).to_bytes())),
    "gzip of noise": lambda: _plain(PACKED["gzip"](gpt_disk(4 * MIB).to_bytes() + noise(2, 20 * MIB))),
    "gzip of tars of empty files": lambda: _plain(gzip.compress(_archive(*[_empty_files(16_000)] * 7), 1)),
    "tar with long headers in gzip": lambda: _plain(gzip.compress(_long_headers(), 1)),
    "tar of disks": lambda: tar([(f"d{number}", qcow2(MIB)) for number in range(300)]),
    "dmg of chunks": _dmg_of_chunks,
    "dmg of elements": _dmg_of_elements,
    "ova of items": _machine_of_items,
    "iso": lambda: iso(el_torito=True, joliet=True),
    "udf": udf,
    "qcow2 with tables": lambda: qcow2(TIB, allocated=1100),
    "vmdk": lambda: vmdk_sparse(TIB, allocated=3),
    "vhdx": lambda: vhdx(64 * TIB, allocated=3),
}
