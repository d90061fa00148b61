"""Reads integers from the headers and tables of images, in either byte order."""

from array import array
from sys import byteorder

#: The bytes of a sector, unless a format states another size.
SECTOR = 512
#: The zeros at the end of a table are skipped in blocks of this length.
ZEROS = bytes(4096)


class Fields(bytes):
    """The bytes of a structure, and the integers in them."""

    __slots__ = ()

    def le(self, at: int, length: int) -> int:
        """The little-endian integer of `length` bytes at an offset."""
        return int.from_bytes(self[at : at + length], "little")

    def be(self, at: int, length: int) -> int:
        """The big-endian integer of `length` bytes at an offset."""
        return int.from_bytes(self[at : at + length], "big")


def little_endian(code: str, table: bytes) -> "array[int]":
    """The little-endian integers of a table, without a partial one at its end.

    Args:
        code: The type code of an array: `I` for 4 bytes, `Q` for 8.
        table: The bytes of the table.
    """
    return _integers(code, table, swapped=byteorder == "big")


def big_endian(code: str, table: bytes) -> "array[int]":
    """The big-endian integers of a table, without a partial one at its end; see `little_endian`."""
    return _integers(code, table, swapped=byteorder == "little")


def used_bytes(table: bytes) -> int:
    """The length of a table without the zeros at its end."""
    end = len(table)
    # `rstrip` compares byte by byte, which is slow for a table of zeros.
    while end >= len(ZEROS) and table.endswith(ZEROS, 0, end):
        end -= len(ZEROS)
    start = max(0, end - len(ZEROS))
    return start + len(table[start:end].rstrip(b"\0"))


def _integers(code: str, table: bytes, *, swapped: bool) -> "array[int]":
    numbers = array(code)
    numbers.frombytes(table[: len(table) // numbers.itemsize * numbers.itemsize])
    if swapped:
        numbers.byteswap()
    return numbers
