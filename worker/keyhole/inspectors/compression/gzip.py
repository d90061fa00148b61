"""Inspects gzip objects, which consist of one member or of several members in a row.

A member has a header, deflated data, a CRC-32 and a length.

Source: RFC 1952, section 2.3. All fields are little-endian.

| offset | bytes | field of the header |
|---|---|---|
| 0 | 3 | 1F 8B 08 |
| 3 | 1 | flags: bit 2: extra fields follow, with their length in a u16; 3: a name that ends with a NUL; 4: a comment that ends with a NUL |
| 4 | 4 | time of modification in seconds of Unix time; zero: unknown |
| 10 | | extra fields, name and comment, each only if its flag is set |
"""  # noqa: E501 - the rows of the table are one line each

import zlib
from collections.abc import Mapping

from keyhole.inspectors.compression.decoder import Decoder, DecodingError, Stream
from keyhole.inspectors.compression.inspector import CompressedInspector
from keyhole.inspectors.text import printable

#: The memory in bytes that zlib needs for one stream.
DEFLATE_BYTES = 64 * 1024


class Inflating:
    """A decompressor of one deflated stream, with the interface `Stream`.

    Args:
        wbits: The window size and the expected header of the data, as defined for `zlib.decompressobj`.
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
        """The input bytes after the member's end."""
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Decompress `data` and return at most `max_length` bytes; see `Stream`."""
        made = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        # If the output has `max_length` bytes, zlib can have more output that needs no further input.
        self.needs_input = len(made) < max_length and not self._zlib.unconsumed_tail
        return made


class GzipDecoder(Decoder):
    """Decodes the gzip members of an object."""

    NAME = "gzip"
    PADDING = 1
    ERRORS = zlib.error

    @classmethod
    def begins(cls, front: bytes) -> bool:
        """Whether `front` begins with a member. The only compression method is deflate."""
        return front.startswith(b"\x1f\x8b\x08")

    def window(self, head: bytes) -> int:  # noqa: ARG002 - every stream needs the same
        """Return the memory in bytes for deflate's window and zlib's state."""
        return DEFLATE_BYTES

    def _open(self, head: bytes) -> Stream | None:
        # gzip ignores a member that follows padding, but Python reads this member. So report it as trailing
        # data.
        return Inflating(16 + zlib.MAX_WBITS) if self.begins(head) and not self._padding else None

    def _explained(self, error: Exception) -> DecodingError:
        for said, what in (("incorrect data check", "checksum"), ("incorrect length check", "length")):
            if said in str(error):
                return DecodingError(
                    "checksum_mismatch", f"the decompressed data do not match the {what} in the gzip member"
                )
        return super()._explained(error)


class GzipInspector(CompressedInspector):
    """The inspector of gzip objects."""

    NAME = "gzip"
    DECODER = GzipDecoder
    EXTRA, TEXTS = 4, {"original_name": 8, "comment": 16}

    def read_header(self, front: bytes) -> Mapping[str, object]:
        """Return the time, name and comment in the first member's header."""
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
