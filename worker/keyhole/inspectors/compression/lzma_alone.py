"""Inspects `.lzma` files ("LZMA_Alone"), which are one LZMA stream with a header and without a checksum.

Source: The .lzma File Format 1.0 (XZ Utils, doc/lzma-file-format.txt), section 1.1. All fields are
little-endian.

| offset | bytes | field |
|---|---|---|
| 0 | 1 | properties: (pb * 5 + lp) * 9 + lc, below 225 |
| 1 | 4 | size of the dictionary |
| 5 | 8 | size of the uncompressed data; all ones: unknown, and the data end with a marker |
| 13 | 1 | first byte of the range coder, always zero |

The format has no magic number. `begins_lzma` recognises the headers by which liblzma detects the format
(`lzma_alone_decoder` with `picky`), except headers that state an empty content. The size of the dictionary
must be zero, 2^n, 2^n + 2^(n-1) or 2^32 - 1. The content must have less than 256 GiB, or an unknown size. No
boot sector and no other inspected format begins with such a header.
"""

import lzma
from collections.abc import Mapping

from keyhole.inspectors.compression.decoder import Decoder, DecodingError, Stream, needs_memory
from keyhole.inspectors.compression.fronts import begins_lzma, lzma_content_size
from keyhole.inspectors.compression.inspector import CompressedInspector
from keyhole.inspectors.compression.limits import MAX_WINDOW


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
    """The inspector of `.lzma` files."""

    NAME = "lzma"
    DECODER = LzmaDecoder

    def read_header(self, front: bytes) -> Mapping[str, object]:
        """Return the content size that the header states."""
        size = lzma_content_size(front)
        return {} if size is None else {"stated_bytes": size}
