"""xz: streams in a row, each with blocks and an index.

Source: The .xz File Format 1.2.0, sections 2 to 5.
"""

import lzma

from keyhole.inspectors.compression.decoder import Decoder, DecodingError, Stream, needs_memory
from keyhole.inspectors.compression.inspector import CompressedInspector
from keyhole.inspectors.compression.limits import MAX_WINDOW

#: The id of xz's own filter.
XZ_LZMA2 = 0x21
#: The bytes of memory that liblzma takes besides the dictionary.
LZMA_BYTES = 1024**2


class XzDecoder(Decoder):
    """Decodes xz streams in a row."""

    NAME = "xz"
    PADDING = 4
    ERRORS = lzma.LZMAError
    _limit = MAX_WINDOW

    @classmethod
    def begins(cls, front: bytes) -> bool:
        """Whether a stream begins here."""
        return front.startswith(b"\xfd7zXZ\0")

    def window(self, head: bytes) -> int:
        """The bytes of the first block's dictionary; see `xz_dictionary`."""
        return xz_dictionary(head) if self.begins(head) else 0

    def _open(self, head: bytes) -> Stream | None:
        if not self.begins(head):
            return None
        self._limit = min(self.window(head) + LZMA_BYTES, MAX_WINDOW)
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=self._limit)

    def _explained(self, error: Exception) -> DecodingError:
        if "Memory usage limit" in str(error):
            if self._limit == MAX_WINDOW:
                return needs_memory(self.NAME)
            message = "a later block of the xz stream needs more memory than the first, so it was not read"
            return DecodingError("unsupported_subformat", message)
        return super()._explained(error)


def xz_dictionary(head: bytes) -> int:
    """The dictionary size of an xz stream's first block in bytes; zero if no valid block header is there.

    | offset | bytes | field of the block's header, which begins at 12 |
    |---|---|---|
    | 0 | 1 | length in units of 4 bytes, minus one; zero: this is the index and not a block |
    | 1 | 1 | bits 0-1: number of filters minus one; 6: the compressed size follows, 7: the uncompressed one |
    | 2 | | these sizes; then for each filter its id, the length of its properties, and the properties |

    Numbers have 7 bits in each byte; bit 7 is unset in the last byte. LZMA2 is the filter 0x21 and the last
    one. Its property is one byte n: the size is 2^(n / 2 + 12), half as much more if n is odd, and 4 GiB for
    40.
    """
    if len(head) < 14 or not head[12]:
        return 0
    at = 14
    for _ in range((head[13] >> 6 & 1) + (head[13] >> 7)):
        _, at = _number(head, at)
    for _ in range((head[13] & 3) + 1):
        kind, at = _number(head, at)
        length, at = _number(head, at)
        if kind == XZ_LZMA2 and length == 1 and at < len(head):
            return (2 | head[at] & 1) << min(head[at], 40) // 2 + 11
        at += length
    return 0


def _number(data: bytes, at: int) -> tuple[int, int]:
    """An xz number at an offset, and the offset after it."""
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            break
    return value, at


class XzInspector(CompressedInspector):
    """xz streams and their content."""

    NAME = "xz"
    DECODER = XzDecoder
