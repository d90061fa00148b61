"""bzip2: streams in a row, each with blocks of up to 900,000 bytes and their checksums.

Source: bzip2 1.0.8, decompress.c.
"""

import bz2

from keyhole.inspectors.compression.decoder import Decoder, Stream
from keyhole.inspectors.compression.inspector import CompressedInspector

#: The bytes of memory that libbz2 takes for a block of 900,000 bytes.
BZIP2_BYTES = 4 * 1024**2


class Bzip2Decoder(Decoder):
    """Decodes bzip2 streams in a row."""

    NAME = "bzip2"
    ERRORS = OSError
    #: The marks of a block and of a stream's end: the digits of pi and of its square root.
    MARKS = frozenset({b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"})

    @classmethod
    def begins(cls, front: bytes) -> bool:
        """Whether a stream begins here, followed by a block or by the stream's end."""
        return front.startswith(b"BZh") and front[3:4] in b"123456789" and front[4:10] in cls.MARKS

    def window(self, head: bytes) -> int:  # noqa: ARG002 - always that of the largest block
        """The bytes of the tables for a block."""
        return BZIP2_BYTES

    def _open(self, head: bytes) -> Stream | None:
        # A second stream needs no check of its first block: the library reports an error in it.
        return bz2.BZ2Decompressor() if head.startswith(b"BZh") and head[3:4] in b"123456789" else None


class Bzip2Inspector(CompressedInspector):
    """bzip2 streams and their content."""

    NAME = "bzip2"
    DECODER = Bzip2Decoder
