"""Reads ranges of a file on this machine, or of another seekable stream."""

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISBLK, S_ISREG
from typing import BinaryIO, Final, cast
from weakref import finalize

from keyhole.inspectors.region import ByteRange
from keyhole.reasons import Reason
from keyhole.sources.errors import ObjectChangedError, UnreadableError
from keyhole.sources.meter import Meter
from keyhole.sources.source import Identity

#: How to open a file that cannot be scanned as it is open.
AS_BINARY: Final = "open it in binary mode, such as open(path, 'rb')"


class FileSource:
    """A source that reads a seekable binary file. Each read counts as one request, as with S3."""

    def __init__(self, file: BinaryIO, meter: Meter, *, last_modified: datetime | None = None) -> None:
        self._file = file
        self._meter = meter
        try:
            file.seek(0, os.SEEK_END)  # not every class returns the position, as `io` specifies
            self._identity = Identity(size=file.tell(), last_modified=last_modified)
        except OSError as error:
            raise UnreadableError(Reason.UNREADABLE_FILE, f"cannot seek: {_why(error)}") from error

    @property
    def identity(self) -> Identity:
        """Return the file's size and, if the file was opened by path, the time of the last modification."""
        return self._identity

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from `offset` on; see `Source.read`.

        Raises:
            TypeError: The file contains text, or does not block.
        """
        self._meter.request(length)
        wanted = max(0, min(length, self._identity.size - offset))
        try:
            self._file.seek(offset)
            data = self._piece(wanted)
            while len(data) < wanted and (piece := self._piece(wanted - len(data))):
                data += piece
        except OSError as error:
            raise UnreadableError(Reason.UNREADABLE_FILE, f"cannot read: {_why(error)}") from error
        self._meter.received(len(data))
        if len(data) < wanted:
            raise ObjectChangedError("the file became shorter while it was read")
        return data

    def _piece(self, length: int) -> bytes:
        piece = cast("object", self._file.read(length))
        if not isinstance(piece, bytes | bytearray | memoryview):
            # Many text files are no `io.TextIOBase`, such as those of `tempfile`.
            raise TypeError(f"the file yields {type(piece).__name__}, not bytes; {AS_BINARY}")
        return bytes(piece)

    def read_all(self, parts: Iterable[ByteRange]) -> Iterator[bytes]:
        """Yield the bytes of each range, one after the other."""
        for part in parts:
            yield self.read(part.offset, part.length)


def _why(error: OSError) -> str:
    """Return the cause of an error. Errors of other libraries often have no `strerror`."""
    return error.strerror or str(error) or type(error).__name__


def open_local(path: Path, meter: Meter) -> FileSource:
    """Open a regular file or a block device. The file is closed when the source is garbage collected.

    Raises:
        UnreadableError: The path is missing, not readable, or neither a regular file nor a block device.
    """
    try:
        known = path.stat()
        if not (S_ISREG(known.st_mode) or S_ISBLK(known.st_mode)):
            raise UnreadableError(Reason.UNREADABLE_FILE, f"{path} is not a file")
        file = path.open("rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        # ValueError means that the path contains a NUL, which no file name can contain.
        raise UnreadableError(Reason.NOT_FOUND, f"{path} does not exist") from error
    except OSError as error:
        raise UnreadableError(Reason.UNREADABLE_FILE, f"cannot open {path}: {error.strerror}") from error
    source = FileSource(file, meter, last_modified=datetime.fromtimestamp(known.st_mtime, UTC))
    finalize(source, file.close)
    return source
