"""Recognises compressed data that have no fixed first bytes, without importing a decompression library.

- zstd and LZ4 share the same skippable frames (RFC 8878, section 3.1.2), which can precede the first frame of
  each format. A skippable frame is 5x 2A 4D 18, and then its length as a little-endian u32.
- `.lzma` files have no magic number. `lzma_alone` describes their header.
"""

#: The length in bytes of the header of a `.lzma` file.
LZMA_HEADER_BYTES = 13
UNKNOWN_SIZE = 2**64 - 1
#: If the header states this content size in bytes or a larger size, liblzma does not detect the format.
MAX_SIZE = 1 << 38
MAX_PROPERTIES, MAX_LITERAL_BITS = 224, 4
LARGEST_DICTIONARY = 2**32 - 1


def skippable_bytes(head: bytes) -> int:
    """Return the length in bytes of a skippable frame of zstd or LZ4; zero for other data."""
    if len(head) < 8 or head[0] >> 4 != 5 or head[1:4] != b"\x2a\x4d\x18":
        return 0
    return 8 + int.from_bytes(head[4:8], "little")


def behind_skippable(front: bytes) -> int:
    """Return the offset of the first byte after the skippable frames at the beginning of `front`.

    Only skippable frames that end within `front` are skipped.
    """
    at = 0
    while (skipped := skippable_bytes(front[at : at + 8])) and at + skipped < len(front):
        at += skipped
    return at


def begins_lzma(front: bytes) -> bool:
    """Return whether an object that begins with `front` is a `.lzma` file.

    liblzma also accepts a header that states an empty content. Keyhole does not: 14 zeros form such a header,
    and many disks begin with zeros.
    """
    if len(front) <= LZMA_HEADER_BYTES or front[0] > MAX_PROPERTIES or front[LZMA_HEADER_BYTES]:
        return False
    lc, lp = front[0] % 9, front[0] // 9 % 5
    size = lzma_content_size(front)
    return (
        lc + lp <= MAX_LITERAL_BITS
        and _is_usual(int.from_bytes(front[1:5], "little"))
        and (size is None or 0 < size < MAX_SIZE)
    )


def lzma_content_size(header: bytes) -> int | None:
    """Return the content size in bytes that a header states; `None` if the data end with a marker."""
    size = int.from_bytes(header[5:LZMA_HEADER_BYTES], "little")
    return None if size == UNKNOWN_SIZE else size


def _is_usual(dictionary: int) -> bool:
    """Return whether liblzma accepts a dictionary's size.

    liblzma accepts zero, 2^n, 2^n + 2^(n-1) and 2^32 - 1.
    """
    lowest = dictionary & -dictionary
    return dictionary in {0, lowest, lowest * 3, LARGEST_DICTIONARY}
