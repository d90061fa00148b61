r"""Builds ZIP archives like those that Info-ZIP writes on Unix. The members are not compressed.

Source: APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3. All fields are little-endian. A local header precedes each
member's data::

      0  "PK\3\4"    4  version needed, flags, method, time, date, u16 each    14  CRC-32
     18  packed size, size, u32 each    26  lengths of the name and of the extra fields, u16 each; both follow

After the last member comes the central directory, with another header for each member::

      0  "PK\1\2"    4  version of the program that made the archive u16
      6  the fields of the local header from "version needed" to "lengths of the name and of the extra fields"
     32  comment's length, disk, internal attributes, u16 each    38  external attributes u32: mode << 16
     42  local header's offset u32    46  name, extra fields

The end record follows the central directory. A number that is too large for a header is in a ZIP64 extra
field. A number that is too large for the end record is in a ZIP64 record before the end record.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from keyhole.builders.image import Image
from keyhole.builders.tar import Entry

LOCAL, DIRECTORY = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L")
END, ZIP64_END, LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
VERSION, ZIP64_VERSION, UNIX = 20, 45, 3 << 8
#: The time of modification of all members: 2026-05-01, 12:00.
TIME, DATE = 12 << 11, 46 << 9 | 5 << 5 | 1
FILE_MODE, LINK_MODE = 0o100644, 0o120777
UTF_8 = 1 << 11
BEYOND, MANY = 0xFFFFFFFF, 0xFFFF
#: The polynomial of CRC-32 with reversed bits.
POLYNOMIAL = 0xEDB88320


class Numbers(NamedTuple):
    """The size of a member in bytes, the offset of its local header, and the CRC-32 of its data."""

    size: int
    offset: int
    checksum: int


def zip_archive(entries: Sequence[Entry], *, comment: bytes = b"") -> Image:
    """Return a ZIP archive of files and symbolic links. No member is compressed."""
    end, pieces, directory = 0, list[tuple[int, bytes]](), b""
    # If several members have the same content, compute its checksum only once, because the checksum of a disk
    # with many pieces takes a second.
    checksums = dict[Image, int]()
    for name, content in entries:
        is_link = isinstance(content, str)
        data = _plain(content.encode()) if isinstance(content, str) else content
        if data not in checksums:
            checksums[data] = checksum_of(data)
        numbers = Numbers(data.size, end, checksums[data])
        local = local_header(name.encode(), numbers)
        pieces += [(end, local), *((end + len(local) + at, piece) for at, piece in data.pieces)]
        directory += directory_header(name.encode(), numbers, LINK_MODE if is_link else FILE_MODE)
        end += len(local) + data.size
    records = end_records(len(entries), len(directory), end, comment)
    return Image.of(end + len(directory) + len(records), [*pieces, (end, directory + records)])


def local_header(name: bytes, numbers: Numbers) -> bytes:
    """Return the local header of a member."""
    size = min(numbers.size, BEYOND)
    extra = struct.pack("<2H2Q", 1, 16, numbers.size, numbers.size) if size == BEYOND else b""
    fields = (_version(extra), _flags(name), 0, TIME, DATE, numbers.checksum, size, size)
    return LOCAL.pack(b"PK\3\4", *fields, len(name), len(extra)) + name + extra


def directory_header(name: bytes, numbers: Numbers, mode: int) -> bytes:
    """Return the header of a member in the central directory."""
    size, offset = min(numbers.size, BEYOND), min(numbers.offset, BEYOND)
    larger = [numbers.size] * 2 * (size == BEYOND) + [numbers.offset] * (offset == BEYOND)
    extra = struct.pack(f"<2H{len(larger)}Q", 1, 8 * len(larger), *larger) if larger else b""
    version = _version(extra)
    fields = (UNIX | version, version, _flags(name), 0, TIME, DATE, numbers.checksum, size, size)
    return (
        DIRECTORY.pack(b"PK\1\2", *fields, len(name), len(extra), 0, 0, 0, mode << 16, offset) + name + extra
    )


def end_records(entries: int, length: int, offset: int, comment: bytes = b"") -> bytes:
    """Return the records that follow a central directory with `entries` entries and `length` bytes.

    The central directory begins at `offset`.
    """
    stated = (min(entries, MANY), min(entries, MANY), min(length, BEYOND), min(offset, BEYOND))
    end = END.pack(b"PK\5\6", 0, 0, *stated, len(comment)) + comment
    if stated == (entries, entries, length, offset):
        return end
    versions = (UNIX | ZIP64_VERSION, ZIP64_VERSION)
    record = ZIP64_END.pack(b"PK\6\6", ZIP64_END.size - 12, *versions, 0, 0, entries, entries, length, offset)
    return record + LOCATOR.pack(b"PK\6\7", 0, offset + length, 1) + end


def checksum_of(image: Image) -> int:
    """Return the CRC-32 of an image, without creating the image's zeros in memory."""
    end, checksum = 0, 0
    for at, data in (*image.pieces, (image.size, b"")):
        checksum = _zeros_behind(checksum, at - end)
        checksum = crc32(data, checksum)
        end = at + len(data)
    return checksum


def _zeros_behind(checksum: int, count: int) -> int:
    """Return the checksum of data followed by `count` zeros. `checksum` is the checksum of the data."""
    # `power` is the polynomial x^8. A byte of zeros multiplies the CRC register by x^8.
    register, power = checksum ^ BEYOND, 1 << 23
    while count:
        if count & 1:
            register = _product(register, power)
        power, count = _product(power, power), count >> 1
    return register ^ BEYOND


def _product(one: int, two: int) -> int:
    """Return the product of two polynomials, modulo the polynomial of CRC-32. Bit 31 stands for x^0."""
    product = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            product ^= two
        two = two >> 1 ^ (POLYNOMIAL if two & 1 else 0)
    return product


def _version(extra: bytes) -> int:
    return ZIP64_VERSION if extra else VERSION


def _flags(name: bytes) -> int:
    return 0 if name.isascii() else UTF_8


def _plain(data: bytes) -> Image:
    return Image.of(len(data), [(0, data)])
