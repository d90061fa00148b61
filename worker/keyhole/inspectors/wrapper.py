"""A file-like object that passes all bytes read through it to an inspector."""

import logging
from collections.abc import Iterable, Iterator
from typing import Protocol, Self, cast

log = logging.getLogger(__name__)


class Readable(Protocol):
    """A source of bytes with a `read` method."""

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes. Return `b""` at the end."""


class Eater(Protocol):
    """An object that receives the chunks of a stream."""

    def eat_chunk(self, chunk: bytes, /) -> object:
        """Receive the next chunk."""


class InfoWrapper:
    """Wraps a source, which is file-like or iterable, and passes all bytes read from it to an inspector.

    If the inspector raises an exception, the wrapper logs the exception and does not call the inspector
    again. Reading continues. When the source ends, the wrapper calls the inspector's `finish` method, if
    there is one.

    Args:
        source: An object with the methods `read(size)` and `close()`, or an iterable of chunks.
        fmt: An inspector, or another object with the method `eat_chunk(chunk)`.
    """

    def __init__(self, source: Readable | Iterable[bytes], fmt: Eater) -> None:
        self._source = source
        self._chunks: Iterator[bytes] | None = None
        self._format = fmt
        self._muted = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._chunks is None:
            self._chunks = iter(cast("Iterable[bytes]", self._source))
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self._end()
            raise
        self._show(chunk)
        return chunk

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes from the source. Return `b""` at its end."""
        chunk = cast("Readable", self._source).read(size)
        if chunk:
            self._show(chunk)
        elif size:
            self._end()
        return chunk

    def close(self) -> None:
        """Close the source, if it can be closed."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    def _show(self, chunk: bytes) -> None:
        if self._muted:
            return
        try:
            self._format.eat_chunk(chunk)
        except Exception:
            # Reading must continue even if the inspector fails.
            log.exception("the %s inspector failed and receives no more bytes", self._format)
            self._muted = True

    def _end(self) -> None:
        finish = getattr(self._format, "finish", None)
        if self._muted or finish is None:
            return
        self._muted = True
        try:
            finish()
        except Exception:
            log.exception("the %s inspector failed at the end of the stream", self._format)
