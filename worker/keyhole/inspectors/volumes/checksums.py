"""Computes the checksums of superblocks."""

from itertools import accumulate
from struct import unpack_from
from zlib import crc32

ALL_ONES = 0xFFFFFFFF
#: The polynomial of CRC-64 (ECMA-182), most significant bit first.
CRC64_POLYNOMIAL = 0x42F0E1EBA9EA3693


def raw_crc32(seed: int, data: bytes) -> int:
    """Return the CRC-32 with a start value and without inversions, like the Linux kernel's `crc32_le`."""
    return crc32(data, seed ^ ALL_ONES) ^ ALL_ONES


def crc32c(data: bytes) -> int:
    """Return the CRC-32C."""
    from google_crc32c import value  # noqa: PLC0415 - few images need it

    return int(value(data))


def inverted_crc32c(data: bytes) -> int:
    """Return the CRC-32C without the inversion at its end, like the Linux kernel's `crc32c(~0, …)`."""
    return crc32c(data) ^ ALL_ONES


def crc64(data: bytes) -> int:
    """Return the CRC-64/WE: the most significant bit first, with the start value and the result inverted."""
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
    """Return the checksum of APFS, a Fletcher-64 over little-endian 32-bit words."""
    sums: tuple[int, ...] = tuple(accumulate(unpack_from(f"<{len(data) // 4}I", data)))
    low = ALL_ONES - (sums[-1] + sum(sums)) % ALL_ONES
    high = ALL_ONES - (sums[-1] + low) % ALL_ONES
    return high << 32 | low


def rotated_sum(data: bytes) -> int:
    """Return the checksum of exFAT: before each byte is added, the sum is rotated right by one bit."""
    total = 0
    for byte in data:
        total = ((total >> 1 | (total & 1) << 31) + byte) & ALL_ONES
    return total


def folded_sum(data: bytes) -> int:
    """Return the checksum of Linux RAID: the sum of little-endian 32-bit words plus the sum's upper half.

    The data can end with half a word.
    """
    padded = data + bytes(-len(data) % 4)
    total: int = sum(unpack_from(f"<{len(padded) // 4}I", padded))
    return (total & ALL_ONES) + (total >> 32) & ALL_ONES


def big_endian_sum(data: bytes) -> int:
    """Return the checksum of romfs: the sum of big-endian 32-bit words, modulo 2^32."""
    total: int = sum(unpack_from(f">{len(data) // 4}I", data))
    return total & ALL_ONES
