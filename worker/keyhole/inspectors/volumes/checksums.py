"""The checksums of superblocks that Python and google-crc32c do not provide."""

from itertools import accumulate
from struct import unpack_from
from zlib import crc32

from google_crc32c import value as crc32c

ALL_ONES = 0xFFFFFFFF
#: The polynomial of CRC-64 (ECMA-182), most significant bit first.
CRC64_POLYNOMIAL = 0x42F0E1EBA9EA3693


def raw_crc32(seed: int, data: bytes) -> int:
    """CRC-32 from a seed, inverted neither before nor after: the Linux kernel's `crc32_le`."""
    return crc32(data, seed ^ ALL_ONES) ^ ALL_ONES


def inverted_crc32c(data: bytes) -> int:
    """CRC-32C without the inversion at its end: the Linux kernel's `crc32c(~0, …)`."""
    return int(crc32c(data)) ^ ALL_ONES


def crc64(data: bytes) -> int:
    """CRC-64/WE: most significant bit first, inverted before and after."""
    crc = (1 << 64) - 1
    for byte in data:
        crc = _CRC64_TABLE[crc >> 56 ^ byte] ^ (crc << 8) & (1 << 64) - 1
    return crc ^ (1 << 64) - 1


def _crc64_of(byte: int) -> int:
    crc = byte << 56
    for _ in range(8):
        crc = (crc << 1 ^ (CRC64_POLYNOMIAL if crc >> 63 else 0)) & (1 << 64) - 1
    return crc


_CRC64_TABLE = tuple(_crc64_of(byte) for byte in range(256))


def fletcher64(data: bytes) -> int:
    """The checksum of APFS: two sums of little-endian words, so that data and checksum sum up to zero."""
    sums: tuple[int, ...] = tuple(accumulate(unpack_from(f"<{len(data) // 4}I", data)))
    low = ALL_ONES - (sums[-1] + sum(sums)) % ALL_ONES
    high = ALL_ONES - (sums[-1] + low) % ALL_ONES
    return high << 32 | low


def rotated_sum(data: bytes) -> int:
    """The checksum of exFAT: the sum is rotated right by one bit before each byte is added."""
    total = 0
    for byte in data:
        total = ((total >> 1 | (total & 1) << 31) + byte) & ALL_ONES
    return total


def folded_sum(data: bytes) -> int:
    """The checksum of Linux RAID: a sum of little-endian words (the last may be half) plus its carry once."""
    padded = data + bytes(-len(data) % 4)
    total: int = sum(unpack_from(f"<{len(padded) // 4}I", padded))
    return (total & ALL_ONES) + (total >> 32) & ALL_ONES


def big_endian_sum(data: bytes) -> int:
    """The checksum of romfs: the sum of big-endian words, modulo 2^32."""
    total: int = sum(unpack_from(f">{len(data) // 4}I", data))
    return total & ALL_ONES
