"""Inspects xz objects, which consist of one stream or of several streams in a row.

A stream has blocks and an index.

Source: The .xz File Format 1.2.0, sections 2 to 5.
"""

import lzma

from keyhole.inspectors.compression.decoder import Decoder, DecodingError, Stream, needs_memory
from keyhole.inspectors.compression.inspector import CompressedInspector
from keyhole.inspectors.compression.limits import MAX_WINDOW

#: The id of the filter LZMA2, xz's usual compression.
XZ_LZMA2 = 0x21
#: The memory in bytes that liblzma needs besides the dictionary.
LZMA_BYTES = 1024**2


class XzDecoder(Decoder):
    """Decodes the xz streams of an object."""

    NAME = "xz"
    PADDING = 4
    ERRORS = lzma.LZMAError
    _limit = MAX_WINDOW

    @classmethod
    def begins(cls, front: bytes) -> bool:
        """Whether `front` begins with a stream."""
        return front.startswith(b"\xfd7zXZ\0")

    def window(self, head: bytes) -> int:
        """Return the size of the first block's dictionary in bytes; see `xz_dictionary`."""
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
            message = (
                "a later block of the xz stream needs more memory than the first block, so it was not read"
            )
            return DecodingError("unsupported_subformat", message)
        return super()._explained(error)


def xz_dictionary(head: bytes) -> int:
    """Return the dictionary size in bytes of an xz stream's first block; zero without a valid block header.

    | offset | bytes | field of the block's header, which begins at 12 |
    |---|---|---|
    | 0 | 1 | length in units of 4 bytes, minus one; zero: this is the index and not a block |
    | 1 | 1 | bits 0-1: filters minus one; 6: compressed size follows; 7: uncompressed size follows |
    | 2 | | these sizes; then for each filter its id, the length of its properties, and the properties |

    Numbers are stored with 7 bits in each byte; bit 7 is unset in the last byte. LZMA2 has the id 0x21 and is
    the last filter. Its property is one byte n. The dictionary has 2^(n/2 + 12) bytes if n is even,
    3 * 2^((n-1)/2 + 11) bytes if n is odd, and 4 GiB if n is 40.
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
    """Return the number at offset `at`, and the offset after the number."""
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            break
    return value, at


class XzInspector(CompressedInspector):
    """The inspector of xz objects."""

    NAME = "xz"
    DECODER = XzDecoder
