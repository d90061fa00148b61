"""`.lzma` files ("LZMA_Alone"): one LZMA stream with a header and without a checksum.

Source: The .lzma File Format 1.0 (XZ Utils, doc/lzma-file-format.txt), section 1.1. All fields are
little-endian.

| offset | bytes | field |
|---|---|---|
| 0 | 1 | properties: (pb * 5 + lp) * 9 + lc, below 225 |
| 1 | 4 | size of the dictionary |
| 5 | 8 | size of the uncompressed data; all ones: unknown, and the data end with a marker |
| 13 | 1 | first byte of the range coder, always zero |

The format has no magic number. Keyhole recognises the same headers as liblzma when it detects the format
(`lzma_alone_decoder` with `picky`): the dictionary has 2^n or 2^n + 2^(n-1) bytes, and the content has less
than 256 GiB or an unknown size. No boot sector and no other inspected format begins with such a header.
"""

import lzma
from collections.abc import Mapping

from keyhole.inspectors.compression.decoder import Decoder, DecodingError, Stream, needs_memory
from keyhole.inspectors.compression.inspector import CompressedInspector
from keyhole.inspectors.compression.limits import MAX_WINDOW

HEADER_BYTES = 13
UNKNOWN_SIZE = 2**64 - 1
#: The smallest content size in bytes that liblzma refuses when it detects the format.
MAX_SIZE = 1 << 38
MAX_PROPERTIES, MAX_LITERAL_BITS = 224, 4
LARGEST_DICTIONARY = 2**32 - 1


def begins_lzma(front: bytes) -> bool:
    """Return whether liblzma detects a `.lzma` file in an object that begins with `front`."""
    if len(front) <= HEADER_BYTES or front[0] > MAX_PROPERTIES or front[HEADER_BYTES]:
        return False
    lc, lp = front[0] % 9, front[0] // 9 % 5
    size = content_size(front)
    return (
        lc + lp <= MAX_LITERAL_BITS
        and _is_usual(int.from_bytes(front[1:5], "little"))
        and (size is None or 0 < size < MAX_SIZE)
    )


def content_size(header: bytes) -> int | None:
    """Return the content size in bytes that a header states; `None` if the data end with a marker."""
    size = int.from_bytes(header[5:HEADER_BYTES], "little")
    return None if size == UNKNOWN_SIZE else size


def _is_usual(dictionary: int) -> bool:
    """Return whether liblzma accepts a dictionary's size: one bit or two adjacent bits are set, or none."""
    lowest = dictionary & -dictionary
    return dictionary in {0, lowest, lowest * 3, LARGEST_DICTIONARY}


class LzmaDecoder(Decoder):
    """Decodes the stream of a `.lzma` file. Bytes after the stream are trailing data."""

    NAME = "lzma"
    ERRORS = lzma.LZMAError

    @classmethod
    def begins(cls, front: bytes) -> bool:
        """Whether `front` begins with a header."""
        return begins_lzma(front)

    def window(self, head: bytes) -> int:
        """Return the size of the dictionary in bytes, which the header states."""
        return int.from_bytes(head[1:5], "little")

    def _open(self, head: bytes) -> Stream | int | None:
        if self.streams or not self.begins(head):
            return None
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_WINDOW)

    def _explained(self, error: Exception) -> DecodingError:
        if "Memory usage limit" in str(error):
            return needs_memory(self.NAME)
        return super()._explained(error)


class LzmaInspector(CompressedInspector):
    """A `.lzma` file and its content."""

    NAME = "lzma"
    DECODER = LzmaDecoder

    def read_header(self, front: bytes) -> Mapping[str, object]:
        """Return the content size that the header states."""
        size = content_size(front)
        return {} if size is None else {"stated_bytes": size}
