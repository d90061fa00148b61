"""Inspects LZ4 objects, which consist of one frame or of several frames in a row.

Skippable frames can precede and follow each frame.

Source: LZ4 Frame Format Description 1.6.3, "General Structure of LZ4 Frame format", "Frame Descriptor",
"Skippable Frames" and "Legacy frame". All fields are little-endian.

| offset | bytes | field of a frame |
|---|---|---|
| 0 | 4 | 04 22 4D 18; 02 21 4C 18 in a legacy frame; 5x 2A 4D 18 in a skippable frame |
| 4 | 1 | bit 0: the id of a dictionary follows; 2: content checksum; 3: content size; 4: block checksums; 5: blocks are independent; 6-7: version, 01 |
| 5 | 1 | bits 4-6: the longest block, 64 KiB to 4 MiB |
| 6 | 8 | content size, if bit 3 is set |

liblz4 decodes the frames and checks their checksums. Blocks can refer to the 64 KiB of output before them.
liblz4 stores these 64 KiB, one compressed block and one decompressed block. So Keyhole reserves memory for
64 KiB and two blocks, about 8 MiB at most. Legacy frames are written only by the command `lz4 -l`, and
liblz4 does not decode them. Keyhole recognises legacy frames, but does not decompress them.
"""  # noqa: E501 - the rows of the table are one line each

from collections.abc import Mapping

import lz4.frame

from keyhole.inspectors.compression.decoder import Decoder, DecodingError, Stream
from keyhole.inspectors.compression.fronts import behind_skippable, skippable_bytes
from keyhole.inspectors.compression.inspector import CompressedInspector

MAGIC = b"\x04\x22\x4d\x18"
LEGACY_MAGIC = b"\x02\x21\x4c\x18"
DICTIONARY, CONTENT_SIZE = 0x01, 0x08


class _Frame:
    """A decompressor of one frame with liblz4, with the interface `Stream`."""

    def __init__(self) -> None:
        self._lz4 = lz4.frame.LZ4FrameDecompressor()

    @property
    def eof(self) -> bool:
        """Whether the frame has ended."""
        return bool(self._lz4.eof)

    @property
    def needs_input(self) -> bool:
        """Whether the decompressor needs more input before it can return more output."""
        return bool(self._lz4.needs_input)

    @property
    def unused_data(self) -> bytes:
        """The input bytes after the frame's end."""
        return self._lz4.unused_data or b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Decompress `data` and return at most `max_length` bytes; see `Stream`."""
        return bytes(self._lz4.decompress(data, max_length))


class Lz4Decoder(Decoder):
    """Decodes the LZ4 frames of an object."""

    NAME = "lz4"
    # The package `lz4` raises RuntimeError for all errors of liblz4.
    ERRORS = RuntimeError

    @classmethod
    def begins(cls, front: bytes) -> bool:
        """Whether `front` begins with a frame, or with skippable frames and then a frame."""
        return front.startswith((MAGIC, LEGACY_MAGIC), behind_skippable(front))

    @staticmethod
    def content_size(head: bytes) -> int | None:
        """Return the content size in bytes that a frame's header states, or `None`."""
        if len(head) < 14 or not head[4] & CONTENT_SIZE:
            return None
        return int.from_bytes(head[6:14], "little")

    def window(self, head: bytes) -> int:
        """Return the memory in bytes for two blocks of the largest size, and for 64 KiB of earlier output."""
        return 2 * (1 << 8 + 2 * (head[5] >> 4 & 7)) + 64 * 1024 if len(head) > 5 else 0

    def _open(self, head: bytes) -> Stream | int | None:
        if skipped := skippable_bytes(head[:8]):
            return skipped
        if head.startswith(LEGACY_MAGIC):
            raise DecodingError("unsupported_subformat", "legacy LZ4 frames are not decompressed")
        if not head.startswith(MAGIC):
            return None
        if len(head) > 4 and head[4] & DICTIONARY:
            raise DecodingError("data_file", "decompression needs a dictionary that is not in the object")
        return _Frame()

    def _explained(self, error: Exception) -> DecodingError:
        for said, what in (("contentChecksum", "content"), ("blockChecksum", "block")):
            if said in str(error):
                return DecodingError("checksum_mismatch", f"a {what} checksum in the LZ4 data is wrong")
        if "headerChecksum" in str(error):
            return DecodingError("checksum_mismatch", "the checksum of an LZ4 frame header is wrong")
        if "frameSize" in str(error):
            return DecodingError(
                "size_mismatch", "an LZ4 frame does not have the content size that it states"
            )
        return super()._explained(error)


class Lz4Inspector(CompressedInspector):
    """The inspector of LZ4 objects."""

    NAME = "lz4"
    DECODER = Lz4Decoder

    def read_header(self, front: bytes) -> Mapping[str, object]:
        """Return the content size that the first frame states."""
        size = Lz4Decoder.content_size(front) if front.startswith(MAGIC) else None
        return {} if size is None else {"stated_bytes": size}
