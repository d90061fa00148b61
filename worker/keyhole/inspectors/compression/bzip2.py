"""Inspects bzip2 objects, which consist of one stream or of several streams in a row.

A stream consists of blocks. Each block has up to 900,000 bytes of data and a checksum.

Source: bzip2 1.0.8, decompress.c.
"""

import bz2

from keyhole.inspectors.compression.decoder import Decoder, Stream
from keyhole.inspectors.compression.inspector import CompressedInspector

#: The memory in bytes that libbz2 needs for a block of 900,000 bytes.
BZIP2_BYTES = 4 * 1024**2


class Bzip2Decoder(Decoder):
    """Decodes the bzip2 streams of an object."""

    NAME = "bzip2"
    ERRORS = OSError
    #: The marks of a block and of a stream's end: the digits of pi and of the square root of pi.
    MARKS = frozenset({b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"})

    @classmethod
    def begins(cls, front: bytes) -> bool:
        """Whether `front` begins with a stream header and, after it, one of the `MARKS`."""
        return front.startswith(b"BZh") and front[3:4] in b"123456789" and front[4:10] in cls.MARKS

    def window(self, head: bytes) -> int:  # noqa: ARG002 - the largest block is assumed
        """Return the memory in bytes for the largest block."""
        return BZIP2_BYTES

    def _open(self, head: bytes) -> Stream | None:
        # Do not check for a block here, because the library reports an error if the block is missing.
        return bz2.BZ2Decompressor() if head.startswith(b"BZh") and head[3:4] in b"123456789" else None


class Bzip2Inspector(CompressedInspector):
    """The inspector of bzip2 objects."""

    NAME = "bzip2"
    DECODER = Bzip2Decoder
