"""The checksums have the published values, and follow their mathematical laws."""

from random import Random

from keyhole.inspectors.volumes.checksums import (
    big_endian_sum,
    crc64,
    fletcher64,
    folded_sum,
    inverted_crc32c,
    raw_crc32,
    rotated_sum,
)

#: The input for which catalogues of checksums list values.
CHECK = b"123456789"


def test_crc_64() -> None:
    assert crc64(CHECK) == 0x62EC59E3F1A4F00A


def test_crc_32_without_inversions() -> None:
    """CRC-32/JAMCRC is CRC-32 without the inversion at the end."""
    assert raw_crc32(0xFFFFFFFF, CHECK) == 0x340BC6D9
    assert raw_crc32(raw_crc32(7, CHECK[:4]), CHECK[4:]) == raw_crc32(7, CHECK)


def test_crc_32c_without_the_last_inversion() -> None:
    assert inverted_crc32c(CHECK) == 0xE3069283 ^ 0xFFFFFFFF


def test_fletcher_64_with_itself_in_front_adds_up_to_zero() -> None:
    """APFS checks its objects like this.

    The sums of all words, with the checksum as the last word, are zero modulo 2^32 - 1.
    """
    data = Random(5).randbytes(4088)  # noqa: S311 - the same bytes in every run
    checksum = fletcher64(data)
    low, high = 0, 0
    words = [*(data[at : at + 4] for at in range(0, len(data), 4)), *_words(checksum)]
    for word in words:
        low = (low + int.from_bytes(word, "little")) % 0xFFFFFFFF
        high = (high + low) % 0xFFFFFFFF
    assert (low, high) == (0, 0)


def _words(value: int) -> tuple[bytes, bytes]:
    return (value & 0xFFFFFFFF).to_bytes(4, "little"), (value >> 32).to_bytes(4, "little")


def test_the_sum_that_is_rotated() -> None:
    assert rotated_sum(b"") == 0
    assert rotated_sum(b"\1") == 1
    assert rotated_sum(b"\1\0") == 0x80000000
    assert rotated_sum(b"\1\0\0") == 0x40000000
    assert rotated_sum(b"\xff\xff") == 0x8000017E


def test_the_sum_that_is_folded() -> None:
    assert folded_sum(b"\xff" * 8) == 0xFFFFFFFF
    assert folded_sum(b"\xff\xff\xff\xff\2\0") == 2


def test_the_sum_of_big_endian_words() -> None:
    assert big_endian_sum(b"\0\0\1\0" * 3) == 0x300
    assert big_endian_sum(b"\xff\xff\xff\xff\0\0\0\2") == 1
