"""gzip: members in a row, each with a header, deflated data, a CRC-32 and a length. Little-endian.

Source: RFC 1952, section 2.3.

| offset | bytes | field of the header |
|---|---|---|
| 0 | 3 | 1F 8B 08 |
| 3 | 1 | flags: bit 2: extra fields follow, with their length in a u16; 3: a name that ends with a NUL; 4: a comment likewise |
| 4 | 4 | time of modification in seconds of Unix time; zero: none |
| 10 | | what the flags announce |
"""  # noqa: E501 - the rows of the table are one line each

import zlib
from collections.abc import Mapping

from keyhole.inspectors.compression.decoder import Decoder, DecodingError, Stream
from keyhole.inspectors.compression.inspector import CompressedInspector
from keyhole.inspectors.text import printable

#: The bytes of memory that zlib takes for one stream.
DEFLATE_BYTES = 64 * 1024


class Inflating:
    """A stream of deflated data, with the interface of the other libraries.

    Args:
        wbits: As for `zlib.decompressobj`: says whether the data have a gzip header.
    """

    def __init__(self, wbits: int) -> None:
        self._zlib = zlib.decompressobj(wbits=wbits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        """The bytes that lie after the member's end."""
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Decompress some bytes; see `Stream`."""
        made = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        # zlib keeps output back if `max_length` left no room for it.
        self.needs_input = len(made) < max_length and not self._zlib.unconsumed_tail
        return made


class GzipDecoder(Decoder):
    """Decodes gzip members in a row."""

    NAME = "gzip"
    PADDING = 1
    ERRORS = zlib.error

    @classmethod
    def begins(cls, front: bytes) -> bool:
        """Whether a member begins here. All members are deflated."""
        return front.startswith(b"\x1f\x8b\x08")

    def window(self, head: bytes) -> int:  # noqa: ARG002 - it is always the same
        """The bytes of deflate's window and of zlib's state."""
        return DEFLATE_BYTES

    def _open(self, head: bytes) -> Stream | None:
        # gzip ignores a member after zeros, Python reads it.
        return Inflating(16 + zlib.MAX_WBITS) if self.begins(head) and not self._padding else None

    def _explained(self, error: Exception) -> DecodingError:
        for said, what in (("incorrect data check", "checksum"), ("incorrect length check", "length")):
            if said in str(error):
                return DecodingError(
                    "checksum_mismatch", f"the decompressed data do not match the {what} in the gzip member"
                )
        return super()._explained(error)


class GzipInspector(CompressedInspector):
    """gzip members and their content."""

    NAME = "gzip"
    DECODER = GzipDecoder
    EXTRA, TEXTS = 4, {"original_name": 8, "comment": 16}

    def read_header(self, front: bytes) -> Mapping[str, object]:
        """The time, name and comment in the first member's header."""
        header: dict[str, object] = {}
        flags, at = front[3] if len(front) > 3 else 0, 10
        if seconds := int.from_bytes(front[4:8], "little"):
            header["mtime"] = seconds
        if flags & self.EXTRA:
            at += 2 + int.from_bytes(front[at : at + 2], "little")
        for field, flag in self.TEXTS.items():
            if flags & flag:
                end = front.find(b"\0", at)
                if end < 0:
                    raise DecodingError("structure", "a name or comment in the gzip header has no end")
                header[field] = printable(front[at:end])
                at = end + 1
        return header
