"""The compression methods of a ZIP archive's members, and their decoders.

Source: APPNOTE.TXT 6.3.10, sections 4.4.5 (methods) and 5.8. According to 5.8, LZMA data begin with two bytes
of version, the length of the properties as u16, and the properties: one byte and the size of the dictionary.
Keyhole does not decode Deflate64, PPMd and PKZIP's methods from the 1980s.

The data of a member are one compressed stream. The directory states the length and the checksum of the
output.
"""

import lzma
import zlib
from collections.abc import Callable
from contextlib import closing
from zlib import crc32

from keyhole.inspectors.archives.zip.entry import STORED, Entry
from keyhole.inspectors.compression.bzip2 import Bzip2Decoder
from keyhole.inspectors.compression.decoder import Decoder, DecodingError, Stream, needs_memory
from keyhole.inspectors.compression.gzip import DEFLATE_BYTES, Inflating
from keyhole.inspectors.compression.limits import MAX_WINDOW
from keyhole.inspectors.compression.xz import XzDecoder
from keyhole.inspectors.compression.zstd import ZstdDecoder

LZMA_HEADER, LZMA_PROPERTIES = 9, 5
LZMA_HAS_END = 1 << 1
UNKNOWN_SIZE = b"\xff" * 8


class MemberDecoder(Decoder):
    """A decoder that computes the checksum of its output. It accepts no padding after the data."""

    PADDING = 0

    def __init__(self) -> None:
        super().__init__()
        #: CRC-32 of the output so far.
        self.checksum = 0

    @classmethod
    def begins(cls, front: bytes) -> bool:  # noqa: ARG003 - the directory says what it is
        """Return true, because a member's data do not always begin with a signature."""
        return True

    def _decompress(self, stream: Stream, data: bytes, step: int) -> bytes:
        made = super()._decompress(stream, data, step)
        self.checksum = crc32(made, self.checksum)
        return made


class DeflateMember(MemberDecoder):
    """Decodes method 8, Deflate."""

    NAME = "deflate"
    ERRORS = zlib.error

    def window(self, head: bytes) -> int:  # noqa: ARG002 - it is always the same
        """The memory that zlib needs for Deflate, in bytes: the window and zlib's own data."""
        return DEFLATE_BYTES

    def _open(self, head: bytes) -> Stream | None:  # noqa: ARG002 - it has no header
        return None if self.streams else Inflating(-zlib.MAX_WBITS)


class Bzip2Member(MemberDecoder, Bzip2Decoder):
    """Decodes method 12, bzip2."""


class XzMember(MemberDecoder, XzDecoder):
    """Decodes method 95, xz."""


class ZstdMember(MemberDecoder, ZstdDecoder):
    """Decodes method 93, Zstandard."""


class _ZipLzma:
    """Decompresses a ZIP archive's LZMA data.

    liblzma does not support ZIP's header of LZMA data. So this class replaces the header with the header of a
    `.lzma` file.
    """

    def __init__(self, size: bytes) -> None:
        self._lzma = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_WINDOW)
        self._size = size
        self._begun = False

    @property
    def eof(self) -> bool:
        """Whether the data have ended."""
        return self._lzma.eof

    @property
    def needs_input(self) -> bool:
        """Whether the decompressor needs more input before it can make more output."""
        return self._lzma.needs_input

    @property
    def unused_data(self) -> bytes:
        """The input bytes after the end of the compressed data."""
        return self._lzma.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Decompress the next bytes; see `Stream`. The bytes of the first call begin with ZIP's header."""
        if not self._begun:
            self._begun = True
            data = data[4:LZMA_HEADER] + self._size + data[LZMA_HEADER:]
        return self._lzma.decompress(data, max_length)


class LzmaMember(MemberDecoder):
    """Decodes method 14, LZMA."""

    NAME = "lzma"
    ERRORS = lzma.LZMAError

    def __init__(self, size: bytes) -> None:
        super().__init__()
        self._size = size

    def window(self, head: bytes) -> int:
        """The size of the dictionary in bytes, which ZIP's header states."""
        return int.from_bytes(head[5:LZMA_HEADER], "little")

    def _open(self, head: bytes) -> Stream | None:
        if self.streams:
            return None
        if int.from_bytes(head[2:4], "little") != LZMA_PROPERTIES or len(head) < LZMA_HEADER:
            raise DecodingError("structure", "the LZMA data in the ZIP archive have no header")
        return _ZipLzma(self._size)

    def _explained(self, error: Exception) -> DecodingError:
        if "Memory usage limit" in str(error):
            return needs_memory(self.NAME)
        return super()._explained(error)


def _lzma_member(entry: Entry) -> LzmaMember:
    return LzmaMember(UNKNOWN_SIZE if entry.flags & LZMA_HAS_END else entry.size.to_bytes(8, "little"))


#: Maps each method that Keyhole decodes to the function that creates a member's decoder.
DECODERS: dict[int, Callable[[Entry], MemberDecoder]] = {
    8: lambda _: DeflateMember(),
    12: lambda _: Bzip2Member(),
    14: _lzma_member,
    93: lambda _: ZstdMember(),
    95: lambda _: XzMember(),
}
#: The names of methods that Keyhole does not decode.
OTHERS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 97: "WavPack", 98: "PPMd"}


def method_name(method: int) -> str:
    """Return the name of a method that Keyhole does not decode."""
    return OTHERS.get(method, f"method {method}")


def unpacked(entry: Entry, data: bytes) -> bytes:
    """Decompress a short member at once. `data` has all data of the member.

    Raises:
        DecodingError: Keyhole cannot decode the data, or the output is longer than the directory states.
    """
    if entry.method == STORED:
        return data
    if entry.method not in DECODERS:
        raise DecodingError("unsupported_subformat", f"it is compressed by {method_name(entry.method)}")
    made = b""
    with closing(DECODERS[entry.method](entry)) as decoder:
        for piece in decoder.decode(data, last=True):
            made += piece
            if len(made) > entry.size:
                raise DecodingError("size_mismatch", f"decompression gave more than {entry.size} bytes")
    return made
