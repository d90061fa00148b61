"""The base of all decoders. Compressed bytes go in piece by piece, and bounded steps of data come out.

A file of these formats is one stream or several in a row, which count as one. Padding may lie between streams
and after the last one. Other bytes there do not belong to the format.

zlib, liblzma, libbz2, libzstd and liblz4 decompress. Their callers must find out where a stream begins, what
follows it, and whether an error is the fault of the data.

Source: RFC 1952 (gzip); The .xz File Format 1.2.0, sections 2 and 4; RFC 8878 (Zstandard), sections 3.1.1 and
3.1.2; bzip2 1.0.8, decompress.c. After the last stream, gzip ignores zeros and warns about anything else, xz
accepts zeros in multiples of four, bzip2 warns, and zstd accepts nothing.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Protocol

from keyhole.inspectors.compression.limits import LEAST_OF_STREAM, MAX_STREAMS, MAX_WINDOW
from keyhole.inspectors.effort import CALL, spend
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.memory import Held

KIB, MIB = 1024, 1024**2
#: The most bytes that come out at once. Larger steps are not faster.
STEP = MIB
#: Bytes of a stream that go in at once. A new stream gets few, because the library copies the bytes that it
#: does not use and an object may have thousands of streams. Each later portion is twice as long.
LEAST_PORTION, MOST_PORTION = 1 * KIB, 256 * KIB
#: Enough bytes to recognise a stream and the memory that it needs. xz headers with filters are the longest.
HEAD_BYTES = 64
#: The most zeros that are skipped as padding.
MAX_PADDING = 1 * MIB
ZEROS = re.compile(rb"\0++")


class DecodingError(Exception):
    """Ends the decoding of an object. The attribute `finding` gives the reason."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.finding: Finding = found(check, message)


class Stream(Protocol):
    """The interface of one stream's decompressor, as Python's libraries have it."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether more input is needed before more output comes."""

    @property
    def unused_data(self) -> bytes:
        """The input that lies after the stream's end."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Decompress data into at most `max_length` bytes."""


class Decoder(ABC):
    """Decodes the streams of one object, one after the other."""

    NAME: ClassVar[str]
    #: Padding is zeros, in multiples of this many; zero: no padding is allowed.
    PADDING: ClassVar[int] = 0
    #: The exception that the library raises if the data are at fault.
    ERRORS: ClassVar[type[Exception]]

    def __init__(self) -> None:
        #: Streams that were decoded to their end.
        self.streams = 0
        #: Bytes of input that were used, and bytes of output.
        self.taken, self.made = 0, 0
        #: The most bytes of output that will be decoded of the object. A decoder uses no more of its window.
        self.most_output = MAX_WINDOW
        #: The memory that the decoder holds, and the bytes that its caller holds besides the window.
        self.held, self.beside = Held(), 0
        #: Where other data follow the last stream; `None` if there are none. Decoding ends there.
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
        """Whether an object that begins with these bytes has this format."""

    @abstractmethod
    def _open(self, head: bytes) -> Stream | int | None:
        """A decompressor for the stream that begins here, or how many bytes to skip; `None` if none begins.

        Raises:
            DecodingError: Keyhole does not decode such a stream.
        """

    @abstractmethod
    def window(self, head: bytes) -> int:
        """The window of the stream that begins here, or the size of its blocks, in bytes."""

    def reserve(self, head: bytes) -> None:
        """Ask for the memory of the stream that begins here. The previous stream no longer holds any."""
        self.held.raise_to(self.beside + min(self.window(head), self.most_output))

    def _explained(self, error: Exception) -> DecodingError:
        """Turn the library's error into a finding on the data."""
        return DecodingError("structure", f"the {self.NAME} data are corrupt: {error}")

    def decode(self, piece: bytes, *, last: bool, first_step: int = 0) -> Iterator[bytes]:
        """Decode all of the object's next piece, and yield the output in steps.

        Args:
            piece: The bytes that follow the previous piece.
            last: Whether the object ends with this piece.
            first_step: The length of the first step; the later ones have `STEP` bytes.

        Raises:
            DecodingError: The data are corrupt, cut off, or made to exhaust the reader.
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
        """Release all memory. The decoder is not used after this."""
        self._stream, self._left = None, b""
        self.held.release()

    def _between(self, data: bytes, at: int) -> int:
        """Skip skippable frames and padding; return where they end, or where the data end."""
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
        """Open the stream that begins with `head`, or note what else begins there."""
        self._units += 1
        if self._units > MAX_STREAMS + self.made // LEAST_OF_STREAM:
            raise DecodingError(
                "decompression_bomb", f"{self._units} streams hold only {self.made} bytes together"
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
        """Check that the object may end here.

        Raises:
            DecodingError: The object ends within a stream.
        """
        if self._stream is not None or self._skip:
            raise DecodingError("truncated", f"the object ends within a {self.NAME} stream")
        if self.PADDING and self._padding % self.PADDING and self.trailing_at is None:
            self.trailing_at = self.taken - self._padding % self.PADDING


def needs_memory(name: str) -> DecodingError:
    """The error for data that need more memory than `MAX_WINDOW`."""
    return DecodingError(
        "decompression_bomb",
        f"decompressing the {name} data takes more than {MAX_WINDOW} bytes of memory",
    )
