"""Inspects Zstandard objects, which consist of one frame or of several frames in a row.

Skippable frames can precede and follow each frame.

Source: RFC 8878, sections 3.1.1 (frames) and 3.1.2 (skippable frames). All fields are little-endian.

| offset | bytes | field of a frame's header |
|---|---|---|
| 0 | 4 | 28 B5 2F FD; in a skippable frame 5x 2A 4D 18, and then its length as a u32 |
| 4 | 1 | bits 0-1: length of the field dictionary id (0, 1, 2, 4); 5: the frame is a single segment without the field window; 6-7: length of the field content size (0, or 1 in a single segment; 2, 4, 8) |
| 5 | 1 | window: bits 3-7: exponent minus 10; bits 0-2: additional eighths |
| | | dictionary id, then content size (256 is subtracted from a size in two bytes) |
"""  # noqa: E501 - the rows of the table are one line each

import sys
from collections.abc import Mapping

from keyhole.inspectors.compression.decoder import Decoder, DecodingError, Stream, needs_memory
from keyhole.inspectors.compression.fronts import behind_skippable, skippable_bytes
from keyhole.inspectors.compression.inspector import CompressedInspector
from keyhole.inspectors.compression.limits import MAX_WINDOW

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class ZstdDecoder(Decoder):
    """Decodes the Zstandard frames of an object."""

    NAME = "zstd"
    ERRORS = zstd.ZstdError
    MAGIC = b"\x28\xb5\x2f\xfd"
    DICTIONARY = 3

    @classmethod
    def begins(cls, front: bytes) -> bool:
        """Whether `front` begins with a frame, or with skippable frames and then a frame."""
        return front.startswith(cls.MAGIC, behind_skippable(front))

    @staticmethod
    def content_size(head: bytes) -> int | None:
        """Return the content size in bytes that a frame's header states, or `None`."""
        descriptor = head[4] if len(head) > 4 else 0
        one_segment = descriptor >> 5 & 1
        length = (one_segment, 2, 4, 8)[descriptor >> 6]
        at = 5 + (not one_segment) + (0, 1, 2, 4)[descriptor & 3]
        if not length or len(head) < at + length:
            return None
        return int.from_bytes(head[at : at + length], "little") + (256 if length == 2 else 0)

    def _open(self, head: bytes) -> Stream | int | None:
        if skipped := skippable_bytes(head[:8]):
            return skipped
        if not head.startswith(self.MAGIC):
            return None
        if self.window(head) > MAX_WINDOW:
            raise needs_memory(self.NAME)
        if len(head) > 4 and head[4] & self.DICTIONARY:
            raise DecodingError("data_file", "decompression needs a dictionary that is not in the object")
        return zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: MAX_WINDOW.bit_length() - 1}
        )

    def _explained(self, error: Exception) -> DecodingError:
        if "checksum" in str(error):
            return DecodingError(
                "checksum_mismatch", "the decompressed data do not match the checksum in the zstd frame"
            )
        return super()._explained(error)

    def window(self, head: bytes) -> int:
        """Return the size of a frame's window in bytes; zero for a skippable frame."""
        if not head.startswith(self.MAGIC):
            return 0
        if len(head) > 5 and not head[4] >> 5 & 1:
            base = 1 << (head[5] >> 3) + 10
            return base + (base >> 3) * (head[5] & 7)
        return self.content_size(head) or 0


class ZstdInspector(CompressedInspector):
    """The inspector of Zstandard objects."""

    NAME = "zstd"
    DECODER = ZstdDecoder

    def read_header(self, front: bytes) -> Mapping[str, object]:
        """Return the content size that the first frame states."""
        size = ZstdDecoder.content_size(front) if front.startswith(ZstdDecoder.MAGIC) else None
        return {} if size is None else {"stated_bytes": size}
