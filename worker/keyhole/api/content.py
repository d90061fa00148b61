"""Scans content that the caller has: bytes, a file object, or an iterable of chunks."""

import errno
import io
import os
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from inspect import iscoroutinefunction
from typing import Any, BinaryIO, Final, Protocol, TypeAlias, cast

from keyhole.inspectors.text import shown
from keyhole.scan.memory import MemoryPool
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target
from keyhole.scan.scanner import scan, scan_stream
from keyhole.scan.settings import ScanSettings
from keyhole.sources.local import AS_BINARY, FileSource

#: The most bytes that are read from a stream at once.
STREAM_CHUNK_BYTES: Final = 1024 * 1024


class Readable(Protocol):
    """A file object that is open in binary mode, such as an upload or a file of fsspec."""

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes. Return `b""` at the end."""


#: A piece of content.
Chunk: TypeAlias = bytes | bytearray | memoryview
#: Content: the bytes themselves, a file object, or an iterable of chunks of any length.
Content: TypeAlias = Chunk | Readable | Iterable[Chunk]

#: A function that a scan calls before every request or read. If it raises an error, the scan ends with it.
BeforeRead: TypeAlias = Callable[[], None]


def is_content(target: object) -> bool:
    """Return whether a target is content, and not the name of an object or a file."""
    if isinstance(target, str):
        return False
    return hasattr(target, "read") or _is_unopened(target) or not isinstance(target, os.PathLike)


def named(name: str) -> str:
    """Return a name that the caller passed, as the report shows it.

    Raises:
        TypeError: The name is no text.
    """
    if not isinstance(cast("object", name), str):
        # The name of a temporary file can be the number of its descriptor.
        raise TypeError(f"the name is {type(name).__name__}, not str")
    return shown(name)


def name_of(content: object) -> str:
    """Return the name that a file object states; `-` if it states none."""
    for attribute in ("name", "path"):
        stated = getattr(content, attribute, None)
        if isinstance(stated, str) and stated and not stated.startswith("<"):
            return shown(stated)
    return "-"


def scan_content(
    content: Content,
    target: Target,
    settings: ScanSettings,
    before_read: BeforeRead | None = None,
    memory: MemoryPool | None = None,
) -> Report:
    """Scan content.

    If it is bytes, or a file object that can seek, Keyhole reads only the ranges that it needs. A file
    object's position is the same afterwards as before. Otherwise Keyhole reads the content to its end.

    Args:
        content: The content.
        target: The name in the report.
        settings: The settings of the scan.
        before_read: Called before every read. If it raises an error, the scan ends with this error.
        memory: The pool of memory that scans share.

    Raises:
        TypeError: The content is not bytes, a binary file object, or an iterable of bytes.
        BlockingIOError: The file object does not block, and has no data yet.
    """
    if _is_unopened(content):
        with cast("Any", content) as opened:  # a file of fsspec that is not open yet
            return scan_content(opened, target, settings, before_read, memory)
    if isinstance(content, bytes | bytearray | memoryview):
        content = io.BytesIO(bytes(content))  # the bytes of a memoryview need not be contiguous
    if isinstance(cast("object", content), io.TextIOBase):
        raise TypeError(f"the file is open in text mode; {AS_BINARY}")
    if not hasattr(content, "read"):
        return scan_stream(target, _checked(content, before_read), settings.policy)
    file = cast("BinaryIO", content)
    if iscoroutinefunction(file.read):
        raise TypeError(
            f"read of {type(file).__name__} is asynchronous; pass the file that it wraps, such as `.file` of "
            "an upload in Starlette or FastAPI"
        )
    if not getattr(file, "readable", lambda: True)():
        raise TypeError(f"the file is not open for reading; {AS_BINARY}")
    if not getattr(file, "seekable", bool)():
        return scan_stream(target, _checked(_chunks(file), before_read), settings.policy)
    position = file.tell()
    try:
        return scan(target, lambda meter: FileSource(file, meter), settings, before_read, memory)
    finally:
        file.seek(position)


def _is_unopened(content: object) -> bool:
    """Return whether this is a file of fsspec that is not open yet (`fsspec.open`), which has no `read`."""
    return not hasattr(content, "read") and all(
        hasattr(content, name) for name in ("fs", "path", "__enter__")
    )


def _chunks(file: Readable) -> Iterator[bytes]:
    while chunk := file.read(STREAM_CHUNK_BYTES):
        yield chunk
    if cast("object", chunk) is None:
        # This is not the end: a verdict on the bytes so far would be a verdict on a part of the image.
        raise BlockingIOError(errno.EAGAIN, "the file object does not block and has no data yet")


def _checked(chunks: Iterable[Chunk], before_read: BeforeRead | None) -> Iterator[bytes]:
    """Yield the chunks of a stream.

    Raises:
        TypeError: This is not an iterable of bytes.
    """
    if isinstance(cast("object", chunks), str | os.PathLike):
        kind = type(chunks).__name__
        raise TypeError(f"{kind} is a name and not content; use scan_object to scan a file or an object")
    if isinstance(cast("object", chunks), AsyncIterable):
        raise TypeError(f"{type(chunks).__name__} is asynchronous; scan it with the functions of keyhole.aio")
    try:
        iterator = iter(chunks)
    except TypeError:
        kind = type(chunks).__name__
        raise TypeError(
            f"{kind} cannot be scanned; pass the name of an object or a file, bytes, a binary file object, "
            "or an iterable of bytes"
        ) from None
    while True:
        if before_read is not None:
            before_read()
        try:
            chunk: object = next(iterator)
        except StopIteration:
            return
        if not isinstance(chunk, bytes | bytearray | memoryview):
            many = (
                "; to scan many targets, use Scanner.scan_many"
                if isinstance(chunk, str | os.PathLike)
                else ""
            )
            raise TypeError(f"a chunk is {type(chunk).__name__}, not bytes{many}")
        yield bytes(chunk)
