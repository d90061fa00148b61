"""Decoders: compressed bytes in, piece by piece, decompressed bytes out, of a bounded number each time.

A file of any of these formats is one stream or several in a row, which count as one. Between them, and
behind the last, may be padding; what else is there is not the format's.

The libraries do the work: zlib, liblzma, libbz2, libzstd. Here is what they leave to their callers, where a
stream begins and what follows it, and whose fault an error is.

Source: RFC 1952 (gzip); The .xz File Format 1.2.0, sections 2 and 4; RFC 8878 (Zstandard), sections 3.1.1 and
3.1.2; bzip2 1.0.8, decompress.c. What follows the last stream: gzip ignores zeros, and warns of all else; xz
takes zeros by fours; bzip2 warns, zstd takes nothing.
"""

import bz2
import lzma
import re
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Protocol

from keyhole.inspectors.compression.limits import LEAST_OF_STREAM, MAX_STREAMS, MAX_WINDOW
from keyhole.inspectors.effort import CALL, spend
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.memory import Held

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KIB, MIB = 1024, 1024**2
#: Bytes that come out at once. Larger pieces are not faster.
STEP = MIB
#: Bytes of a stream that go in at once: few of a new one, for what the library returns unused is copied, and
#: there may be thousands; then twice as many each time.
LEAST_PORTION, MOST_PORTION = 1 * KIB, 256 * KIB
#: Enough to tell a stream's beginning, and what memory it takes: xz's headers with filters are the longest.
HEAD_BYTES = 64
#: Padding that is passed over: zeros.
MAX_PADDING = 1 * MIB
ZEROS = re.compile(rb"\0++")


#: What zlib takes; what liblzma takes beside the dictionary; libbz2 for a block of 900,000 bytes.
DEFLATE_BYTES, LZMA_BYTES, BZIP2_BYTES = 64 * KIB, 1 * MIB, 4 * MIB


class DecodingError(Exception):
    """What ends the decoding of an object, as a finding."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.finding: Finding = found(check, message)


#: The number of xz's own filter.
XZ_LZMA2 = 0x21


class Stream(Protocol):
    """One stream, as the libraries have it."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes out unless more goes in."""

    @property
    def unused_data(self) -> bytes:
        """What went in and lies behind the stream's end."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Decompress some bytes, up to a length."""


class Decoder(ABC):
    """The streams of one object, one after the other."""

    NAME: ClassVar[str]
    #: Zeros of which so many at a time are padding; zero: none.
    PADDING: ClassVar[int] = 0
    #: What the library raises where the data are at fault.
    ERRORS: ClassVar[type[Exception]]

    def __init__(self) -> None:
        #: Streams that were decoded to their end.
        self.streams = 0
        #: Bytes that went in and were used, and that came out.
        self.taken, self.made = 0, 0
        #: The most that is decoded of the object: no decoder touches more of its window.
        self.most_output = MAX_WINDOW
        #: What the decoder holds, and what is held for it beside its window.
        self.held, self.beside = Held(), 0
        #: Where what is no stream begins, behind the last one; nothing is decoded from there on.
        self.trailing_at: int | None = None
        self._stream: Stream | None = None
        self._portion = LEAST_PORTION
        self._left = b""
        self._padding = 0
        self._skip = 0
        self._units = 0

    @classmethod
    @abstractmethod
    def begins(cls, front: bytes) -> bool:
        """Whether an object that begins so is of this format."""

    @abstractmethod
    def _open(self, head: bytes) -> Stream | int | None:
        """The stream that begins so, or how many bytes to skip, or nothing if it is no stream.

        Raises:
            DecodingError: It is one that is not decoded.
        """

    @abstractmethod
    def window(self, head: bytes) -> int:
        """How many bytes the stream that begins so refers back to, or how much its blocks take."""

    def reserve(self, head: bytes) -> None:
        """Ask for the memory that the stream takes which begins so. The one before it is gone."""
        self.held.raise_to(self.beside + min(self.window(head), self.most_output))

    def _explained(self, error: Exception) -> DecodingError:
        """What an error of the library's says of the data."""
        return DecodingError("structure", f"the {self.NAME} data are corrupt: {error}")

    def decode(self, piece: bytes, *, last: bool, first_step: int = 0) -> Iterator[bytes]:
        """Decode the next piece of the object: nothing is left of it once the iterator has ended.

        Args:
            piece: What follows the last one.
            last: Whether the object ends with it.
            first_step: So many bytes come out before the steps are whole.

        Raises:
            DecodingError: The data are corrupt, cut off, or no honest ones.
        """
        data, at = self._left + piece if self._left else piece, 0
        begin = self.taken
        self._left = b""
        while self.trailing_at is None:
            self.taken = begin + at
            if self._stream is None:
                at = self._between(data, at)
                self.taken = begin + at
                head = data[at : at + HEAD_BYTES]
                if not head or (len(head) < HEAD_BYTES and not last) or self.trailing_at is not None:
                    break
                self._begin(head)
                continue
            if self._stream.needs_input and at == len(data):
                break
            part = data[at : at + self._portion] if self._stream.needs_input else b""
            step = first_step - self.made if self.made < first_step else STEP
            made = self._decompress(self._stream, part, step)
            at += len(part)
            self.made += len(made)
            if self._stream.eof:
                at -= len(self._stream.unused_data)
                self.streams += 1
                self._stream, self._portion = None, LEAST_PORTION
            elif part:
                self._portion = min(2 * self._portion, MOST_PORTION)
            self.taken = begin + at
            if made:
                yield made
        self._left = data[at:] if self.trailing_at is None else b""
        if last:
            self._end()

    def close(self) -> None:
        """Give up what is held: nothing is decoded any more."""
        self._stream, self._left = None, b""
        self.held.release()

    def _between(self, data: bytes, at: int) -> int:
        """Pass over what is to be skipped, and padding; returns where that ends, or the data do."""
        skipped = min(self._skip, len(data) - at)
        self._skip -= skipped
        at += skipped
        if not self.PADDING or not self.streams:
            return at
        zeros = ZEROS.match(data, at)
        end = zeros.end() if zeros else at
        self._padding += end - at
        if self._padding > MAX_PADDING:
            self.trailing_at = self.taken
        return end

    def _begin(self, head: bytes) -> None:
        """Begin with the stream that a head is of, or find that it is of none."""
        self._units += 1
        if self._units > MAX_STREAMS + self.made // LEAST_OF_STREAM:
            raise DecodingError(
                "decompression_bomb", f"{self._units} streams hold {self.made} bytes, next to nothing each"
            )
        padded = self._padding % self.PADDING if self.PADDING else 0
        if not padded:
            self.reserve(head)
        opened = None if padded else self._open(head)
        if opened is None:
            self.trailing_at = self.taken - padded
        elif isinstance(opened, int):
            self._skip = opened
            self._padding = 0
        else:
            self._stream = opened
            self._padding = 0

    def _decompress(self, stream: Stream, data: bytes, step: int) -> bytes:
        spend(CALL)
        try:
            return stream.decompress(data, step)
        except self.ERRORS as error:
            raise self._explained(error) from error

    def _end(self) -> None:
        """The object ends here.

        Raises:
            DecodingError: That is too early.
        """
        if self._stream is not None or self._skip:
            raise DecodingError("truncated", f"the object ends within a stream of {self.NAME}")
        if self.PADDING and self._padding % self.PADDING and self.trailing_at is None:
            self.trailing_at = self.taken - self._padding % self.PADDING


class Inflating:
    """Deflated data by zlib, in the form that the other libraries have; `wbits` says what is around them."""

    def __init__(self, wbits: int) -> None:
        self._zlib = zlib.decompressobj(wbits=wbits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        """What lies behind its end."""
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Decompress some bytes; see `Stream`."""
        made = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        # zlib holds some of what it has made back when there was no room for it.
        self.needs_input = len(made) < max_length and not self._zlib.unconsumed_tail
        return made


class GzipDecoder(Decoder):
    """gzip: members in a row, each with a header, deflated data, a CRC-32 and a length."""

    NAME = "gzip"
    PADDING = 1
    ERRORS = zlib.error

    @classmethod
    def begins(cls, front: bytes) -> bool:
        """Whether a member begins, deflated as they all are."""
        return front.startswith(b"\x1f\x8b\x08")

    def window(self, head: bytes) -> int:  # noqa: ARG002 - it is always the same
        """Deflate's, and what zlib has beside it."""
        return DEFLATE_BYTES

    def _open(self, head: bytes) -> Stream | None:
        # What follows zeros gzip ignores, and Python reads.
        return Inflating(16 + zlib.MAX_WBITS) if self.begins(head) and not self._padding else None

    def _explained(self, error: Exception) -> DecodingError:
        for said, what in (("incorrect data check", "checksum"), ("incorrect length check", "length")):
            if said in str(error):
                return DecodingError(
                    "checksum_mismatch", f"what was decompressed does not have the {what} that gzip states"
                )
        return super()._explained(error)


class XzDecoder(Decoder):
    """xz: streams in a row, each with blocks and an index."""

    NAME = "xz"
    PADDING = 4
    ERRORS = lzma.LZMAError
    _limit = MAX_WINDOW

    @classmethod
    def begins(cls, front: bytes) -> bool:
        """Whether a stream begins."""
        return front.startswith(b"\xfd7zXZ\0")

    def window(self, head: bytes) -> int:
        """The dictionary of the first block; see `xz_dictionary`."""
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
            message = "an xz stream whose blocks need more memory than its first is not decompressed"
            return DecodingError("unsupported_subformat", message)
        return super()._explained(error)


class Bzip2Decoder(Decoder):
    """bzip2: streams in a row, each with blocks of up to 900,000 bytes."""

    NAME = "bzip2"
    ERRORS = OSError
    #: A block's mark, and that of a stream's end: pi, and its square root.
    MARKS = frozenset({b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"})

    @classmethod
    def begins(cls, front: bytes) -> bool:
        """Whether a stream begins, and a block in it or its end."""
        return front.startswith(b"BZh") and front[3:4] in b"123456789" and front[4:10] in cls.MARKS

    def window(self, head: bytes) -> int:  # noqa: ARG002 - the largest block's
        """The tables for a block."""
        return BZIP2_BYTES

    def _open(self, head: bytes) -> Stream | None:
        # Of a second stream the library tells what is wrong with it.
        return bz2.BZ2Decompressor() if head.startswith(b"BZh") and head[3:4] in b"123456789" else None


class ZstdDecoder(Decoder):
    """Zstandard: frames in a row, and frames to be skipped among them.

    | offset | bytes | field of a frame's header |
    |---|---|---|
    | 0 | 4 | 28 B5 2F FD; of a frame to be skipped 5x 2A 4D 18, and its length follows, u32 |
    | 4 | 1 | bits 0-1: length of the dictionary's id (0, 1, 2, 4); 5: the frame is one segment, and has no window; 6-7: length of the content's size (0, or 1 in one segment; 2, 4, 8) |
    | 5 | 1 | window: exponent - 10 in bits 3-7, eighths in bits 0-2 |
    | | | the dictionary's id, then the content's size (of two bytes: less 256) |
    """  # noqa: E501 - the rows of the table are one line each

    NAME = "zstd"
    ERRORS = zstd.ZstdError
    MAGIC = b"\x28\xb5\x2f\xfd"
    DICTIONARY = 3

    @classmethod
    def begins(cls, front: bytes) -> bool:
        """Whether a frame begins, or one to be skipped, and one that is none within what is here."""
        at = 0
        while (skipped := skippable_bytes(front[at : at + 8])) and at + skipped < len(front):
            at += skipped
        return front.startswith(cls.MAGIC, at)

    @staticmethod
    def content_size(head: bytes) -> int | None:
        """The size that a frame's header states, if it does."""
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
            raise DecodingError("data_file", "it is decompressed by a dictionary that is not in the object")
        return zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: MAX_WINDOW.bit_length() - 1}
        )

    def _explained(self, error: Exception) -> DecodingError:
        if "checksum" in str(error):
            return DecodingError(
                "checksum_mismatch", "what was decompressed does not have the checksum that zstd states"
            )
        return super()._explained(error)

    def window(self, head: bytes) -> int:
        """How many bytes a frame refers back to; nothing of a frame to be skipped."""
        if not head.startswith(self.MAGIC):
            return 0
        if len(head) > 5 and not head[4] >> 5 & 1:
            base = 1 << (head[5] >> 3) + 10
            return base + (base >> 3) * (head[5] & 7)
        return self.content_size(head) or 0


def xz_dictionary(head: bytes) -> int:
    """The size of the dictionary of an xz stream's first block; zero if there is none, or it makes no sense.

    | offset | bytes | field of the block's header, which begins at 12 |
    |---|---|---|
    | 0 | 1 | length, in units of 4 less one; zero: no block, but the index |
    | 1 | 1 | bits 0-1: number of filters, less one; 6: the compressed size follows, 7: the uncompressed one |
    | 2 | | these sizes; then of each filter its id, the length of its properties, and these |

    All numbers are of 7 bits a byte, the last with bit 7 unset. LZMA2 is the filter 0x21 and comes last. Its
    property is a byte: 2^(n / 2 + 12), and half as much more if n is odd; 40 is 4 GiB.
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
    """A number as xz writes them, and where it ends."""
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            break
    return value, at


def skippable_bytes(head: bytes) -> int:
    """How long a frame is that zstd and LZ4 skip; zero if it is no such frame."""
    if len(head) < 8 or head[0] >> 4 != 5 or head[1:4] != b"\x2a\x4d\x18":
        return 0
    return 8 + int.from_bytes(head[4:8], "little")


def needs_memory(name: str) -> DecodingError:
    """What is said of data that need too much of it."""
    return DecodingError(
        "decompression_bomb",
        f"the {name} data need more than {MAX_WINDOW} bytes of memory to be decompressed",
    )
