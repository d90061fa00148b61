"""How members of a ZIP archive are compressed, and what decodes them.

Source: APPNOTE.TXT 6.3.10, sections 4.4.5 (methods) and 5.8 (LZMA: two bytes of version, the length of the
properties, u16, and the properties: a byte and the size of the dictionary). Deflate64, PPMd and what the
PKZIP of the eighties used are not decoded.

A member is one stream. Its length and checksum, which the directory states, are those of what comes out.
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
    """A decoder that computes the checksum of its output. There is no padding between streams."""

    PADDING = 0

    def __init__(self) -> None:
        super().__init__()
        #: CRC-32 of what came out.
        self.checksum = 0

    @classmethod
    def begins(cls, front: bytes) -> bool:  # noqa: ARG003 - the directory says what it is
        """Whether a stream begins: there is no mark."""
        return True

    def _decompress(self, stream: Stream, data: bytes, step: int) -> bytes:
        made = super()._decompress(stream, data, step)
        self.checksum = crc32(made, self.checksum)
        return made


class DeflateMember(MemberDecoder):
    """Method 8."""

    NAME = "deflate"
    ERRORS = zlib.error

    def window(self, head: bytes) -> int:  # noqa: ARG002 - it is always the same
        """Deflate's, and what zlib has beside it."""
        return DEFLATE_BYTES

    def _open(self, head: bytes) -> Stream | None:  # noqa: ARG002 - it has no header
        return None if self.streams else Inflating(-zlib.MAX_WBITS)


class Bzip2Member(MemberDecoder, Bzip2Decoder):
    """Method 12."""


class XzMember(MemberDecoder, XzDecoder):
    """Method 95."""


class ZstdMember(MemberDecoder, ZstdDecoder):
    """Method 93."""


class _ZipLzma:
    """LZMA as ZIP has it: liblzma is given the header of a `.lzma` file in place of ZIP's."""

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
        """Whether nothing more comes out unless more goes in."""
        return self._lzma.needs_input

    @property
    def unused_data(self) -> bytes:
        """The bytes that lie behind their end."""
        return self._lzma.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Decompress some bytes, the first of which are ZIP's header; see `Stream`."""
        if not self._begun:
            self._begun = True
            data = data[4:LZMA_HEADER] + self._size + data[LZMA_HEADER:]
        return self._lzma.decompress(data, max_length)


class LzmaMember(MemberDecoder):
    """Method 14."""

    NAME = "lzma"
    ERRORS = lzma.LZMAError

    def __init__(self, size: bytes) -> None:
        super().__init__()
        self._size = size

    def window(self, head: bytes) -> int:
        """The dictionary, which ZIP's header states."""
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


#: The decoder of a member by its method.
DECODERS: dict[int, Callable[[Entry], MemberDecoder]] = {
    8: lambda _: DeflateMember(),
    12: lambda _: Bzip2Member(),
    14: _lzma_member,
    93: lambda _: ZstdMember(),
    95: lambda _: XzMember(),
}
#: The names of other methods.
OTHERS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 97: "WavPack", 98: "PPMd"}


def method_name(method: int) -> str:
    """The name of a method that is not decoded."""
    return OTHERS.get(method, f"method {method}")


def unpacked(entry: Entry, data: bytes) -> bytes:
    """Unpack a short member, whose data are all here.

    Raises:
        DecodingError: They cannot be decoded, or more comes out than the directory states.
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
                raise DecodingError("size_mismatch", f"more than {entry.size} bytes came out")
    return made
