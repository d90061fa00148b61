"""The base class of all decoders, which receive compressed bytes in pieces and yield the output in steps.

A compressed object consists of one stream or several streams in a row. Their output is concatenated. Some
formats allow padding between the streams and after the last stream. Other bytes in these places do not belong
to the format: decoding ends before them, and Keyhole reports them as trailing data.

The libraries zlib, liblzma, libbz2, libzstd and liblz4 decompress one stream. A decoder finds the beginning
of each stream, skips padding, and determines whether an error of the library is caused by the data.

Source: RFC 1952 (gzip); The .xz File Format 1.2.0, sections 2 and 4; RFC 8878 (Zstandard), sections 3.1.1 and
3.1.2; bzip2 1.0.8, decompress.c. The tools treat data after the last stream differently: gzip ignores zeros
and warns about other bytes, xz accepts zeros in multiples of four, bzip2 warns, and zstd accepts nothing.
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
#: The most bytes of output in one step. Larger steps are not faster.
STEP = MIB
#: How many bytes of a stream a decoder passes to the library at once. Each portion of a stream is twice as
#: long as the portion before it, up to `MOST_PORTION`. The first portion is short, because if a stream ends
#: within a portion, the library copies the rest of the portion. With long portions, the library would copy
#: the same bytes many times in an object with thousands of short streams.
LEAST_PORTION, MOST_PORTION = 1 * KIB, 256 * KIB
#: How many of a stream's first bytes a decoder needs in order to recognise the stream and to determine how
#: much memory decoding takes. xz streams with several filters have the longest headers.
HEAD_BYTES = 64
#: The most zeros that are skipped as padding. If there are more, decoding ends.
MAX_PADDING = 1 * MIB
ZEROS = re.compile(rb"\0++")


class DecodingError(Exception):
    """Ends the decoding of an object. The attribute `finding` states the reason."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.finding: Finding = found(check, message)


class Stream(Protocol):
    """The decompressor of one stream, with the interface of `bz2.BZ2Decompressor`."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether the decompressor needs more input before it can return more output."""

    @property
    def unused_data(self) -> bytes:
        """The input bytes after the stream's end."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Decompress `data` and return at most `max_length` bytes of output."""


class Decoder(ABC):
    """Decodes the streams of one object in their order."""

    NAME: ClassVar[str]
    #: Padding consists of zeros, and its length must be a multiple of this number of bytes. 0 means that the
    #: format has no padding.
    PADDING: ClassVar[int] = 0
    #: The exception that the library raises for corrupt data.
    ERRORS: ClassVar[type[Exception]]

    def __init__(self) -> None:
        #: The number of streams that were decoded to their end.
        self.streams = 0
        #: The number of input bytes that were used, and the number of output bytes.
        self.taken, self.made = 0, 0
        #: The limit on the output in bytes. It also limits the memory that is reserved for the window,
        #: because the window contains only bytes of the output.
        self.most_output = MAX_WINDOW
        #: `held` is the memory that the decoder has reserved: memory for the window, and `beside` bytes for
        #: the caller's buffers.
        self.held, self.beside = Held(), 0
        #: The offset at which other data follow the last stream, or `None`. Decoding ends at this offset.
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
        """Whether an object that begins with `front` has this format."""

    @abstractmethod
    def _open(self, head: bytes) -> Stream | int | None:
        """Return a decompressor for the stream that begins with `head`.

        If `head` is the beginning of a skippable frame, return the number of bytes to skip. For other data,
        return `None`.

        Raises:
            DecodingError: Keyhole does not decode this kind of stream.
        """

    @abstractmethod
    def window(self, head: bytes) -> int:
        """Return the memory in bytes for the window or the blocks of the stream that begins with `head`."""

    def reserve(self, head: bytes) -> None:
        """Reserve the memory for the stream that begins with `head`. The previous stream must have ended."""
        self.held.raise_to(self.beside + min(self.window(head), self.most_output))

    def _explained(self, error: Exception) -> DecodingError:
        """Return the library's error as a `DecodingError`."""
        return DecodingError("structure", f"the {self.NAME} data are corrupt: {error}")

    def decode(self, piece: bytes, *, last: bool, first_step: int = 0) -> Iterator[bytes]:
        """Decode the whole next piece of the object, and yield the output in steps.

        Args:
            piece: The bytes that follow the previous piece.
            last: Whether the object ends with this piece.
            first_step: The most bytes in the object's first step. Later steps have up to `STEP` bytes.

        Raises:
            DecodingError: The data are corrupt, cut off, or a decompression bomb.
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
        """Release all memory. The decoder must not be used afterwards."""
        self._stream, self._left = None, b""
        self.held.release()

    def _between(self, data: bytes, at: int) -> int:
        """Skip skippable frames and padding. Return the offset of the next byte in `data`."""
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
        """Open the stream that begins with `head`, or begin to skip a frame, or record trailing data."""
        self._units += 1
        if self._units > MAX_STREAMS + self.made // LEAST_OF_STREAM:
            raise DecodingError(
                "decompression_bomb", f"{self._units} streams contain only {self.made} bytes in total"
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
        """Check that the object does not end within a stream.

        Raises:
            DecodingError: The object ends within a stream.
        """
        if self._stream is not None or self._skip:
            raise DecodingError("truncated", f"the object ends within a {self.NAME} stream")
        if self.PADDING and self._padding % self.PADDING and self.trailing_at is None:
            self.trailing_at = self.taken - self._padding % self.PADDING


def needs_memory(name: str) -> DecodingError:
    """Return the error for data whose decompression needs more memory than `MAX_WINDOW` bytes."""
    return DecodingError(
        "decompression_bomb",
        f"decompressing the {name} data requires more than {MAX_WINDOW} bytes of memory",
    )
