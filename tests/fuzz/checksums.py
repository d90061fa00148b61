"""Repairs checksums after a change, so that the fuzzer reaches the code after the checksum's test.

Each repair finds its format's structures by the image's own offsets. It does not change images of other
formats.
"""

import re
import zlib
from binascii import crc_hqx
from collections.abc import Iterator
from hashlib import sha256
from struct import pack, unpack_from
from zlib import adler32, crc32, decompressobj

from google_crc32c import value as crc32c

from keyhole.builders import Image

KIB = 1024
#: The largest structure that is repaired, in bytes. Structures with a larger stated size are left unchanged.
MOST_SUMMED = 256 * KIB
MOST_SECTIONS = 16
MOST_BLOCKS = 8
MOST_HEADERS = 32
OCTAL = re.compile(rb"[0-7]{1,12}")
EWF_MAGICS = (b"EVF\x09\r\n\xff\0", b"LVF\x09\r\n\xff\0")

#: An offset, and the bytes to write there.
Patch = tuple[int, bytes]


def repaired(image: Image) -> Image:
    """Return the image with correct checksums in all structures that are found."""
    for repair in (_vhdx, _gpt, _luks2, _vhd, _ewf, _udf, _tar, _gzip, _zip):
        for offset, data in repair(image):
            if offset >= 0 and offset + len(data) <= image.size:
                image = image.patched(offset, data)
    return image


def _vhdx(image: Image) -> Iterator[Patch]:
    """CRC-32C at byte 4 of both headers and both region tables ([MS-VHDX] 2.2)."""
    if not image.read(0, 8).startswith(b"vhdxfile"):
        return
    for offset, length in ((64, 4), (128, 4), (192, 64), (256, 64)):
        data = image.read(offset * KIB, length * KIB)
        if data[:4] in {b"head", b"regi"}:
            yield offset * KIB + 4, pack("<I", crc32c(data[:4] + bytes(4) + data[8:]))


def _gzip(image: Image) -> Iterator[Patch]:
    """CRC-32 and length after the first member's data, if its header is short (RFC 1952, 2.3)."""
    data = image.read(0, MOST_SUMMED)
    if not data.startswith(b"\x1f\x8b\x08\0"):
        return
    inflating = decompressobj(wbits=-15)
    try:
        made = inflating.decompress(data[10:], MOST_SUMMED)
    except zlib.error:
        return
    if inflating.eof:
        yield len(data) - len(inflating.unused_data), pack("<II", crc32(made), len(made))


def _gpt(image: Image) -> Iterator[Patch]:
    """CRC-32 of the entries and of the header, of the primary and of the backup (UEFI 2.10, 5.3.2)."""
    for sector in (512, 4096):
        for at in (sector, image.size - sector):
            header = image.read(max(0, at), 92)
            if len(header) < 92 or not header.startswith(b"EFI PART"):
                continue
            table, count, size = unpack_from("<QII", header, 72)
            if count * size <= MOST_SUMMED:
                header = header[:88] + pack("<I", crc32(image.read(table * sector, count * size)))
            summed = header[:12] + pack("<II", 92, 0) + header[20:]
            yield at, summed[:16] + pack("<I", crc32(summed)) + summed[20:]


def _luks2(image: Image) -> Iterator[Patch]:
    """SHA-256 of header and metadata at byte 448 (LUKS2 on-disk format, 2.1)."""
    header = image.read(0, 4 * KIB)
    if len(header) < 4 * KIB or not header.startswith(b"LUKS\xba\xbe\0\2"):
        return
    size = int.from_bytes(header[8:16], "big")
    if size <= MOST_SUMMED:
        yield 72, b"sha256".ljust(32, b"\0")
        zeroed = header[:72] + b"sha256".ljust(32, b"\0") + header[104:448] + bytes(64) + header[512:]
        metadata = image.read(4 * KIB, max(0, size - 4 * KIB))
        yield 448, sha256(zeroed + metadata).digest().ljust(64, b"\0")


def _vhd(image: Image) -> Iterator[Patch]:
    """The complement of the sum of footer, its copy and dynamic header (VHD specification 1.0)."""
    for at in (0, image.size - 512, image.size - 511):
        footer = image.read(max(0, at), 512)
        if footer.startswith(b"conectix") and len(footer) >= 511:
            yield at + 64, _complement(footer, 64)
            dynamic = int.from_bytes(footer[16:24], "big")
            header = image.read(dynamic, KIB)
            if header.startswith(b"cxsparse") and len(header) == KIB:
                yield dynamic + 36, _complement(header, 36)


def _complement(structure: bytes, at: int) -> bytes:
    return pack(">I", ~sum(structure[:at] + structure[at + 4 :]) & 0xFFFFFFFF)


def _ewf(image: Image) -> Iterator[Patch]:
    """Adler-32 of each section's descriptor and of a volume's data (libewf, EWF format, 3 and 4)."""
    front = image.read(0, 32)
    if front.startswith(b"EVF2\r\n\x81\0"):
        last = image.size - 64
        yield last + 60, pack("<I", adler32(image.read(max(0, last), 60)))
    if not front.startswith(EWF_MAGICS):
        return
    at = 13
    for _ in range(MOST_SECTIONS):
        section = image.read(at, 76)
        if len(section) < 76:
            return
        following, size = unpack_from("<QQ", section, 16)
        if section.startswith((b"volume", b"disk", b"data")) and 80 < size <= MOST_SUMMED:
            yield at + size - 4, pack("<I", adler32(image.read(at + 76, size - 80)))
        yield at + 72, pack("<I", adler32(section[:72]))
        if following <= at:
            return
        at = following


def _udf(image: Image) -> Iterator[Patch]:
    """CRC-16 and sum of every tag that is in the block that it names (ECMA-167, 3/7.2)."""
    for block_size in (2048, 512):
        for block in _blocks(image, block_size):
            data = bytearray(image.read(block * block_size, 512))
            if len(data) < 512 or int.from_bytes(data[12:16], "little") != block or not block:
                continue
            length = min(int.from_bytes(data[10:12], "little"), len(data) - 16)
            data[8:12] = pack("<HH", crc_hqx(bytes(data[16 : 16 + length]), 0), length)
            data[4] = (sum(data[:16]) - data[4]) & 0xFF
            yield block * block_size, bytes(data[:16])


def _tar(image: Image) -> Iterator[Patch]:
    """The sum of each header's bytes, with spaces in the checksum field (POSIX.1-2017, pax, ustar)."""
    at = 0
    for _ in range(MOST_HEADERS):
        header = image.read(at, 512)
        if header[257:262] != b"ustar" or len(header) < 512:
            return
        yield at + 148, b"%06o\0 " % (sum(header[:148]) + 8 * ord(" ") + sum(header[156:]))
        size = header[124:136].strip(b" \0")
        at += 512 + (-(-int(size, 8) // 512) * 512 if OCTAL.fullmatch(size) else 0)


def _zip(image: Image) -> Iterator[Patch]:
    """The header before each member's data, made equal to the directory's (APPNOTE.TXT, 4.3.7 and 4.3.12)."""
    start = max(0, image.size - MOST_SUMMED)
    end = image.read(start, MOST_SUMMED)
    place = end.rfind(b"PK\5\6")
    if place < 0 or len(end) < place + 22:
        return
    (at,) = unpack_from("<L", end, place + 16)
    for _ in range(MOST_HEADERS):
        entry = image.read(at, 46)
        if len(entry) < 46 or not entry.startswith(b"PK\1\2"):
            return
        (offset,) = unpack_from("<L", entry, 42)
        if image.read(offset, 4) == b"PK\3\4":
            yield offset + 6, entry[8:28]
        at += 46 + sum(unpack_from("<HHH", entry, 28))


def _blocks(image: Image, block_size: int) -> Iterator[int]:
    """The blocks at the beginnings of pieces. Large pieces are skipped, because they are not descriptors."""
    for offset, data in image.pieces:
        first = -(-offset // block_size)
        if len(data) <= MOST_BLOCKS * block_size:
            yield from range(first, -(-(offset + len(data)) // block_size))
