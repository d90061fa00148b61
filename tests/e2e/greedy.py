"""Objects that are made to need as much memory or CPU time as possible, by default or if all data is read."""

import gzip
import lzma
import struct
import sys
from array import array
from collections.abc import Callable
from random import Random

from keyhole.builders import (
    Image,
    OVADisk,
    gpt_disk,
    iso,
    ova,
    ovf,
    qcow2,
    tar,
    udf,
    vdi,
    vhd_dynamic,
    vhdx,
    vmdk_sparse,
    vmdk_stream_optimized,
)
from keyhole.builders.tar import tar_header
from keyhole.inspectors.formats.dmg_map import RAW
from tests.inspectors.compression.packed import PACKED, noise, zeros
from tests.inspectors.formats.dmgs import Stored, Table, plist_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
#: More than is decompressed by default, so that a decoder fills the largest window that is allowed.
LONG = 70
#: More than the longest window.
LONGEST = 140
#: The number of entries in the longest map that Keyhole reads: 16 MiB, at 4 bytes each.
ENTRIES = 4 * MIB
#: A record of a pax header that no reader uses.
RECORD = b"30 SCHILY.xattr.user.a=aaaaaa\n"
MORE_FILTERS = {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 96 * MIB}


def _plain(data: bytes) -> Image:
    return Image.of(len(data), [(0, data)])


def _repeated(compress: Callable[[bytes], bytes], flush: Callable[[], bytes], length: int) -> bytes:
    """This many MiB of a repeated text, compressed."""
    piece = noise(5, MIB // 16) * 16
    return b"".join(compress(piece) for _ in range(length)) + flush()


def _places(code: str, count: int, start: int = 0, step: int = 1) -> "array[int]":
    """The offsets of as many blocks as a map has, in random order."""
    places = array(code, range(start, start + step * count, step))
    Random(7).shuffle(places)  # noqa: S311 - the same in every run
    return places


def _big_endian(numbers: "array[int]") -> bytes:
    numbers.byteswap()
    return numbers.tobytes()


def _full_vdi() -> Image:
    count = ENTRIES - 256  # the sizes must fit into their fields
    empty = vdi(count * MIB)
    header = bytearray(empty.read(0, 512))
    map_at, data_at = struct.unpack_from("<II", header, 0x154)
    struct.pack_into("<I", header, 0x184, count)
    places = _places("I", count).tobytes()
    return Image.of(data_at + count * MIB, [(0, bytes(header)), (map_at, places)])


def _full_vhd() -> Image:
    count, block = ENTRIES - 256, 256 * 1024
    empty = vhd_dynamic(count * block, block_size=block)
    footer = empty.read(0, 512)
    (table_at,) = struct.unpack_from(">Q", empty.read(512, 1024), 16)
    first, sectors = -(-(table_at + 4 * count) // 512), block // 512 + 1
    places = _big_endian(_places("I", count, first, sectors))
    size = (first + count * sectors) * 512
    pieces = [(0, footer), (512, empty.read(512, 1024)), (table_at, places), (size, footer)]
    return Image.of(size + 512, pieces)


def _full_vhdx() -> Image:
    places = _places("Q", ENTRIES // 2, start=100 * MIB | 6, step=32 * MIB)
    return vhdx(64 * TIB).patched(3 * MIB, places.tobytes())


def _full_qcow2() -> Image:
    tables = range(0, ENTRIES // 2, 8192)
    image = qcow2(128 * GIB, allocated=tuple(tables))
    places = _places("Q", ENTRIES // 2, start=1 << 63 | 1 << 30, step=65536)
    (l1_at,) = struct.unpack(">Q", image.read(40, 8))
    for number, first in enumerate(tables):
        table_at = int.from_bytes(image.read(l1_at + 8 * number, 8), "big") & (1 << 56) - 512
        image = image.patched(table_at, _big_endian(places[first : first + 8192]))
    return image


def _small_clusters() -> Image:
    """A qcow2 with the smallest clusters and the longest allowed L1 table and refcount table."""
    header = bytearray(qcow2(64 * MIB, cluster_bits=9).read(0, 512))
    entries = ENTRIES // 2
    struct.pack_into(">QIIQQI", header, 24, entries * 32768, 0, entries, MIB, 64 * MIB, 8 * entries // 512)
    l1 = _places("Q", entries, start=1 << 63 | 128 * MIB, step=512)
    refcounts = _places("Q", entries, start=2 * GIB, step=512)
    tables = [(MIB, _big_endian(l1)), (64 * MIB, _big_endian(refcounts))]
    return Image.of(4 * GIB, [(0, bytes(header)), *tables])


def _full_vmdk() -> Image:
    """A VMDK whose two directories map the same grains, each in another order."""
    empty, tables, grains = vmdk_sparse(128 * GIB), 4096, 512
    *directories, first = struct.unpack_from("<QQQ", empty.read(0, 512), 48)
    pieces = [(0, empty.read(0, directories[0] * 512))]
    for number, directory in enumerate(directories):
        pieces.append((directory * 512, empty.read(directory * 512, 4 * tables)))
        places = _places("I", tables * grains, first, 128)[number:] + array("I", [first] * number)
        for table in range(tables):
            sector = int.from_bytes(empty.read(directory * 512 + 4 * table, 4), "little")
            pieces.append((sector * 512, places[table * grains : (table + 1) * grains].tobytes()))
    return Image.of(128 * GIB + first * 512, pieces)


def _zstd(length: int = LONG) -> bytes:
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 27,
        zstd.CompressionParameter.compression_level: 1,
    }
    compressor = zstd.ZstdCompressor(options=options)
    return _repeated(compressor.compress, compressor.flush, length)


def _xz(length: int = LONG) -> bytes:
    compressor = lzma.LZMACompressor(filters=[MORE_FILTERS])
    return _repeated(compressor.compress, compressor.flush, length)


def _archive(*members: bytes) -> bytes:
    return tar([(f"{number}.tar", _plain(one)) for number, one in enumerate(members)]).to_bytes()


def _empty_files(count: int) -> bytes:
    return b"".join(tar_header(b"f%d" % number) for number in range(count)) + bytes(1024)


def _long_headers() -> bytes:
    records = RECORD * (MIB // len(RECORD))
    header = tar_header(b"x", len(records), kind=b"x") + records + bytes(-len(records) % 512)
    return (header + tar_header(b"f")) * 20


def _dmg(plist: bytes, sectors: int = 8, fork: int = 0) -> Image:
    """A DMG with a property list after a data fork of this many bytes."""
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

#: Objects for a policy that reads all maps and decompresses 1 GiB.
GREEDY_IN_FULL: dict[str, Callable[[], Image]] = {
    "zstd with a full window": lambda: _plain(_zstd(LONGEST)),
    "xz with a full dictionary": lambda: _plain(_xz(LONGEST)),
    "full vdi": _full_vdi,
    "full vhd": _full_vhd,
    "full vhdx": _full_vhdx,
    "full qcow2": _full_qcow2,
    "qcow2 of small clusters": _small_clusters,
    "full vmdk": _full_vmdk,
}
